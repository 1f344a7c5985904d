"""Modes and times of files: the system refuses to change them, and the kernel does so for the plugin's own files."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.hosts.confined.file_attribute_server import FileAttributes, OwnFolder
from microkernel.wire import codec
from tests.security.sandbox.conftest import KernelFactory

WORKS = {
    "os.chmod": "open('f', 'w').close(); os.chmod('f', 0o640); result = stat.S_IMODE(os.stat('f').st_mode) == 0o640",
    "os.chmod of bytes":
        "open('f', 'w').close(); os.chmod(b'f', 0o600); result = os.stat('f').st_mode & 0o777 == 0o600",
    "os.fchmod": """
with open('f', 'w') as f: os.fchmod(f.fileno(), 0o604)
result = os.stat('f').st_mode & 0o777 == 0o604
""",
    "os.chmod of a descriptor": """
with open('f', 'w') as f: os.chmod(f.fileno(), 0o605)
result = os.stat('f').st_mode & 0o777 == 0o605
""",
    "os.chmod below the descriptor of a folder": """
os.makedirs('d', exist_ok=True); open('d/f', 'w').close()
folder = os.open('d', os.O_RDONLY)
os.chmod('f', 0o611, dir_fd=folder)
os.close(folder)
result = os.stat('d/f').st_mode & 0o777 == 0o611
""",
    "through a link of its own": """
open('f', 'w').close(); os.path.lexists('l') or os.symlink('f', 'l')
os.chmod('l', 0o606)
result = os.stat('f').st_mode & 0o777 == 0o606
""",
    "a folder": "os.makedirs('d', exist_ok=True); os.chmod('d', 0o750); result = os.stat('d').st_mode & 0o777 == 0o750",
    "os.utime in seconds": """
open('f', 'w').close(); os.utime('f', (1.5, 2))
result = [os.stat('f').st_atime, os.stat('f').st_mtime] == [1.5, 2]
""",
    "os.utime in nanoseconds":
        "open('f', 'w').close(); os.utime('f', ns=(5, 7)); result = os.stat('f').st_mtime_ns == 7",
    "os.utime before 1970": """
open('f', 'w').close(); os.utime('f', (-1.5, -2.25)); result = os.stat('f').st_mtime == -2.25
""",
    "os.utime of now": """
open('f', 'w').close(); os.utime('f', (1, 1)); os.utime('f')
result = abs(os.stat('f').st_mtime - time.time()) < 60
""",
    "os.utime of a link itself": """
open('f', 'w').close(); os.utime('f', (9, 9)); os.path.lexists('l') or os.symlink('f', 'l')
os.utime('l', (3, 4), follow_symlinks=False)
result = [os.lstat('l').st_mtime, os.stat('f').st_mtime] == [4, 9]
""",
    "os.truncate": "open('f', 'w').write('hello'); os.truncate('f', 2); result = open('f').read() == 'he'",
    "Path.chmod and Path.touch": """
from pathlib import Path
path = Path('f'); path.touch(); path.chmod(0o600); os.utime(path, (1, 1)); path.touch()
result = path.stat().st_mode & 0o777 == 0o600 and path.stat().st_mtime > 1
""",
    "shutil.copy, copy2, copymode, copystat": """
import shutil
open('a', 'w').write('text'); os.chmod('a', 0o640); os.utime('a', (5, 5))
shutil.copy('a', 'b'); shutil.copy2('a', 'c')
open('d2', 'w').close(); shutil.copymode('a', 'd2'); shutil.copystat('a', 'd2')
result = [os.stat(n).st_mode & 0o777 for n in ('b', 'c', 'd2')] == [0o640] * 3 and os.stat('c').st_mtime == 5
""",
    "shutil.copytree into another folder of its own": """
import shutil
shutil.rmtree('one', ignore_errors=True); shutil.rmtree('two', ignore_errors=True)
os.makedirs('one/in'); open('one/in/f', 'w').write('x'); os.symlink('in/f', 'one/l')
shutil.copytree('one', 'two', symlinks=True)
result = open('two/l').read() == 'x'
""",
    "shutil.copy into the folder of temporary files": """
