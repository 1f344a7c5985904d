"""Which addresses a plugin may connect to, by its grants.

A grant of a name covers public internet addresses only. The name's owner decides where it leads, and would otherwise
decide that for this machine and its private network. Other addresses need a grant of an address or a network.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# This machine; the only name that may lead there without a grant of an address.
_LOCALHOST = "localhost"
# These tables are ours because those of `ipaddress` differ between versions of Python.
_NOT_PUBLIC = tuple(map(ipaddress.IPv4Network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/3",  # multicast, reserved, broadcast
    "168.63.129.16/32",  # what a machine in Azure asks for its own secrets
)))  # fmt: skip
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(map(ipaddress.IPv6Network, (
    "2001::/23",  # protocols, Teredo
    "2001:db8::/32", "3fff::/20",  # documentation
    "2002::/16",  # 6to4
)))  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NONLOCAL = {4: "/proc/sys/net/ipv4/ip_nonlocal_bind", 6: "/proc/sys/net/ipv6/ip_nonlocal_bind"}


_MAX_NAME = 253


class Grant(NamedTuple):
    """One entry of a plugin's ``net`` permission: a name, or a network (with one address, if an address was
    granted)."""

    name: str
    network: Network | None
    port: str

    def is_for(self, port: int) -> bool:
        return self.port in (str(port), "*")


def parse_grant(grant: str) -> Grant:
    """Parse ``host:port``, ``address:port`` or ``network:port``; an IPv6 address or network is in brackets."""
    host, _, port = grant.rpartition(":")
    with suppress(ValueError):
        if "/" in host:
            return Grant("", ipaddress.ip_network(host.strip("[]")), port)
        if address := as_address(host):
            return Grant("", ipaddress.ip_network(address), port)
    return Grant(normalize(host), None, port)


def normalize(host: str) -> str:
    """Return a name as it is compared and resolved: in lower case, and IDNA-encoded as in a grant."""
    host = host.strip("[]").rstrip(".").lower()
    if host.isascii() or len(host) > _MAX_NAME:
        return host
    with suppress(UnicodeError):  # no such name exists
        return host.encode("idna").decode("ascii")
    return host


def as_address(host: str) -> Address | None:
    """Return the address, an IPv4-mapped one as IPv4; None for a name.

    Also None for an address with a zone, which is granted as it is written.
    """
    try:
        address = ipaddress.ip_address(normalize(host))
    except ValueError:
        return None
    if "%" in host:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def permits(grants: Iterable[Grant], host: str, port: int) -> bool:
    """Return whether a grant is for this host, by the same name or by its address, and this port."""
    on_port = [grant for grant in grants if grant.is_for(port)]
    address = as_address(host)
    return _is_named(on_port, normalize(host)) if address is None else _is_within(on_port, address)


def leads_to(grants: Sequence[Grant], host: str, address: str, port: int) -> bool:
    """Return whether a host that ``permits`` allows may be connected to at this address, which it resolved to."""
    found = as_address(_without_zone(address))
    if found is None:
        return False
    literal = as_address(_without_zone(normalize(host)))
    if literal is not None:
        return found == literal
    if _is_within([grant for grant in grants if grant.is_for(port)], found):
        return True
    if normalize(host) == _LOCALHOST:
        return found.is_loopback
    return is_public(found) and not is_own(found)


def is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    if address in _NAT64:  # stands for an IPv4 address in a network without IPv4
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def is_own(address: Address) -> bool:
    """Return whether it is an address of this machine: the system lets a socket bind to these only."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        if _binds_to_any(address.version):
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((str(address), 9))  # looks up the route; nothing is sent
                return as_address(str(probe.getsockname()[0])) == address
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _binds_to_any(version: int) -> bool:
    try:
        with open(_NONLOCAL[version], encoding="ascii") as setting:
            return setting.read().strip() != "0"
    except OSError:
        return False


def _without_zone(address: str) -> str:
    return address.partition("%")[0]


def _is_named(grants: Iterable[Grant], name: str) -> bool:
    """Return whether a grant is for this name. ``*.example.com`` covers the names below."""
    may_be_below = "%" not in name
    return any(
        grant.name == name or (may_be_below and grant.name.startswith("*.") and name.endswith(grant.name[1:]))
        for grant in grants
        if grant.network is None
    )


def _is_within(grants: Iterable[Grant], address: Address) -> bool:
    return any(grant.network is not None and address in grant.network for grant in grants)
