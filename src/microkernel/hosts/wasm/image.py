"""Image of the wasm guest: an interpreter with the SDK, compiled for this machine, without any plugin.

It is built once per version and kept in a folder of the user's. The folder contains native code that runs unchecked, so
it is never used if others may write to the folder, or if its content is not what was built.
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
# Seconds after which the image of an unused version is removed.
_UNUSED = 30 * 24 * 3600.0
STEPS = ("gather", "componentize", "compile")
WAIT = "wait"
DAMAGED = "damaged"
_NEEDED = ("wasmtime", "componentize_py")
_UNFINISHED = "building-"
# Where a guest has its library: the path at the time of the build, for the standard library's files and ours.
_MOUNTS = ("/python", "/0")
# Empty folders in which the interpreter looks for the files of the modules that are frozen into it.
_FROZEN = "lib/python*"

# Path, device, inode, size, and times of modification and change in nanoseconds, of each file. A program cannot set the
# time of change.
Identities = list[tuple[str, int, int, int, int, int]]
# Images that this process has verified completely, each with its seal and the identities of its files at that time.
_verified: dict[Path, tuple[bytes, Identities]] = {}
# Nanoseconds after its last change in which a file may change again without a new time.
_SETTLED = 2_000_000_000

# Called with each of ``STEPS`` when it starts, with ``WAIT`` when another process is building, and with ``DAMAGED``
# when the image is not what was built.
Progress = Callable[[str], object]


def _ignore(_step: str) -> None:
    """Report no progress."""


class Image:
    """The image of this version, built or not."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or _cache() / "microkernel" / "wasm"
        self.path = self.folder / f"{_name(self.folder)}.cwasm"

    @property
    def library(self) -> Path:
        """The folder of the guest's modules as files: the standard library's and ours."""
        return self.path.with_suffix(".library")

    def mounts(self) -> dict[bytes, bytes]:
        """Return the library under the names that a guest has it by."""
        frozen = (f"{_MOUNTS[0]}/{folder.relative_to(self.library)}" for folder in self.library.glob(_FROZEN))
        return {os.fsencode(name): os.fsencode(self.library) for name in (*_MOUNTS, *frozen)}

    def is_built(self) -> bool:
        return self.path.exists() and self._seal.exists()

    def defect(self) -> str:
        """Return why the folder cannot be used; empty if it can. Creates nothing."""
        try:
            found = self.folder.stat()
        except FileNotFoundError:
            above = next(folder for folder in self.folder.parents if folder.exists())
            return "" if os.access(above, os.W_OK | os.X_OK) else _unusable_folder(self.folder, errno.EACCES)
        except OSError as error:
            return _unusable_folder(self.folder, error.errno)
        is_ours = found.st_uid == os.geteuid() and not found.st_mode & 0o077
        return "" if is_ours else f"{self.folder} must belong to you alone: chown it, and chmod 700"

    def ensure(self, progress: Progress = _ignore) -> Path:
        """Return the image; build it if it is missing or is not what was built. Waits while another kernel builds it.

        Raises IsolationUnavailable if it cannot be built.
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
        """Hold the lock in a folder that is this user's only, so that no other process builds there."""
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
            for left in self.folder.glob(f"{_UNFINISHED}*"):  # of builds that were killed
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
        """Remove images that were not used for long. Other versions may be in use at the same time."""
        for seal in self.folder.glob("*.sha256"):
            if time.time() - seal.stat().st_mtime > _UNUSED:
                seal.with_suffix(".cwasm").unlink(missing_ok=True)
                shutil.rmtree(seal.with_suffix(".library"), ignore_errors=True)  # older images have none
                seal.unlink()


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # an image built ahead may be in a read-only folder


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
    return Path(folder if os.path.isabs(folder) else f"/var/tmp/microkernel-{os.geteuid()}")  # a user without a home


def _name(folder: Path) -> str:
    """Return the name of the image, from its content and its builder. If the builder was removed since, any existing
    image will do."""
    key = _key()
    if builder := _version_of("componentize-py"):
        return f"{key}-{builder}"
    built = sorted(seal.stem for seal in folder.glob(f"{key}-*.sha256"))
    return built[-1] if built else key


def _key() -> str:
    """Return a hash of everything of ours in the image, and of the engine: compiled code is for one engine only."""
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
    """Return paths below the package, which may be in a zip file."""
    found = [path for source in _SOURCES for path in _modules(source)]
    return [*found, _WORLD, _CATALOG]


def _modules(path: str) -> list[str]:
    """Return the modules at this path, those in subpackages included."""
    resource = _resource(path)
    if not resource.is_dir():
        return [path] if path.endswith(".py") else []
    return sorted(module for each in resource.iterdir() for module in _modules(f"{path}/{each.name}"))


def _resource(path: str) -> Traversable:
    return _package().joinpath(*path.split("/"))


@cache
def _package() -> Traversable:
    return files("microkernel")


def _gather(tree: Path) -> None:
    """Copy the packages that a guest has. Its own codec replaces the one that uses C code."""
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
    """Return a hash of the image, and of the library's files and their names. Raises OSError."""
    content = sha256(_digest_of(image))
    above = len(os.path.join(library, ""))
    for path in _files_in(library):
        content.update(os.fsencode(path[above:]) + b"\0" + _digest_of(path))
    return content.hexdigest()


def _identities(image: Path, library: Path) -> Identities:
    """Return the identities of all files. Raises OSError."""
    return [_identity(path) for path in (str(image), *_files_in(library))]


def _identity(path: str) -> tuple[str, int, int, int, int, int]:
    found = os.stat(path)
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _last_change(files: Identities) -> int:
    return max(max(modified, changed) for *_, modified, changed in files)


def _files_in(library: Path) -> Iterator[str]:
    """Yield the files, always in the same order. Raises OSError."""
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