import shutil
open('a', 'w').write('text')
with tempfile.TemporaryDirectory() as folder: result = open(shutil.copy2('a', folder)).read() == 'text'
""",
    "moving a file out of the folder of temporary files": """
import shutil
with tempfile.NamedTemporaryFile(delete=False) as f: f.write(b'moved')
shutil.move(f.name, 'moved'); result = open('moved').read() == 'moved'
""",
    "an archive": """
import io, tarfile, shutil
shutil.rmtree('out', ignore_errors=True)
buffer = io.BytesIO()
with tarfile.open(fileobj=buffer, mode='w') as tar:
    info = tarfile.TarInfo('in/script'); info.size = 2; info.mode = 0o755; info.mtime = 11
    tar.addfile(info, io.BytesIO(b'hi'))
buffer.seek(0)
with tarfile.open(fileobj=buffer) as tar: tar.extractall('out')
result = [os.stat('out/in/script').st_mode & 0o777, os.stat('out/in/script').st_mtime] == [0o755, 11]
""",
    "many threads at once": """
from concurrent.futures import ThreadPoolExecutor
names = [f'many{n}' for n in range(40)]
for name in names: open(name, 'w').close()
with ThreadPoolExecutor(16) as pool: list(pool.map(lambda name: os.chmod(name, 0o600 + int(name[4:]) % 8), names))
result = all(os.stat(name).st_mode & 0o777 == 0o600 + int(name[4:]) % 8 for name in names)
""",
    "an owner that it has already": """
import shutil
open('f', 'w').close(); found = os.stat('f')
os.chown('f', -1, -1); os.chown('f', found.st_uid, found.st_gid); os.lchown('f', -1, found.st_gid)
with open('f') as f: os.fchown(f.fileno(), found.st_uid, -1)
try: os.chown('f', found.st_uid + 1, -1)
except PermissionError as error: result = error.filename == 'f'
""",
    "what is not there": """
try: os.chmod('nothing', 0o600)
except FileNotFoundError as error: result = error.filename == 'nothing'
""",
    "what is no argument": """
found = []
for wrong in (lambda: os.utime('f', (1, 1), ns=(1, 1)), lambda: os.utime('f', 5), lambda: os.utime('f', ns=(1.5, 1)),
              lambda: os.chmod('f', 'x'), lambda: os.chmod(None, 1), lambda: os.utime('f', (1 << 80, 1))):
    try: wrong()
    except (TypeError, ValueError, OverflowError, AttributeError) as error: found.append(type(error).__name__)
