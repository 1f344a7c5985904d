"""A guest reaches granted addresses by the usual ways of Python programs; nothing that it sends leads elsewhere."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import PluginDied
from microkernel.kernel.config import KernelConfig
from tests.integration.wasm.conftest import Run, do
from tests.servers import CLIENTS, Authority, echoing, serving


@pytest.fixture
def port() -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.fixture
def echo() -> Iterator[int]:
    with echoing() as port:
        yield port


def to(port: int) -> str:
    """Return the first lines of code that uses a port."""
    return f"import asyncio, socket\nport = {port}\n"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_granted_address_is_reached(client: str, run: Run, port: int) -> None:
    assert do(run(net=[f"127.0.0.1:{port}"]), to(port) + CLIENTS[client]) is True


@pytest.mark.parametrize(("host", "shift"), [("127.0.0.1", 1), ("localhost", 0), ("127.0.0.2", 0), ("0.0.0.0", 0)])
def test_other_addresses_are_refused(host: str, shift: int, run: Run, port: int) -> None:
    kernel = run(net=[f"127.0.0.1:{port}"])
    for connect in ("socket.create_connection((host, port), 9)", "asyncio.run(asyncio.open_connection(host, port))"):
        error, text = do(kernel, to(port + shift) + f"host = '{host}'\n{connect}")
        assert error == "PermissionError"
        assert "MK0401" in text
        assert f'net = ["{host}:{port + shift}"]' in text


def test_without_a_grant_the_line_to_add_is_named(run: Run, port: int) -> None:
    error, text = do(run(), to(port) + "socket.create_connection(('127.0.0.1', port))")
    assert error == "PermissionError"
    assert f'net = ["127.0.0.1:{port}"]' in text


def test_an_unreachable_address_raises_the_systems_error(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    kernel = run(net=[f"127.0.0.1:{free}", "no-such-host.invalid:80", "127.2:*"])
    assert do(kernel, to(free) + "socket.create_connection(('127.0.0.1', port))")[0] == "ConnectionRefusedError"
    assert do(kernel, to(80) + "socket.create_connection(('no-such-host.invalid', port))")[0] == "gaierror"
    error, text = do(kernel, to(free) + "asyncio.run(asyncio.open_connection('127.2', port))")
    assert (error, f'net = ["127.2:{free}", "127.0.0.2:{free}"]' in text) == ("PermissionError", True)
    assert do(kernel, "import socket\nsocket.create_connection(('h', 70000))")[0] == "OverflowError"
    assert do(kernel, "import socket\nsocket.create_connection(('h' * 2000, 80))")[0] == "gaierror"
    assert do(kernel, "result = api.generation") == 1


def test_large_data_arrives_as_it_was_sent(run: Run, echo: int) -> None:
    sent = """
data = os.urandom(1 << 16) * 80
with socket.create_connection(('127.0.0.1', port), 20) as s:
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    with s.makefile('rb') as file: result = file.read() == data
"""
    assert do(run(net=[f"127.0.0.1:{echo}"]), to(echo) + sent) is True


def test_waits_are_bounded_by_the_timeout(run: Run, echo: int) -> None:
    kernel = run(net=[f"127.0.0.1:{echo}"])
    began = time.monotonic()
    connect = to(echo) + "s = socket.create_connection(('127.0.0.1', port), 0.2)\n"
    assert do(kernel, connect + "s.recv(1)")[0] == "TimeoutError"
    assert do(kernel, connect + "s.setblocking(False)\ns.recv(1)")[0] == "BlockingIOError"
    assert time.monotonic() - began < 20.0


def test_a_write_that_is_not_read_ends_at_its_timeout(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        fill = to(port) + "socket.create_connection(('127.0.0.1', port), 0.3).sendall(bytes(30 << 20))"
        assert do(run(net=[f"127.0.0.1:{port}"]), fill)[0] == "TimeoutError"


def test_a_handler_that_waits_for_bytes_beyond_its_deadline_is_killed(run: Run, echo: int) -> None:
    kernel = run(net=[f"127.0.0.1:{echo}"], limits={"handler": 0.5, "kill_grace": 0.1})
    with pytest.raises(PluginDied):
        do(kernel, to(echo) + "socket.create_connection(('127.0.0.1', port)).recv(1)")
    assert do(kernel, "result = api.generation") == 2


def test_an_event_loop_runs_while_connections_wait(run: Run, echo: int) -> None:
    beside = """
async def talk(number):
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(b'%d' % number * 50_000)
    writer.write_eof()
    await writer.drain()
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data == b'%d' % number * 50_000
async def silent():
    reader, _ = await asyncio.open_connection('127.0.0.1', port)
    try:
        async with asyncio.timeout(0.3): await reader.read()
    except TimeoutError: return True
async def main(): return await asyncio.gather(silent(), *map(talk, range(12)))
result = all(asyncio.run(main()))
"""
    assert do(run(net=[f"127.0.0.1:{echo}"]), to(echo) + beside) is True


ASYNC = """
import asyncio
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    async def fetch(self, port: int) -> str:
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        return (await reader.read()).decode()
    @expose
    async def ping(self) -> str: return "pong"
