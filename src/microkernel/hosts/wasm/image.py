"""The image of the wasm guest: an interpreter with the SDK in it, compiled for this machine, and nobody's plugin yet.

It is built once per version, and kept in a folder of the user's own. What is in that folder is native code that will
run unchecked, so it is never read from a folder that others may write, nor when its content is not what was built.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

from microkernel.errors import IsolationUnavailable

_PACKAGE = Path(__file__).parents[2]
_SOURCES = ("errors.py", "__init__.py", "wire", "sdk", "guest")
_WORLD = "guest/world.wit"
_CATALOG = "messages/en.toml"
_MAIN = "microkernel.guest.main"
_COMPONENTIZE = "from componentize_py import script; script()"
_COMPILE = (
    "import sys; sys.path[:0] = sys.argv[3:]; from microkernel.worker.wasm.runner import build; build(*sys.argv[1:3])"
)
_UNUSED = 30 * 24 * 3600.0
"""Seconds after which the image of a version that nobody used is dropped."""
STEPS = ("gather", "componentize", "compile")
WAIT = "wait"
DAMAGED = "damaged"
_NEEDED = ("wasmtime", "componentize_py")
_UNFINISHED = "building-"
_MOUNTS = ("/python", "/0")
"""Where a guest has its library: where it was when the guest was built, the standard one's files and ours."""
_FROZEN = "lib/python*"
"""Empty: where the interpreter looks for the files of the modules that are frozen into it."""

Identities = list[tuple[str, int, int, int, int, int]]
"""Of each file its path, device, inode, size, and times of modification and change in nanoseconds. The time of change
cannot be set by a program."""
_verified: dict[Path, tuple[bytes, Identities]] = {}
"""Images that this process has read whole, each with its seal and the identities of its files at that time."""
_SETTLED = 2_000_000_000
"""Nanoseconds after its last change for which a file may still change without a new time."""

Progress = Callable[[str], object]
"""Told of each of ``STEPS`` when it begins, of ``WAIT`` when somebody else is at it, and of ``DAMAGED`` when what is
there is not what was built."""


class Image:
    """Where the guest of this version is, or will be."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or _cache() / "microkernel" / "wasm"
        self.path = self.folder / f"{_name(self.folder)}.cwasm"

    @property
    def library(self) -> Path:
        """The folder of the guest's modules as files: the standard library's, and ours."""
        return self.path.with_suffix(".library")

    def mounts(self) -> dict[bytes, bytes]:
        """The library, by the names that a guest has it under."""
        frozen = (f"{_MOUNTS[0]}/{folder.relative_to(self.library)}" for folder in self.library.glob(_FROZEN))
        return {os.fsencode(name): os.fsencode(self.library) for name in (*_MOUNTS, *frozen)}

    def is_built(self) -> bool:
        return self.path.exists() and self._seal.exists()

    def defect(self) -> str:
        """Why its folder cannot be used; empty if it can. Makes nothing."""
        try:
            found = self.folder.stat()
        except FileNotFoundError:
            above = next(folder for folder in self.folder.parents if folder.exists())
            return "" if os.access(above, os.W_OK | os.X_OK) else _unusable_folder(self.folder, errno.EACCES)
        except OSError as error:
            return _unusable_folder(self.folder, error.errno)
        is_ours = found.st_uid == os.geteuid() and not found.st_mode & 0o077
        return "" if is_ours else f"{self.folder} must be yours alone: chown it, and chmod 700"

    def ensure(self, progress: Progress = id) -> Path:
        """The image; built, if it is not there or is not what was built. Waits while another kernel builds it.

        Raises IsolationUnavailable where it cannot be built.
        """
        with self._locked(fcntl.LOCK_SH, progress):
            if self._is_intact():
                with suppress(OSError):  # where nothing can be written
                    os.utime(self._seal)
                return self.path
        with self._locked(fcntl.LOCK_EX, progress):
            if not self._is_intact():
                self._rebuild(progress)
        return self.path

    @property
    def _seal(self) -> Path:
        return self.path.with_suffix(".sha256")

    def _is_intact(self) -> bool:
        try:
            seal, files = self._seal.read_bytes(), _identities(self.path, self.library)
            if _verified.get(self.path) == (seal, files):
                return True
            if seal != _digest(self.path, self.library).encode():
                return False
        except OSError:
            return False
        if _last_change(files) < time.time_ns() - _SETTLED:
            _verified[self.path] = seal, files
        return True

    @contextmanager
    def _locked(self, how: int, progress: Progress) -> Iterator[None]:
        """In a folder that is ours alone, and nobody else builds there."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if defect := self.defect():
                raise _unavailable(defect)
            lock = _open_lock(self.folder / "lock")
        except OSError as error:
            raise _unavailable(_unusable_folder(self.folder, error.errno)) from None
        try:
            _wait_for(lock, how, progress)
            yield
        finally:
            os.close(lock)

    def _rebuild(self, progress: Progress) -> None:
        if self.is_built():
            progress(DAMAGED)
        try:
            for left in self.folder.glob(f"{_UNFINISHED}*"):  # of who was killed over it
                shutil.rmtree(left, ignore_errors=True)
            self._build(progress)
        except OSError as error:
            raise _unavailable(f"the guest could not be built in {self.folder}: {error.strerror}") from None

    def _build(self, progress: Progress) -> None:
        if not all(map(find_spec, _NEEDED)):
            raise IsolationUnavailable("MK0510", extra="wasm")
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self.folder) as folder:
            work = Path(folder)
            progress("gather")
            _gather(work / "tree")
            progress("componentize")
            component = work / "guest.wasm"
            world = ["--quiet", "--wit-path", str(work / "tree" / "microkernel" / _WORLD), "--world", "plugin"]
            guest = [_MAIN, "--python-path", str(work / "tree"), "--output", str(component)]
            _run([sys.executable, "-c", _COMPONENTIZE, *world, "componentize", *guest], work)
            progress("compile")
            image = work / self.path.name
            paths = [str(_PACKAGE.parent), *(path for path in sys.path if path)]
            _run([sys.executable, "-I", "-c", _COMPILE, str(component), str(image), *paths], work)
            self._remove_unused()
            library = work / self.library.name
            os.rename(work / "tree", library)
            seal = work / self._seal.name
            seal.write_text(_digest(image, library), encoding="ascii")
            for made in (image, library, seal):
                _install(made, self.folder / made.name)

    def _remove_unused(self) -> None:
        """Other versions may be in use beside this one."""
        for seal in self.folder.glob("*.sha256"):
            if time.time() - seal.stat().st_mtime > _UNUSED:
                seal.with_suffix(".cwasm").unlink(missing_ok=True)
                shutil.rmtree(seal.with_suffix(".library"), ignore_errors=True)  # it may be of before there were such
                seal.unlink()


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # what was built ahead may lie where nothing can be written


