"""Where the control sockets are: one a kernel, ``<name>.sock``, in a folder that is ours alone."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microkernel.errors import ConfigError, KernelError
from microkernel.kernel.admission.effective_config import check_kernel_name

_LONGEST = 107
"""Bytes that the path of a Unix socket may have."""
_PATIENCE = 2.0
"""Seconds that another kernel may take to look at the folder."""
_CREDENTIALS = struct.Struct("3i")


def folder() -> Path:
    """Where a kernel puts its socket: below ``XDG_RUNTIME_DIR`` if there is one, else below ``/tmp``."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "microkernel" if runtime and os.path.isdir(runtime) else _fallback()


def folders() -> list[Path]:
    """Where a kernel's socket may be: who started it may have had another environment."""
    return list(dict.fromkeys([folder(), _fallback()]))


def _fallback() -> Path:
    """Also where nothing can be written: whoever looks for a kernel writes nothing."""
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError:
        place = "/tmp"
    return Path(place) / f"microkernel-{os.getuid()}"


def socket_path(name: str) -> Path:
    """The socket of a kernel that is started here. Raises ConfigError for a name that is no file's."""
    return folder() / f"{check_kernel_name(name)}.sock"


def secure(place: Path) -> None:
    """Make the folder, or see that it is ours and nobody else may look into it. Raises KernelError MK0704."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise KernelError("MK0704", path=str(place), uid=found.st_uid)
        if stat.S_IMODE(found.st_mode) != 0o700:
            place.chmod(0o700)
    except OSError as error:
        raise ConfigError("MK0705", path=str(place), reason=(error.strerror or str(error)).lower()) from None


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Nobody else takes or gives up a socket in this folder meanwhile. The lock is the folder's: no file is left."""
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(handle, place)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, place: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise ConfigError("MK0705", path=str(place), reason="another program keeps it locked") from None
            time.sleep(0.01)


@contextmanager
def address(path: Path) -> Iterator[str]:
    """What to bind or connect to: the path, or, where that is too long for a socket, a short way to it."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)


def credentials(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the system knows them."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


def dial(path: Path, timeout: float = 5.0) -> socket.socket:
    """A connection. Raises KernelError: MK0701 where no kernel answers, MK0704 where somebody else would."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        with address(path) as short:
            connection.connect(short)
        uid = credentials(connection)[1]
        if uid not in (os.getuid(), 0):
            raise KernelError("MK0704", path=str(path), uid=uid)
    except OSError:
        connection.close()
        raise KernelError("MK0701", path=str(path)) from None
    except KernelError:
        connection.close()
        raise
    connection.settimeout(None)
    return connection


def running_kernels() -> dict[str, Path]:
    """The sockets at which a kernel answers, by the kernel's name. Elsewhere is looked only if none runs here."""
    for place in folders():
        found = {path.stem: path for path in sorted(place.glob("*.sock")) if answers(path)}
        if found:
            return found
    return {}


def answers(path: Path) -> bool:
    """Whether a kernel is there."""
    try:
        dial(path, 1.0).close()
    except KernelError:
        return False
    return True


def find_kernel(name: str = "") -> Path:
    """The socket of the kernel of this name; without a name, of the only one.

    Raises KernelError: MK0701 where none runs, MK0707 where several do.
    """
    if name:
        paths = [place / f"{name}.sock" for place in folders()]
        return next((path for path in paths if path.exists()), paths[0])
    running = running_kernels()
    if len(running) > 1:
        raise KernelError("MK0707", names=sorted(running))
    return next(iter(running.values()), folder())
