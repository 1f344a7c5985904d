"""The tables that manifests, the configuration and the lock share: permissions, limits, supervision, determinism."""

from __future__ import annotations

import posixpath
from typing import Any

from microkernel.kernel.manifest import LEVELS, Permissions
from microkernel.loader.schema import (
    Schema,
    Where,
    as_fields,
    free_table,
    integer,
    list_of,
    number,
    one_of,
    read_table,
    seconds,
    size,
    timestamp,
    word,
)


def connection(value: Any, where: Where) -> str:
    """Check ``host:port``, ``address:port`` or ``network:port``; the port may be ``*``.

    A host name that is not ASCII is returned as the system looks it up (``xn--...``), so that look-alike letters cannot
    mislead the person who approves it.
    """
    expected = 'a host and a port such as "api.example.com:443", or a network such as "10.20.0.0/16:5432"'
    host, _, port = word(value, where).rpartition(":")
    if not host or not (port == "*" or (port.isascii() and port.isdecimal() and len(port) <= 5)):
        raise where.wrong_type(expected, value)
    if "/" in host:
        from ipaddress import ip_network

        try:
            ip_network(host.strip("[]"))
        except ValueError as cause:
            raise where.wrong_type(f"{expected} ({cause})", value) from None
    try:
        return f"{host if host.isascii() else host.encode('idna').decode('ascii')}:{port}"
    except UnicodeError as cause:
        raise where.wrong_type(f"{expected} ({cause})", value) from None


def plain_path(value: Any, where: Where) -> str:
    """Check a path and return its shortest form, so that the path shown and approved is the one opened:
    ``/srv/a/../b`` becomes ``/srv/b``. A relative path that leads upwards is refused."""
    path = word(value, where)
    start, rest = ("/", path) if path.startswith("/") else ("", path)
    if path.startswith("~"):
        start, _, rest = path.partition("/")
        start += "/" if rest else ""
    rest = posixpath.normpath(rest).lstrip("/") if rest else ""
    if "\0" in path or rest.split("/")[0] == "..":
        raise where.wrong_type("a path that does not lead upwards, such as /srv/data", value)
    return f"{start}{'' if start and rest == '.' else rest}"


texts = list_of(word, "a list of texts")
paths = list_of(plain_path, "a list of texts")
patterns = list_of(word, 'a list of patterns such as "order.*"')
level = one_of(*LEVELS)

# Limits of the system: whole seconds for RLIMIT_CPU, and a quota of microseconds below 2**44.
_MOST_CPU, _MOST_PROCESSORS = 1_000_000_000, 65_536
LIMITS: Schema = {
    "load": seconds,
    "start": seconds,
    "drain": seconds,
    "stop": seconds,
    "kill_grace": seconds,
    "handler": seconds,
    "heartbeat": seconds,
    "probation": seconds,
    "mailbox": integer(1),
    "kernel_memory": size,
    "shared_memory": size,
    "full_mailbox_timeout": seconds,
    "max_deliveries": integer(1),
    "memory": size,
    "files": integer(0),
    "file_size": size,
    "cpu": number(_MOST_CPU),
    "processors": number(_MOST_PROCESSORS),
    "threads": integer(0),
    "disk": size,
    "frames": integer(0),
    "handlers": integer(0),
    "methods": integer(0),
    "keys": integer(0),
    "lines": integer(0),
}


def limits(value: Any, where: Where) -> dict[str, Any]:
    return read_table(value, LIMITS, where)


DETERMINISM: Schema = {"clock": timestamp, "seed": integer(0)}
SUPERVISION: Schema = {
    "restart": one_of("permanent", "transient", "temporary"),
    "intensity": integer(0),
    "period": seconds,
    "backoff": seconds,
    "backoff_max": seconds,
}
PERMISSIONS: Schema = {
    "emit": patterns,
    "on": patterns,
    "call": patterns,
    "data.read": patterns,
    "data.write": patterns,
    "kernel": list_of(one_of("observe", "control"), 'a list of "observe" and "control"'),
    "net": list_of(connection, 'a list of addresses such as "api.example.com:443"'),
    "fs.read": paths,
    "fs.write": paths,
    "env": texts,
}


def permissions(value: Any, where: Where, known: Schema = PERMISSIONS) -> Permissions:
    """Check permissions. A missing key grants nothing, so even an empty table narrows. A program may also pass
    Permissions."""
    if isinstance(value, Permissions):
        return value
    given = read_table(_flat(value, where), known, where)
    return Permissions(**as_fields({key: given.get(key, ()) for key in known}))


def _flat(value: Any, where: Where) -> dict[str, Any]:
    """Flatten nested tables: ``[permissions.data] read = ...`` is the same as ``"data.read" = ...``."""
    flat: dict[str, Any] = {}
    for key, each in free_table(value, where).items():
        if key in ("data", "fs"):
            inner = free_table(each, where.below(key))
            flat.update({f"{key}.{name}": item for name, item in inner.items()})
        else:
            flat[key] = each
    return flat
