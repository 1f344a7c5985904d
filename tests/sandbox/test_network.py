"""A granted address is reached through the kernel, by the ways that Python programs have; no other is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from microkernel.hosts import _broker
from microkernel.wire import codec
from tests.attacks.support import eventually
from tests.sandbox.conftest import Arena
from tests.servers import CLIENTS, MANY_THREADS, Authority, serving


@pytest.fixture
def port() -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.mark.parametrize("client", [*CLIENTS.values(), MANY_THREADS], ids=[*CLIENTS, "many threads"])
def test_a_granted_address_is_reached(client: str, arena: Arena, port: int) -> None:
    do = arena.doing("sandbox", {"net": [f"127.0.0.1:{port}"]})
    assert do(client, port=port) == [None, True]


def test_https_is_verified(arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "authority")
    get = "import urllib.request as u; result = u.urlopen(f'https://{host}:{port}/x', timeout=9).read().decode()"
    with serving(authority.context("localhost")) as port:
        net = [f"localhost:{port}", f"127.0.0.1:{port}"]
        untrusting = arena.doing("sandbox", {"net": net})
        assert "CERTIFICATE_VERIFY_FAILED" in untrusting(get, host="localhost", port=port)[1]
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        trusting = arena.doing("sandbox", {"net": net, "env": ["SSL_CERT_FILE"], "fs.read": [str(authority.folder)]})
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
def test_httpx_reaches_it_too(code: str, arena: Arena, port: int) -> None:
    do = arena.doing("sandbox", {"net": [f"127.0.0.1:{port}"]})
    assert do(code, port=port) == [None, True]


@pytest.mark.parametrize(("host", "shift"), [("127.0.0.1", 1), ("localhost", 0), ("127.0.0.2", 0), ("0.0.0.0", 0)])
def test_no_other_is(host: str, shift: int, arena: Arena, port: int) -> None:
    do = arena.doing("sandbox", {"net": [f"127.0.0.1:{port}"]})
    error, text = do("socket.create_connection((host, port), 9)", host=host, port=port + shift)
    assert error == "PermissionError"
    assert f'net = ["{host}:{port + shift}"]' in text
    assert "MK0401" in text


def test_without_a_grant_the_line_to_add_is_named(arena: Arena, port: int) -> None:
    error, text = arena.doing("sandbox", {})("socket.create_connection(('127.0.0.1', port))", port=port)
    assert error == "PermissionError"
    assert f'net = ["127.0.0.1:{port}"]' in text


def test_what_cannot_be_reached_is_told_as_the_system_does(arena: Arena) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    do = arena.doing("sandbox", {"net": [f"127.0.0.1:{free}", "no-such-host.invalid:80"]})
    assert do("socket.create_connection(('127.0.0.1', port))", port=free)[0] == "ConnectionRefusedError"
    assert do("socket.create_connection(('no-such-host.invalid', 80))")[0] == "gaierror"


def test_the_connection_is_to_that_and_stays_there(arena: Arena, port: int) -> None:
    """A connection that was handed over cannot be turned to another address."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        do = arena.doing("sandbox", {"net": [f"127.0.0.1:{port}"]})
        turn = """
s = socket.create_connection(('127.0.0.1', port))
import _socket
_socket.socket.connect(s, ('127.0.0.1', other))
"""
        assert do(turn, port=port, other=other.getsockname()[1])[0] == "PermissionError"


def test_a_malformed_request_ends_that_worker(arena: Arena, port: int) -> None:
    kernel = arena.kernel("sandbox", {"net": [f"127.0.0.1:{port}"]})
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
def test_no_request_but_a_right_one_is_considered(request_: bytes) -> None:
    reactor, ends = Reactor(), []
    broker = _broker.Broker("p", ["h:*"], reactor, ends.append)  # type: ignore[arg-type]
    with broker.theirs as theirs:
        broker.open()
        theirs.send(request_)
        reactor.ready()
        broker.close()
        assert theirs.recv(100) == b""
    assert [error.id for error in ends] == ([] if request_ == b"" else ["MK0215"])


@pytest.mark.parametrize("name", ["a\0.h", "x" * 300 + ".h"])
def test_a_name_that_can_be_none_is_an_error_of_the_plugins(name: str) -> None:
    reactor, ends = Reactor(), []
    broker = _broker.Broker("p", ["*.h:80"], reactor, ends.append)  # type: ignore[arg-type]
    with broker.theirs as theirs:
        broker.open()
        theirs.send(codec.encode([7, name, 80, 1.0]))
        reactor.ready()
        number, code, _ = codec.decode(theirs.recv(1000))
        broker.close()
    assert (number, code != 0, ends) == (7, True, [])


@pytest.mark.parametrize(("host", "address", "may"), [
    ("evil.example.com", "127.0.0.1", False),
    ("evil.example.com", "::1", False),
    ("evil.example.com", "::ffff:127.0.0.1", False),
    ("evil.example.com", "169.254.169.254", False),
    ("evil.example.com", "0.0.0.0", False),
    ("evil.example.com", "93.184.215.14", True),
    ("localhost", "127.0.0.1", True),
    ("127.0.0.1", "127.0.0.1", True),
    ("169.254.169.254", "169.254.169.254", True),
    ("[::1]", "::1", True),
])  # fmt: skip
def test_a_name_does_not_lead_to_this_machine(host: str, address: str, may: bool) -> None:
    assert _broker._may_be(host, address) is may


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
])  # fmt: skip
def test_grants_are_by_name_and_port(grant: str, host: str, port: int, may: bool) -> None:
    assert _broker.permits([_broker._parsed(grant)], host, port) is may