result = len(found) == 6
""",
}  # fmt: skip


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with ExitStack() as stack:
        yield KernelFactory(tmp_path_factory.mktemp("attributes"), stack).kernel("sandbox", {})


@pytest.mark.parametrize("name", WORKS)
def test_attributes_of_own_files_can_be_changed(name: str, kernel: Kernel) -> None:
    assert kernel.call("p.do", WORKS[name], {}, timeout=30.0) == [None, True]


def test_no_bit_that_makes_a_program_run_as_its_owner_is_set(kernel: Kernel) -> None:
    code = "open('f', 'w').close(); os.chmod('f', 0o7777); result = stat.S_IMODE(os.stat('f').st_mode)"
    assert kernel.call("p.do", code, {}, timeout=30.0) == [None, 0o777]


OUTSIDE = {
    "a path": "os.chmod(outside, 0o777)",
    "times": "os.utime(outside, (1, 1))",
    "a path with ..": "os.chmod('../../' + os.path.relpath(outside, '../..'), 0o777)",
    "a link": "os.symlink(outside, 'out'); os.chmod('out', 0o777)",
    "a folder that is a link": "os.symlink(os.path.dirname(outside), 'way'); os.chmod('way/secret', 0o777)",
    "a descriptor": "os.fchmod(os.open(granted + '/file', os.O_RDONLY), 0o777)",
    "the descriptor of a folder": "os.chmod('file', 0o777, dir_fd=os.open(granted, os.O_RDONLY))",
    "a file that may be written": "os.chmod(granted + '/file', 0o777)",
    "a hard link": "os.link(granted + '/file', 'hard'); os.chmod('hard', 0o777)",
    "a hard link, times": "os.link(granted + '/file', 'hard'); os.utime('hard', (1, 1))",
    "the data folder itself": "os.chmod('.', 0o777)",
    "the folder above": "os.chmod('..', 0o777)",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_attributes_of_other_files_cannot_be_changed(name: str, kernels: KernelFactory) -> None:
    granted = kernels.folder / "granted"
    granted.mkdir()
    secret, file = kernels.folder / "secret", granted / "file"
    for each in (secret, file):
        each.write_text("x")
        each.chmod(0o600)
    do = kernels.doing("sandbox", {"fs.write": [str(granted)]})
    files = (secret, file, granted, kernels.folder / "data-sandbox", kernels.folder / "data-sandbox" / "p")
    before = [(each.stat().st_mode, int(each.stat().st_mtime) == 1) for each in files]
    error, text = do(OUTSIDE[name], outside=str(secret), granted=str(granted))
    assert error in ("PermissionError", "OSError"), (error, text)
    assert [(each.stat().st_mode, int(each.stat().st_mtime) == 1) for each in files] == before


def test_the_refusal_says_where_it_would_work(kernels: KernelFactory) -> None:
    do = kernels.doing("sandbox", {})
    error, text = do("os.chmod('/etc', 0o777)")
    assert error == "PermissionError"
    assert "below the plugin's data folder and TMPDIR" in text


def test_system_calls_are_refused_as_before(kernels: KernelFactory) -> None:
    do = kernels.doing("sandbox", {})
    assert do("open('f', 'w').close(); result = [libc.chmod(b'f', 0o777), libc.utimes(b'f', None)]") == [None, [-1, -1]]


# The kernel's side, without a worker


class Reactor:
    """Runs nothing by itself."""

    def __init__(self) -> None:
        self.ready: Any = None

    def watch(self, fd: int, ready: Any, **_: Any) -> None:
        self.ready = ready

    def unwatch(self, fd: int) -> None: ...


class RequestingWorker:
    """A worker that sends arbitrary requests."""

    def __init__(self, *folders: Path) -> None:
        self.reactor, self.ends = Reactor(), list[Any]()
        self.files = FileAttributes(map(str, folders), self.reactor, self.ends.append)  # type: ignore[arg-type]
        self.files.worker_end.settimeout(10.0)
        self.files.open()

    def __enter__(self) -> RequestingWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()
        self.files.worker_end.close()

    def ask(self, *request: Any) -> tuple[int, str]:
        self.files.worker_end.send(codec.encode([1, *request]))
        self.reactor.ready()
        _, code, text = codec.decode(self.files.worker_end.recv(9000))
        return code, text


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("request_", [
    b"\xc1", b"\x90", codec.encode([1, "chown", b"/x", [], 1]), codec.encode([1, "chmod", "text", [], 1]),
    codec.encode([1, "chmod", b"/x", [], "rwx"]), codec.encode([1, "utime", b"/x", [], [1], False]),
    codec.encode([1, "utime", b"/x", [], [1 << 63, 1], False]), codec.encode({"a": 1}), b"x" * 8192,
])  # fmt: skip
def test_malformed_requests_are_rejected(request_: bytes, own: Path) -> None:
    with RequestingWorker(own) as asking:
        asking.files.worker_end.send(request_)
        asking.reactor.ready()
        assert [error.id for error in asking.ends] == ["MK0215"]


@pytest.mark.parametrize(
    "path",
    [
        "{own}/../secret",
        "{own}/d/../../secret",
        "{own}/./f",
        "{own}//f",
        "{own}/",
        "{own}",
        "{own}x",
        "secret",
        "",
        "{own}/link",
        "{own}/way/secret",
        "/proc/self/fd/0",
    ],
)
def test_no_path_leads_out(path: str, own: Path) -> None:
    """Holds also for requests that a worker crafts itself, bypassing Python's functions."""
    secret = own.parent / "secret"
    secret.write_text("")
    secret.chmod(0o600)
    (own / "d").mkdir()
    (own / "link").symlink_to(secret)
    (own / "way").symlink_to(own.parent)
    with RequestingWorker(own) as asking:
        code, _ = asking.ask("chmod", path.format(own=own).encode(), [], 0o777)
        assert code in (errno.EPERM, errno.ELOOP, errno.ENOTDIR), errno.errorcode[code]
    assert mode_of(secret) == 0o600


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "another user's file"])
def test_only_the_plugins_own_files_and_folders_are_changed(kind: str, own: Path) -> None:
    path = own / "f"
    match kind:
        case "a pipe":
            os.mkfifo(path, 0o600)
        case "a socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)
        case _ if os.geteuid() != 0:
            pytest.skip("only root can make it")
        case "a device":
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        case _:
            path.touch(0o600)
            os.chown(path, 12345, -1)
    with RequestingWorker(own) as asking:
        assert asking.ask("chmod", bytes(path), [], 0o777)[0] == errno.EPERM
    assert mode_of(path) == 0o600


