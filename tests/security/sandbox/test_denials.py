"""Errors that the system returns without a reason are explained: which permission, which level, which limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import CallFailed, KernelError
from microkernel.kernel.config import KernelConfig
from microkernel.sdk import denials
from tests.harness.waiting import eventually

PLUGIN = """
import os, socket, sqlite3, subprocess, threading
from microkernel import IPlugin, expose, on

class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass

    @expose
    def do(self, code: str):
        exec(code, {**globals(), "api": self.api})

    @on("act")
    def act(self, code: str):
        self.do(code)
"""
_LIMITS = {"load": 60.0, "memory": 300 << 20, "files": 40, "file_size": 1 << 20, "threads": 20}


def kernel_in(
    folder: Path, level: Any = "sandbox", limits: Mapping[str, float] = _LIMITS, source: str = PLUGIN
) -> Kernel:
    path = folder / "p.py"
    path.write_text(source)
    config = KernelConfig(data_dir=str(folder / "data"), limits=dict(limits))
    return Kernel(path, config, isolation=level, grants={"p": {"on": ["act"]}})


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_in(tmp_path_factory.mktemp("denials")) as kernel:
        yield kernel


def message_of(kernel: Kernel, code: str) -> str:
    with pytest.raises(CallFailed) as caught:
        kernel.call("p.do", code, timeout=30.0)
    return str(caught.value.remote_message)


_WHOLE = 'MK0401 p has no permission for fs.read /etc/passwd; add to its permissions: fs.read = ["/etc/passwd"]'
_POOL = """
from concurrent.futures import ProcessPoolExecutor as Pool
from multiprocessing import get_context
with Pool(1, get_context("fork")) as pool: pool.submit(abs, 1).result()
"""
_DATABASE = """
db = sqlite3.connect("d.db"); db.execute("create table t (b)")
while True: db.execute("insert into t values (?)", [bytes(1 << 16)]); db.commit()
"""
_THREADS = """
import time
for _ in range(100): threading.Thread(target=time.sleep, args=[5], daemon=True).start()
"""
DENIED = {
    "reading a file": ("open('/etc/passwd')", _WHOLE),
    "listing a folder": ("os.listdir('/home')", 'fs.read = ["/home"]'),
    "moving a file out": ("open('mine', 'w').close(); os.rename('mine', '/srv/mine')", 'fs.write = ["/srv"]'),
    "a link elsewhere": ("os.symlink('/etc/passwd', '/srv/link')", 'fs.write = ["/srv"]'),
    "a file by its number of bytes": ("open(b'/etc/passwd')", 'fs.read = ["/etc/passwd"]'),
    "writing what may be read": ("open('/etc/os-release', 'a')", 'fs.write = ["/etc/os-release"]'),
    "making a file": ("open('/var/new', 'w')", 'fs.write = ["/var"]'),
    "making a folder": ("os.mkdir('/var/new')", 'fs.write = ["/var"]'),
    "what was raised from it":
        ("try: open('/etc/passwd')\nexcept OSError as e: raise ValueError('none') from e", 'fs.read = ["/etc/passwd"]'),
    "what was raised while it was handled":
        ("try: open('/etc/passwd')\nexcept OSError: raise ValueError('no users')", 'fs.read = ["/etc/passwd"]'),
    "a group": ("try: open('/etc/passwd')\nexcept OSError as e: raise ExceptionGroup('both', [ValueError('x'), e])",
                'fs.read = ["/etc/passwd"]'),
    "a program": ("subprocess.run(['true'])", "MK0419 p cannot start processes at the level sandbox"),
    "a shell": ("subprocess.check_output('true', shell=True)", "MK0419"),
    "a fork": ("os.fork()", "MK0419"),
    "a spawn": ("os.posix_spawn('/bin/true', ['true'], {})", "MK0419"),
    "a pool of processes": ("import multiprocessing as m; m.get_context('fork').Process().start()", "MK0419"),
    "a pool of futures": (_POOL, "MK0419"),
    "a server": ("socket.create_server(('127.0.0.1', 0))", "MK0420 p cannot use system sockets at the level sandbox"),
    "a web server": ("import http.server as h; h.HTTPServer(('127.0.0.1', 0), None)", "MK0420"),
    "a server of asyncio":
        ("import asyncio as a\nasync def f(): await a.start_server(None, '127.0.0.1', 0)\na.run(f())", "MK0420"),
    "a datagram": ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "MK0420"),
    "a socket file": ("socket.socket(socket.AF_UNIX)", "MK0420"),
    "a socket of C code": ("raise RuntimeError('could not create socket: Operation not permitted')", "MK0421"),
    "a refused connection, behind another error":
        ("try: socket.create_connection(('10.0.0.1', 80))\nexcept OSError as e: raise ValueError('all failed') from e",
         'net = ["10.0.0.1:80"]'),
    "a signal": ("os.kill(os.getppid(), 9)", "MK0421"),
}  # fmt: skip
LIMITED = {
    "memory": ("x = bytearray(1 << 30)", "MK0518 p has reached a limit: limits.memory is 314,572,800"),
    "memory, in C": ("raise RuntimeError('std::bad_alloc')", "limits.memory is 314,572,800"),
    "the size of a file": ("open('big', 'wb').write(bytes(2 << 20))", "limits.file_size is 1,048,576"),
    "a truncated file": ("open('big', 'wb').truncate(2 << 20)", "limits.file_size is 1,048,576"),
    "a database": (_DATABASE, "limits.file_size is 1,048,576"),
    "open files": ("files = [open(os.devnull) for _ in range(100)]", "limits.files is 40"),
    "threads": (_THREADS, "limits.threads is 20"),
}  # fmt: skip


@pytest.mark.parametrize("name", DENIED)
def test_a_denial_names_the_permission_that_would_allow_it(name: str, kernel: Kernel) -> None:
    code, explanation = DENIED[name]
    assert explanation in message_of(kernel, code)


@pytest.mark.parametrize("name", LIMITED)
def test_a_limit_is_named_with_its_value(name: str, tmp_path: Path) -> None:
    code, explanation = LIMITED[name]
    with kernel_in(tmp_path) as kernel:
        if "threads" in name and kernel.info("p").protections["threads"] != "enforced":
            pytest.skip("threads are watched here, not limited")
        assert explanation in message_of(kernel, code)


@pytest.mark.parametrize("code", [
    "raise ValueError('mine')", "raise KeyError('k')", "open('nothing')", "1 / 0", "raise BlockingIOError(11, 'again')",
    "raise RuntimeError('limits')", "os.mkdir('/new')", "os.listdir('/')", "socket.create_connection(('10.0.0.1', 80))",
])  # fmt: skip
def test_the_plugins_own_errors_are_not_explained(code: str, kernel: Kernel) -> None:
    message = message_of(kernel, code)
    assert message.count("MK0") == ("create_connection" in code)
    assert "limits." not in message
    assert "MK0421" not in message


def test_an_explanation_is_in_the_traceback_the_log_and_the_info(tmp_path: Path) -> None:
    with kernel_in(tmp_path) as kernel:
        with pytest.raises(CallFailed) as caught:
            kernel.call("p.do", "open('/etc/passwd')", timeout=30.0)
        assert "MK0401" in caught.value.remote_traceback
        log = "try: open('/etc/passwd')\nexcept OSError: api.log.exception('no users')"
        kernel.call("p.do", log, timeout=30.0)
        kernel.call("p.do", "threading.Thread(target=open, args=['/etc/shadow']).start()", timeout=30.0)
        lines = lambda: "\n".join(line["text"] for line in kernel.call("kernel.logs", "p"))  # noqa: E731
        eventually(lambda: 'fs.read = ["/etc/passwd"]' in lines(), "the record is there")
        eventually(lambda: 'fs.read = ["/etc/shadow"]' in lines(), "what ended a thread is there")
        kernel.emit("act", code="open('/etc/passwd')")
        eventually(lambda: kernel.dead_letters("p"), "the event is a dead letter")
        assert 'fs.read = ["/etc/passwd"]' in str(kernel.dead_letters("p")[0])
    source = PLUGIN.replace("def start(self): pass", "def start(self): open('/etc/passwd')")
    with kernel_in(tmp_path, source=source) as kernel:
        info = kernel.info("p")
        assert info.state == "failed"
        assert 'fs.read = ["/etc/passwd"]' in str(info.error)


def test_at_process_only_limits_are_explained(tmp_path: Path) -> None:
    with kernel_in(tmp_path, "process", {"load": 60.0, "memory": 300 << 20}) as kernel:
        assert "limits.memory is 314,572,800" in message_of(kernel, "x = bytearray(1 << 30)")
        assert "MK0" not in message_of(kernel, "raise PermissionError(13, 'Permission denied', '/etc/shadow')")
        assert "MK0" not in message_of(kernel, "raise OSError(24, 'Too many open files')")


def test_at_thread_nothing_is_explained(tmp_path: Path) -> None:
    with kernel_in(tmp_path, "thread") as kernel:
        assert "MK0" not in message_of(kernel, "raise MemoryError")
        assert "MK0" not in message_of(kernel, "raise PermissionError(13, 'Permission denied', '/etc/shadow')")


def test_a_cycle_of_errors_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "_bounds", denials.Bounds("p", "sandbox", {}))
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert denials.explanation_of(one) == ""


def test_an_error_whose_text_raises_is_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise KernelError("MK0699")

    monkeypatch.setattr(denials, "_bounds", denials.Bounds("p", "sandbox", {}))
    assert denials.explanation_of(Broken()) == ""
