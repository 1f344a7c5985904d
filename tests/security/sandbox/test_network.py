"""Granted addresses are reached through the kernel, by the usual ways of Python programs; others are not."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from microkernel.hosts.confined import addresses, network_broker
from microkernel.wire import codec
from tests.harness.waiting import eventually
from tests.security.sandbox.conftest import KernelFactory
from tests.servers import CLIENTS, MANY_THREADS, Authority, serving


@pytest.fixture
def port() -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.mark.parametrize("client", [*CLIENTS.values(), MANY_THREADS], ids=[*CLIENTS, "many threads"])
def test_a_granted_address_is_reached(client: str, kernels: KernelFactory, port: int) -> None:
    do = kernels.doing("sandbox", {"net": [f"127.0.0.1:{port}"]})
    assert do(client, port=port) == [None, True]


def test_https_is_verified(kernels: KernelFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "authority")
    get = "import urllib.request as u; result = u.urlopen(f'https://{host}:{port}/x', timeout=9).read().decode()"
    with serving(authority.context("localhost")) as port:
        net = [f"localhost:{port}", f"127.0.0.1:{port}"]
        untrusting = kernels.doing("sandbox", {"net": net})
        assert "CERTIFICATE_VERIFY_FAILED" in untrusting(get, host="localhost", port=port)[1]
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        trusting = kernels.doing("sandbox", {"net": net, "env": ["SSL_CERT_FILE"], "fs.read": [str(authority.folder)]})
        assert trusting(get, host="localhost", port=port) == [None, "hello /x"]
        assert "CERTIFICATE_VERIFY_FAILED" in trusting(get, host="127.0.0.1", port=port)[1]


@pytest.mark.skipif(find_spec("httpx") is None, reason="httpx is not installed")
@pytest.mark.parametrize("code", [
    "import httpx; result = httpx.get(f'http://127.0.0.1:{port}/x', trust_env=False).text == 'hello /x'",
    """
import httpx
async def main():
    async with httpx.AsyncClient(trust_env=False) as c: return (await c.get(f'http://127.0.0.1:{port}/x')).text
result = asyncio.run(main()) == 'hello /x'
""",
])  # fmt: skip
def test_httpx_reaches_a_granted_address(code: str, kernels: KernelFactory, port: int) -> None:
    do = kernels.doing("sandbox", {"net": [f"127.0.0.1:{port}"]})
    assert do(code, port=port) == [None, True]


@pytest.mark.parametrize(("host", "shift"), [("127.0.0.1", 1), ("localhost", 0), ("127.0.0.2", 0), ("0.0.0.0", 0)])
def test_other_addresses_are_refused(host: str, shift: int, kernels: KernelFactory, port: int) -> None:
    do = kernels.doing("sandbox", {"net": [f"127.0.0.1:{port}"]})
    error, text = do("socket.create_connection((host, port), 9)", host=host, port=port + shift)
    assert error == "PermissionError"
    assert f'net = ["{host}:{port + shift}"]' in text
    assert "MK0401" in text


def test_without_a_grant_the_line_to_add_is_named(kernels: KernelFactory, port: int) -> None:
    error, text = kernels.doing("sandbox", {})("socket.create_connection(('127.0.0.1', port))", port=port)
    assert error == "PermissionError"
    assert f'net = ["127.0.0.1:{port}"]' in text


def test_an_unreachable_address_raises_the_systems_error(kernels: KernelFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    do = kernels.doing("sandbox", {"net": [f"127.0.0.1:{free}", "no-such-host.invalid:80"]})
    assert do("socket.create_connection(('127.0.0.1', port))", port=free)[0] == "ConnectionRefusedError"
    assert do("socket.create_connection(('no-such-host.invalid', 80))")[0] == "gaierror"


def test_a_connection_goes_to_the_checked_address_and_stays_there(kernels: KernelFactory, port: int) -> None:
    """A connection that was handed over cannot be redirected to another address."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        do = kernels.doing("sandbox", {"net": [f"127.0.0.1:{port}"]})
        turn = """
s = socket.create_connection(('127.0.0.1', port))
import _socket
_socket.socket.connect(s, ('127.0.0.1', other))
"""
        assert do(turn, port=port, other=other.getsockname()[1])[0] == "PermissionError"


def test_a_malformed_request_ends_that_worker(kernels: KernelFactory, port: int) -> None:
    kernel = kernels.kernel("sandbox", {"net": [f"127.0.0.1:{port}"]})
    spoil = """
for number in range(3, 14):
    try: os.write(number, b'\\xc1nonsense')
    except OSError: pass
time.sleep(30)
"""
    with pytest.raises(Exception, match="MK0215"):
        kernel.call("p.do", spoil, {}, timeout=30.0)
    eventually(lambda: kernel.info("p").generation == 2 and kernel.info("p").state == "active", "it is restarted")


