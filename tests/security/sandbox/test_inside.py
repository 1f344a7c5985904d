"""Ordinary things that plugins do work inside the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec

import pytest

from microkernel import Kernel
from tests.harness.waiting import eventually
from tests.security.sandbox.conftest import KernelFactory

WORKS = {
    "a database in its data folder": """
db = sqlite3.connect(api.data_dir / 'x.db')
db.execute('pragma journal_mode=wal')
with db: db.execute('create table t (n)'); db.executemany('insert into t values (?)', [(n,) for n in range(1000)])
db.execute('create index i on t (n)'); db.commit(); db.execute('vacuum')
result = db.execute('select sum(n) from t').fetchone()[0] == 499500
""",
    "a TLS context, and both ends of a handshake in memory": """
context = ssl.create_default_context()
one = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname='example.com')
try: one.do_handshake()
except ssl.SSLWantReadError: result = True
""",
    "the certificates that there are": """
paths = ssl.get_default_verify_paths()
context = ssl.create_default_context()
result = bool(context.get_ca_certs()) or paths.capath is None or isinstance(os.listdir(paths.capath), list)
""",
    "threads": """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(8) as pool: result = sum(pool.map(abs, range(-100, 0))) == 5050
""",
    "an event loop with threads and timers": """
async def main():
    await asyncio.sleep(0.001)
    return await asyncio.gather(*(asyncio.to_thread(pow, 2, n) for n in range(5)))
result = asyncio.run(main()) == [1, 2, 4, 8, 16]
""",
    "a pair of sockets in an event loop": """
async def main():
    a, b = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=a)
    b.sendall(b'hello\\n')
    line = await reader.readline()
    writer.close(); b.close()
    return line
result = asyncio.run(main()) == b'hello\\n'
""",
    "more than a socket holds, written in an event loop": """
async def main():
    a, b = socket.socketpair()
    reader, back = await asyncio.open_connection(sock=a)
    ahead, writer = await asyncio.open_connection(sock=b)
    writer.writelines([b'x' * 300_000, b'y' * 300_000, b'z'])
    found = asyncio.create_task(reader.readexactly(600_001))
    await writer.drain()
    count = len(await found)
    writer.close(); back.close()
    return count
result = [asyncio.run(main()), hasattr(socket.socket, 'sendmsg')] == [600_001, False]
""",
    "temporary files and folders": """
with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as one, tempfile.NamedTemporaryFile() as two:
    one.write(b'x'); two.write(b'y')
    os.mkdir(folder + '/in'); open(folder + '/in/f', 'w').close()
    os.rename(folder + '/in/f', folder + '/f')
    result = os.listdir(folder) != [] and folder.startswith(os.environ['TMPDIR'])
""",
    "moving, copying and removing files": """
import shutil
os.makedirs('a/b'); open('a/f', 'w').write('text')
shutil.copyfile('a/f', 'a/b/g'); os.replace('a/b/g', 'h'); shutil.move('h', 'a/h')
result = open('a/h').read() == 'text'
shutil.rmtree('a')
""",
    "a mapped file": """
with open('m', 'w+b') as f:
    f.truncate(4096)
    with mmap.mmap(f.fileno(), 4096) as m: m[:5] = b'hello'
result = open('m', 'rb').read(5) == b'hello'
""",
    "memory of its own": """
m = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[0] = 1
result = m[0] == 1
""",
    "locks on files": """
import fcntl
f = open('l', 'w')
fcntl.lockf(f, fcntl.LOCK_EX)
fcntl.flock(f, fcntl.LOCK_EX)
result = True
""",
    "C extensions": """
import msgspec, _decimal, zlib, hashlib, lzma, bz2, _elementtree
result = msgspec.json.decode(b'[1]') == [1]
""",
    "C calls back": """
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
numbers = (ctypes.c_int * 3)(3, 1, 2)
libc.qsort(numbers, 3, 4, compare(lambda a, b: a[0] - b[0]))
result = list(numbers) == [1, 2, 3]
""",
    "lazy imports": """
import xml.dom.minidom, email.mime.text, unittest.mock, http.client, urllib.request
result = True
""",
    "time zones": """
from zoneinfo import ZoneInfo, available_timezones
result = 'Europe/Paris' not in available_timezones() or bool(ZoneInfo('Europe/Paris'))
""",
    "random numbers, time, processors": """
import secrets
result = bool(secrets.token_bytes(9)) and time.localtime() and os.cpu_count() > 0
""",
    "signals to itself": """
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0)
result = seen == [1]
""",
    "asking what it may do": "result = os.access(api.data_dir, os.W_OK) and not os.access('/nowhere', os.F_OK)",
    "its own source": """
import inspect
result = open(api._instance.load.root + '/p.py').read().startswith('\\nimport')
""",
    "printing and logging": "print('said'); api.log.info('logged'); result = True",
}  # fmt: skip


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with ExitStack() as stack:
        yield KernelFactory(tmp_path_factory.mktemp("inside"), stack).kernel("sandbox", {})


@pytest.mark.parametrize("name", WORKS)
def test_ordinary_code_works_inside(name: str, kernel: Kernel) -> None:
    assert kernel.call("p.do", WORKS[name], {}, timeout=30.0) == [None, True]


@pytest.mark.skipif(find_spec("numpy") is None, reason="numpy is not installed")
def test_numpy_works_inside(kernels: KernelFactory) -> None:
    code = """
import numpy
a = numpy.ones((300, 300)); numpy.save('a.npy', a @ a)
result = float(numpy.load('a.npy').sum())
"""
    assert kernels.doing("sandbox", {})(code) == [None, 300.0**3]


def test_output_and_stacks_reach_the_kernel(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {})
    kernel.call("p.do", "print('to be seen')", {}, timeout=30.0)
    eventually(lambda: any("to be seen" in line["text"] for line in kernel.call("kernel.logs", "p")))
    instance = kernel.core.registry.get("p").instance
    assert instance is not None
    assert "File" in instance.runner.stack()


def test_a_reload_keeps_the_confinement(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {})
    kernel.reload("p")
    assert kernel.info("p").generation == 2
    assert kernel.call("p.do", "open('/etc/passwd')", {}, timeout=30.0)[0] == "PermissionError"
