"""The image of the wasm guest: an interpreter with the SDK in it, compiled for this machine, and nobody's plugin yet.

It is built once per version, and kept in a folder of the user's own. What is in that folder is native code that will
run unchecked, so it is never read from a folder that others may write, nor when its content is not what was built.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from microkernel.errors import IsolationUnavailable

_PACKAGE = Path(__file__).parents[1]
_ROOMS = ("errors.py", "__init__.py", "wire", "sdk", "guest")
_WORLD = "guest/world.wit"
_CATALOG = "messages/en.toml"
_MAIN = "microkernel.guest.main"
_COMPONENTIZE = "from componentize_py import script; script()"
_COMPILE = "import sys; sys.path[:0] = sys.argv[3:]; from microkernel.worker.wasm import build; build(*sys.argv[1:3])"
_UNUSED = 30 * 24 * 3600.0
"""Seconds after which the image of a version that nobody used is dropped."""
STEPS = ("gather", "componentize", "compile")
WAIT = "wait"
_NEEDED = ("wasmtime", "componentize_py")

Progress = Callable[[str], object]
"""Told of each of ``STEPS`` when it begins, and of ``WAIT`` when somebody else is at it."""


class Image:
    """Where the guest of this version is, or will be."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or _cache() / "microkernel" / "wasm"
        self.path = self.folder / f"{_key()}.cwasm"

    def is_built(self) -> bool:
        return self.path.exists() and self._seal.exists()

    def ready(self, progress: Progress = id) -> Path:
        """The image; built, if it is not there. Waits while another kernel builds it.

        Raises IsolationUnavailable where it cannot be built, or is not to be trusted.
        """
        with self._alone(progress):
            if not self.is_built():
                try:
                    self._build(progress)
                except OSError as error:
                    raise _unavailable(f"the guest could not be built in {self.folder}: {error.strerror}") from None
            if self._seal.read_text(encoding="ascii") != _digest(self.path):
                self._seal.unlink()
                raise _unavailable(f"{self.path} is not what was built; it will be built anew at the next start")
            os.utime(self._seal)
        return self.path

    @property
    def _seal(self) -> Path:
        return self.path.with_suffix(".sha256")

    @contextmanager
    def _alone(self, progress: Progress) -> Iterator[None]:
        """In a folder that is ours alone, and nobody else at it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.stat()
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise _unavailable(f"{self.folder} must be yours alone: chown it, and chmod 700")
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unavailable(f"no place for the guest: {self.folder}: {error.strerror}") from None
        try:
            _wait_for(lock, progress)
            yield
        finally:
            os.close(lock)

    def _build(self, progress: Progress) -> None:
        if not all(map(find_spec, _NEEDED)):
            raise IsolationUnavailable("MK0510", extra="wasm")
        with tempfile.TemporaryDirectory(prefix="building-", dir=self.folder) as made:
            work = Path(made)
            progress("gather")
            _gather(work / "tree")
            progress("componentize")
            component = work / "guest.wasm"
            world = ["--quiet", "--wit-path", str(_PACKAGE / _WORLD), "--world", "plugin"]
            guest = [_MAIN, "--python-path", str(work / "tree"), "--output", str(component)]
            _run([sys.executable, "-c", _COMPONENTIZE, *world, "componentize", *guest], work)
            progress("compile")
            image = work / self.path.name
            paths = [str(_PACKAGE.parent), *(path for path in sys.path if path)]
            _run([sys.executable, "-I", "-c", _COMPILE, str(component), str(image), *paths], work)
            self._forget_unused()
            os.replace(image, self.path)
            self._seal.write_text(_digest(self.path), encoding="ascii")

    def _forget_unused(self) -> None:
        """Other versions may be in use beside this one."""
        for seal in self.folder.glob("*.sha256"):
            if time.time() - seal.stat().st_mtime > _UNUSED:
                seal.with_suffix(".cwasm").unlink(missing_ok=True)
                seal.unlink()


def _wait_for(lock: int, progress: Progress) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress(WAIT)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _cache() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder if os.path.isabs(folder) else f"/var/tmp/microkernel-{os.geteuid()}")  # who has no home


def _key() -> str:
    """Of all that goes into it, and of the engine, whose code is for itself alone."""
    content = sha256()
    for path in _sources():
        content.update(f"{path}\0".encode() + (_PACKAGE / path).read_bytes() + b"\0")
    try:
        engine = version("wasmtime")
    except PackageNotFoundError:
        engine = "none"
    content.update(f"{engine} {platform.machine()}".encode())
    return content.hexdigest()[:32]


def _sources() -> list[str]:
    rooms = [_PACKAGE / room for room in _ROOMS]
    files = [file for room in rooms for file in (sorted(room.glob("*.py")) if room.is_dir() else [room])]
    return [*(str(file.relative_to(_PACKAGE)) for file in files), _WORLD, _CATALOG]


def _gather(tree: Path) -> None:
    """The rooms that a guest has; its own codec stands where the one that is written in C does."""
    for source in _sources():
        target = tree / "microkernel" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_PACKAGE / source, target)
    shutil.move(tree / "microkernel/guest/codec.py", tree / "microkernel/wire/codec.py")


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        raise _unavailable(f"the guest could not be built: {lines[-1] if lines else 'no reason was given'}")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _unavailable(reason: str) -> IsolationUnavailable:
    return IsolationUnavailable("MK0501", level="wasm", reason=reason)