"""


def test_a_handler_that_waits_for_bytes_does_not_block_others(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(ASYNC)
    config = KernelConfig(data_dir=str(tmp_path / "data"), limits={"load": 30.0})
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        ThreadPoolExecutor(1) as pool,
        Kernel(tmp_path / "p.py", config, isolation="wasm", grants={"p": {"net": ["127.0.0.1:*"]}}) as kernel,
    ):
        fetched = pool.submit(kernel.call, "p.fetch", server.getsockname()[1], timeout=30.0)
        with server.accept()[0] as theirs:
            for _ in range(20):
                assert kernel.call("p.ping", timeout=30.0) == "pong"
            assert not fetched.done()
            theirs.sendall(b"at last")
        assert fetched.result() == "at last"


FORGED = """
import wit_world
from componentize_py_types import Err
def fault(name, *arguments):
    try: return getattr(wit_world, name)(*arguments)
    except Err as error: return error.value[0]
"""


def test_a_forged_number_leads_to_nothing(run: Run, echo: int) -> None:
    kernel = run(net=[f"127.0.0.1:{echo}"])
    attempts = (
        FORGED
        + """
s = socket.create_connection(('127.0.0.1', port))
faults = set()
for number in (*range(64), s.fileno() - 1, s.fileno() + 1, 2**31, 2**32 - 1):
    faults |= {fault('read', number, 10, 0.0), fault('write', number, 'x', 0.0), fault('close', number),
               fault('secure', number, 'h', '', 0, 0.0), fault('shutdown', number, True, True)}
result = [str(each) for each in faults], wit_world.wait(0, [5], [2**32 - 1], 5.0), s.send(b'x')
"""
    )
    faults, ready, sent = do(kernel, to(echo) + attempts)
    assert sorted(faults) == ["EBADF", "None"]
    assert (ready, sent) == ([0, [5], [2**32 - 1]], 1)
    assert do(kernel, "result = api.generation") == 1


def test_invalid_arguments_return_a_failure_instead_of_a_trap(run: Run, echo: int) -> None:
    kernel = run(net=[f"127.0.0.1:{echo}"])
    attempts = (
        FORGED
        + """
s = socket.create_connection(('127.0.0.1', port), 5)
n, nan, inf = s.fileno(), float('nan'), float('inf')
result = [fault('write', n, '\\u4e2d', 1.0), fault('read', n, 9, nan), fault('connect', n, 'h', 80, 1.0),
          fault('connect', 7, 'h', 0, 1.0), fault('connect', 7, 'h', 2**32 - 1, 1.0), fault('connect', 7, 'h', 80, nan),
          fault('connect', 7, 'h', 80, inf), fault('connect', 7, 'h' * 10**6, 80, inf),
          fault('secure', n, '', '', 0, 1.0)]
s.close()
result.append(fault('write', n, 'x', 1.0))
"""
    )
    assert do(kernel, to(echo) + attempts) == [
        "EILSEQ", "ETIMEDOUT", "EISCONN", "EADDRNOTAVAIL", "EADDRNOTAVAIL", "EPERM", "EPERM", "EAI_NONAME", "EINVAL",
        "EBADF",
    ]  # fmt: skip
    assert do(kernel, "result = api.generation") == 1


def test_one_call_moves_a_bounded_number_of_bytes(run: Run, echo: int) -> None:
    """However much is requested or passed in."""
    kernel = run(net=[f"127.0.0.1:{echo}"])
    attempts = (
        FORGED
        + """
s = socket.create_connection(('127.0.0.1', port), 9)
most = wit_world.write(s.fileno(), 'x' * (8 << 20), 9.0)
s.sendall(bytes(4 << 20))
s.shutdown(socket.SHUT_WR)
while len(data := wit_world.read(s.fileno(), 2**32 - 1, 9.0)): most = max(most, len(data))
result = most <= 1 << 18
"""
    )
    assert do(kernel, to(echo) + attempts) is True


def test_the_number_of_open_connections_is_bounded(run: Run, echo: int) -> None:
    kernel = run(net=[f"127.0.0.1:{echo}"])
    pid = kernel.info("p").pid
    do(kernel, to(echo) + "socket.create_connection(('127.0.0.1', port)).close()")
    before = len(os.listdir(f"/proc/{pid}/fd"))
    many = (
        to(echo)
        + """
held = []
try:
    while len(held) < 1000: held.append(socket.create_connection(('127.0.0.1', port)))
except OSError as error: result = [len(held), str(error)]
"""
    )
    number, text = do(kernel, many)
    assert (number, "has 64 connections at once, at most" in text) == (64, True)
    assert len(os.listdir(f"/proc/{pid}/fd")) == before, "what is forgotten is closed"
    assert do(kernel, to(echo) + """
for _ in range(200): socket.create_connection(('127.0.0.1', port)).close()
for _ in range(200):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(('127.0.0.1', port))
    s.close()