def test_a_path_with_a_nul_raises_in_the_plugin(own: Path) -> None:
    with RequestingWorker(own) as asking:
        assert asking.ask("chmod", bytes(own / "f") + b"\0x", [], 0o777)[0] == errno.EINVAL
        assert asking.ends == []


def test_a_folder_that_replaces_the_plugins_own_is_not_touched(own: Path) -> None:
    with RequestingWorker(own) as asking:
        own.rename(own.parent / "away")
        own.mkdir()
        (own / "f").touch(0o600)
        assert asking.ask("chmod", bytes(own / "f"), [], 0o777)[0] == errno.EPERM
    assert mode_of(own / "f") == 0o600


def test_a_descriptor_means_its_file_and_not_what_has_its_name_now(own: Path) -> None:
    path = own / "f"
    path.touch(0o600)
    found = path.stat()
    path.rename(own / "moved")
    path.touch(0o600)
    with RequestingWorker(own) as asking:
        assert asking.ask("chmod", bytes(path), [found.st_dev, found.st_ino], 0o777)[0] == errno.ENOENT
        assert asking.ask("chmod", bytes(own / "moved"), [found.st_dev, found.st_ino], 0o640)[0] == 0
    assert (mode_of(path), mode_of(own / "moved")) == (0o600, 0o640)


def test_a_link_created_meanwhile_is_not_followed(own: Path) -> None:
    """A thread keeps exchanging a folder for a link that leads out, while requests are made."""
    outside = own.parent / "outside"
    outside.mkdir()
    (outside / "f").touch(0o600)
    (own / "d").mkdir()
    (own / "d" / "f").touch(0o600)
    (own / "link").symlink_to(outside)
    ended = threading.Event()

    def exchange() -> None:
        while not ended.is_set():
            os.rename(own / "d", own / "e")
            os.rename(own / "link", own / "d")
            os.rename(own / "d", own / "link")
            os.rename(own / "e", own / "d")

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        with RequestingWorker(own) as asking:
            codes = {asking.ask("chmod", bytes(own / "d" / "f"), [], 0o777)[0] for _ in range(2000)}
    finally:
        ended.set()
        thread.join()
    assert codes <= {0, errno.ENOTDIR, errno.ELOOP, errno.ENOENT}
    assert mode_of(outside / "f") == 0o600


def test_a_folder_is_identified_by_its_path_without_links(own: Path) -> None:
    link = own.parent / "link"
    link.symlink_to(own)
    (own / "f").touch(0o600)
    folder = OwnFolder(str(link))
    assert folder.is_above(bytes(own / "f"))
    os.close(folder.open(bytes(own / "f")))