class Reactor:
    """Runs nothing by itself."""

    def __init__(self) -> None:
        self.ready: Any = None

    def watch(self, fd: int, ready: Any, **_: Any) -> None:
        self.ready = ready

    def unwatch(self, fd: int) -> None: ...


@pytest.mark.parametrize("request_", [
    b"", b"\xc1", b"\x90", codec.encode([1, "h", 70000, 1.0]), codec.encode([1, "h", 0, 1.0]),
    codec.encode([1, "h", 80, float("nan")]), codec.encode([1, "h", 80, -1.0]), codec.encode([1, b"h", 80, 1.0]),
    codec.encode(["1", "h", 80, 1.0]), codec.encode([1, "h", 80, 1.0, 2]), codec.encode({"a": 1}),
])  # fmt: skip
def test_malformed_requests_are_rejected(request_: bytes) -> None:
    reactor, ends = Reactor(), []
    broker = network_broker.NetworkBroker("p", ["h:*"], reactor, ends.append)  # type: ignore[arg-type]
    with broker.worker_end as worker_end:
        broker.open()
        worker_end.send(request_)
        reactor.ready()
        broker.close()
        assert worker_end.recv(100) == b""
    assert [error.id for error in ends] == ([] if request_ == b"" else ["MK0215"])


@pytest.mark.parametrize("name", ["a\0.h", "x" * 300 + ".h"])
def test_an_invalid_name_raises_in_the_plugin(name: str) -> None:
    reactor, ends = Reactor(), []
    broker = network_broker.NetworkBroker("p", ["*.h:80"], reactor, ends.append)  # type: ignore[arg-type]
    with broker.worker_end as worker_end:
        broker.open()
        worker_end.send(codec.encode([7, name, 80, 1.0]))
        reactor.ready()
        number, code, _ = codec.decode(worker_end.recv(1000))
        broker.close()
    assert (number, code != 0, ends) == (7, True, [])


OWN = "203.0.114.7"  # public, and in these tests an address of this machine
NOT_PUBLIC = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "192.88.99.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", OWN,
    "::", "::1", "::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", f"::ffff:{OWN}",
    "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "100::1",
    "2002:7f00:1::", "2002:a00:1::1", "2001:0:a00:1::1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b:1::10.0.0.1", "5f00::1", "",
]  # fmt: skip


@pytest.fixture
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_own", lambda address: str(address) == OWN)


@pytest.mark.usefixtures("_own")
@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_leads_to_public_addresses_only(address: str) -> None:
    grants = [*map(addresses.parse_grant, ["evil.example.com:80", "*.h:*"])]
    assert not addresses.leads_to(grants, "evil.example.com", address, 80)


@pytest.mark.usefixtures("_own")
@pytest.mark.parametrize(("host", "address", "grant", "may"), [
    ("evil.example.com", "93.184.215.14", "", True),
    ("evil.example.com", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "", True),
    ("evil.example.com", "::ffff:93.184.215.14", "", True),
    ("evil.example.com", "64:ff9b::93.184.215.14", "", True),
    ("localhost", "127.0.0.1", "", True),
    ("LocalHost.", "::1", "", True),
    ("localhost", "10.0.0.1", "", False),
    ("localhost", "93.184.215.14", "", False),
    ("localhost.evil.example.com", "127.0.0.1", "", False),
    ("127.0.0.1", "127.0.0.1", "", True),
    ("169.254.169.254", "169.254.169.254", "", True),
    ("[::1]", "::1", "", True),
    ("fe80::1%1", "fe80::1%1", "", True),
    ("db.internal", "10.20.3.4", "10.20.0.0/16:80", True),
    ("db.internal", "10.20.3.4", "10.20.0.0/16:*", True),
    ("db.internal", "10.20.3.4", "10.20.0.0/16:81", False),
    ("db.internal", "10.21.3.4", "10.20.0.0/16:80", False),
    ("db.internal", "::ffff:10.20.3.4", "10.20.0.0/16:80", True),
    ("db.internal", "10.20.3.4", "10.20.3.4:80", True),
    ("db.internal", "fd00:20::1", "[fd00:20::/32]:80", True),
    ("db.internal", "fd00:21::1", "[fd00:20::/32]:80", False),
    ("db.internal", OWN, f"{OWN}:80", True),
    ("db.internal", "10.20.3.4", "10.20.0.0/99:80", False),
])  # fmt: skip
def test_private_addresses_need_a_separate_grant(host: str, address: str, grant: str, may: bool) -> None:
    assert addresses.leads_to([addresses.parse_grant(grant)], host, address, 80) is may