result = 'made'
""") == "made"  # fmt: skip


@pytest.mark.parametrize("code", [
    "s.sendall(b'x')", "s.recv(1)", "s.shutdown(socket.SHUT_WR)", "s.connect(('127.0.0.1', port))",
])  # fmt: skip
def test_a_closed_connection_cannot_be_used(code: str, run: Run, echo: int) -> None:
    closed = to(echo) + "s = socket.create_connection(('127.0.0.1', port))\ns.close()\n"
    assert do(run(net=[f"127.0.0.1:{echo}"]), closed + code) == ["OSError", "[Errno 8] Bad file descriptor"]


def test_https_is_verified(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "authority")
    get = "import urllib.request as u; result = u.urlopen(f'https://{host}:{port}/x', timeout=9).read().decode()"
    with serving(authority.context("localhost")) as port:
        net = [f"localhost:{port}", f"127.0.0.1:{port}"]
        named, numbered = (to(port) + f"host = '{host}'\n{get}" for host in ("localhost", "127.0.0.1"))
        assert "CERTIFICATE_VERIFY_FAILED" in do(run(net=net), named)[1]
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        trusting = run(net=net, env=["SSL_CERT_FILE"], fs_read=[str(authority.folder)])
        assert do(trusting, named) == "hello /x"
        assert "CERTIFICATE_VERIFY_FAILED" in do(trusting, numbered)[1]


@pytest.mark.parametrize("code", [
    "ssl.create_default_context().check_hostname = False",
    "ssl.create_default_context().verify_mode = ssl.CERT_NONE",
    "ssl._create_unverified_context()",
    "ssl.create_default_context().load_verify_locations(capath='/ours')",
    "c = ssl.create_default_context(); c.options |= 1 << 29",
    "ssl.create_default_context().minimum_version = ssl.TLSVersion.TLSv1_3",
    "ssl.create_default_context().keylog_filename = 'keys'",
    "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)",
    "ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)",
    "ssl.create_default_context().load_cert_chain('ours.pem')",
    "ssl.create_default_context().wrap_socket(socket.socket())",
])  # fmt: skip
def test_tls_that_does_not_verify_is_refused_by_name(code: str, run: Run) -> None:
    error, text = do(run(), f"import socket, ssl\n{code}")
    assert error in ("NotImplementedError", "AttributeError")
    assert "the level wasm" in text


def test_a_plugin_may_name_the_authorities_that_it_trusts(run: Run, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    get = """
import ssl, urllib.request as u
context = ssl.create_default_context(cafile=cafile)
context.verify_flags |= ssl.VERIFY_X509_STRICT
result = u.urlopen(f'https://{host}:{port}/x', timeout=9, context=context).read().decode()
"""
    with serving(authority.context("localhost")) as port:
        net = [f"localhost:{port}", f"127.0.0.1:{port}"]
        kernel = run(net=net, fs_read=[str(authority.folder)])
        ours, empty = (f"cafile = '{authority.folder}/{name}'\n" for name in ("authority.pem", "server.csr"))
        assert do(kernel, to(port) + "host = 'localhost'\n" + ours + get) == "hello /x"
        assert "CERTIFICATE_VERIFY_FAILED" in do(kernel, to(port) + "host = '127.0.0.1'\n" + ours + get)[1]
        assert do(kernel, to(port) + "host = 'localhost'\n" + empty + get)[0] == "SSLError"


WAITS = {
    "select": "wait = lambda t: (select.select([s], [], [], t)[0] == [s], select.select([], [s], [], t)[1] == [s])",
    "poll": """
def wait(t):
    found = []
    for event in (select.POLLIN, select.POLLOUT):
        p = select.poll()
        p.register(s, select.POLLOUT)
        p.modify(s, event)
        found.append(p.poll(None if t is None else t * 1000) == [(s.fileno(), event)])
        p.unregister(s)
        assert p.poll(0) == []
    return tuple(found)
""",
    "selectors": """
import selectors
def wait(t):
    found = []
    for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
        with selectors.DefaultSelector() as selector:
            selector.register(s, event)
            found.append([key.fileobj for key, _ in selector.select(t)] == [s])
    return tuple(found)
""",
}


@pytest.mark.parametrize("how", WAITS)
def test_a_plain_socket_can_be_waited_for(how: str, run: Run, echo: int) -> None:
    waiting = f"""
import select
s = socket.create_connection(('127.0.0.1', port), 9)
{WAITS[how]}
before = wait(0), wait(0.01)
s.sendall(b'x')
s.shutdown(socket.SHUT_WR)
result = [before, wait(9), wait(None), s.recv(9)]
"""
    assert do(run(net=[f"127.0.0.1:{echo}"]), to(echo) + waiting) == [
        [[False, True], [False, True]], [True, True], [True, True], b"x",
    ]  # fmt: skip


def test_connections_and_files_are_not_waited_for_together(run: Run, echo: int) -> None:
    mixed = "import select, sys\nselect.select([socket.create_connection(('127.0.0.1', port)), sys.stdin], [], [])"
    error, text = do(run(net=[f"127.0.0.1:{echo}"]), to(echo) + mixed)
    assert (error, text) == ("OSError", "at the level wasm, connections and files are not waited for together")