def _wait_for(lock: int, how: int, progress: Progress) -> None:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        progress(WAIT)
        fcntl.flock(lock, how)


def _install(made: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(made, target)


def _cache() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder if os.path.isabs(folder) else f"/var/tmp/microkernel-{os.geteuid()}")  # who has no home


def _name(folder: Path) -> str:
    """By what the guest is made of, and by who made it; where that was taken away since, by any that is there."""
    key = _key()
    if builder := _version_of("componentize-py"):
        return f"{key}-{builder}"
    built = sorted(seal.stem for seal in folder.glob(f"{key}-*.sha256"))
    return built[-1] if built else key


def _key() -> str:
    """Of all of ours that goes into it, and of the engine, whose code is for itself alone."""
    content = sha256()
    for path in _sources():
        content.update(f"{path}\0".encode() + _resource(path).read_bytes() + b"\0")
    content.update(f"{_version_of('wasmtime')} {platform.machine()}".encode())
    return content.hexdigest()[:32]


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _sources() -> list[str]:
    """Paths below the package, which may lie in a zip file."""
    found = [path for room in _SOURCES for path in _modules(room)]
    return [*found, _WORLD, _CATALOG]


def _modules(room: str) -> list[str]:
    """With those of the rooms in it."""
    place = _resource(room)
    if not place.is_dir():
        return [room] if room.endswith(".py") else []
    return sorted(path for each in place.iterdir() for path in _modules(f"{room}/{each.name}"))


def _resource(path: str) -> Traversable:
    return _package().joinpath(*path.split("/"))


@cache
def _package() -> Traversable:
    return files("microkernel")


def _gather(tree: Path) -> None:
    """The rooms that a guest has; its own codec stands where the one that is written in C does."""
    for source in _sources():
        target = tree / "microkernel" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_resource(source).read_bytes())
    shutil.move(tree / "microkernel/guest/codec.py", tree / "microkernel/wire/codec.py")


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        raise _unavailable(f"the guest could not be built: {lines[-1] if lines else 'no reason was given'}")


def _digest(image: Path, library: Path) -> str:
    """Of both, and of what the library's files are called. Raises OSError."""
    content = sha256(_digest_of(image))
    above = len(os.path.join(library, ""))
    for path in _files_in(library):
        content.update(os.fsencode(path[above:]) + b"\0" + _digest_of(path))
    return content.hexdigest()


def _identities(image: Path, library: Path) -> Identities:
    """Raises OSError."""
    return [_identity(path) for path in (str(image), *_files_in(library))]


def _identity(path: str) -> tuple[str, int, int, int, int, int]:
    found = os.stat(path)
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _last_change(files: Identities) -> int:
    return max(max(modified, changed) for *_, modified, changed in files)


def _files_in(library: Path) -> Iterator[str]:
    """Always in the same order. Raises OSError."""
    for folder, folders, names in os.walk(library, onerror=_raise):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names))


def _digest_of(path: Path | str) -> bytes:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").digest()


def _raise(error: OSError) -> None:
    raise error


def _unusable_folder(folder: Path, number: int | None) -> str:
    return f"no place for the guest in {folder}: {os.strerror(number or 0)}; XDG_CACHE_HOME names another"


def _unavailable(reason: str) -> IsolationUnavailable:
    return IsolationUnavailable("MK0501", level="wasm", reason=reason)