@pytest.mark.parametrize("host", ["fe80::1%.example.com", "::1%.example.com", "127.0.0.1%.example.com"])
def test_an_address_with_a_zone_is_not_a_name_below_a_granted_one(host: str) -> None:
    """Its zone may be spelt like any name, but it would lead to the address before it."""
    assert not addresses.permits([addresses.parse_grant("*.example.com:80")], host, 80)
    assert addresses.permits([addresses.parse_grant(f"{host}:80")], host, 80), "as it is written"


@pytest.mark.parametrize("host", ["fe80::1%1", "127.0.0.1%.example.com", "93.184.215.14"])
def test_an_address_leads_to_itself_alone(host: str) -> None:
    grants = [addresses.parse_grant(f"{host}:80")]
    assert not addresses.leads_to(grants, host, "169.254.169.254", 80)
    assert addresses.leads_to(grants, host, host.partition("%")[0], 80)


def test_addresses_of_this_machine_are_recognised() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("127.0.0.1", 9))
        own = ip_address(probe.getsockname()[0])
    assert addresses.is_own(own)
    assert not addresses.is_own(ip_address("93.184.215.14"))


def test_addresses_of_this_machine_are_recognised_where_any_can_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_binds_to_any", lambda version: True)
    assert addresses.is_own(ip_address("127.0.0.1"))
    assert not addresses.is_own(ip_address("192.0.2.1"))


def asked(host: str, port: int, *grants: str) -> list[Any]:
    """Return what a broker answers to one request, and the connection if there is one."""
    reactor, ends = Reactor(), []
    broker = network_broker.NetworkBroker("p", grants, reactor, ends.append)  # type: ignore[arg-type]
    with broker.worker_end as worker_end:
        broker.open()
        worker_end.send(codec.encode([7, host, port, 1.0]))
        reactor.ready()
        data, handles, _, _ = socket.recv_fds(worker_end, 2000, 1)
        broker.close()
    for handle in handles:
        os.close(handle)
    assert ends == []
    return [*codec.decode(data)[1:], len(handles)]


def leading_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    looked_up: list[str] = []

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return looked_up


def test_a_name_that_leads_to_this_machine_is_refused_with_the_line_to_add(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    looked_up = leading_to(monkeypatch, "127.0.0.1")
    code, text, connection = asked("db.internal", port, f"db.internal:{port}")
    assert (code, connection) == (errno.EPERM, 0)
    assert "MK0423" in text
    assert f'net = ["db.internal:{port}", "127.0.0.1:{port}"]' in text
    assert asked("db.internal", port, f"db.internal:{port}", f"127.0.0.1:{port}") == [0, "", 1]
    assert asked("db.internal", port, f"db.internal:{port}", "127.0.0.0/8:*") == [0, "", 1]
    assert asked("127.0.0.1", port, f"127.0.0.0/8:{port}") == [0, "", 1]
    assert asked("127.0.0.1", port, f"*.0.0.1:{port}", f"db.internal:{port}")[0] == errno.EPERM
    assert len(looked_up) == 4  # once for each connection, and not for requests that were refused without a lookup


def test_only_the_permitted_ones_of_several_addresses_are_tried(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    leading_to(monkeypatch, "10.255.255.1", "127.0.0.1")
    assert asked("db.internal", port, f"db.internal:{port}", f"127.0.0.1:{port}") == [0, "", 1]


@pytest.mark.parametrize(("grant", "host", "port", "may"), [
    ("example.com:443", "example.com", 443, True),
    ("example.com:443", "EXAMPLE.com.", 443, True),
    ("example.com:443", "example.com", 80, False),
    ("example.com:443", "www.example.com", 443, False),
    ("*.example.com:443", "www.example.com", 443, True),
    ("*.example.com:443", "example.com", 443, False),
    ("*.example.com:443", "badexample.com", 443, False),
    ("example.com:*", "example.com", 1, True),
    ("[::1]:80", "::1", 80, True),
    ("example.com", "example.com", 80, False),
    ("10.20.0.0/16:80", "10.20.3.4", 80, True),
    ("10.20.0.0/16:80", "10.20.3.4", 81, False),
    ("10.20.0.0/16:80", "10.21.3.4", 80, False),
    ("10.20.0.0/16:80", "::ffff:10.20.3.4", 80, True),
    ("10.20.0.1/16:80", "10.20.3.4", 80, False),
    ("[::1]:80", "0:0:0:0:0:0:0:1", 80, True),
    ("*.0.0.1:80", "127.0.0.1", 80, False),
    ("[fe80::1%1]:80", "fe80::1%1", 80, True),
    ("[fe80::1%1]:80", "fe80::1%2", 80, False),
])  # fmt: skip
def test_grants_are_by_name_and_port(grant: str, host: str, port: int, may: bool) -> None:
    assert addresses.permits([addresses.parse_grant(grant)], host, port) is may
