"""Locations of the control sockets: ``<name>.sock`` for each kernel, in a folder that is private to the user."""

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

# Maximum length of a Unix socket's path in bytes.
_MAX_SOCKET_PATH = 107
# Seconds that another kernel may lock the folder.
_LOCK_TIMEOUT = 2.0
_CREDENTIALS = struct.Struct("3i")


def folder() -> Path:
    """Return the folder for a new kernel's socket: below ``XDG_RUNTIME_DIR`` if it exists, else below ``/tmp``."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "microkernel" if runtime and os.path.isdir(runtime) else _fallback()


def folders() -> list[Path]:
    """Return the folders that may contain a kernel's socket, because it may have been started with another
    environment."""
    return list(dict.fromkeys([folder(), _fallback()]))


def _fallback() -> Path:
    """Return the folder below ``/tmp``, also if it is not writable: a search for a kernel writes nothing."""
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError:
        place = "/tmp"
    return Path(place) / f"microkernel-{os.getuid()}"


def socket_path(name: str) -> Path:
    """Return the socket path of a kernel that is started here. Raises ConfigError for an invalid name."""
    return folder() / f"{check_kernel_name(name)}.sock"


def secure(place: Path) -> None:
    """Create the folder, or check that it belongs to this user and is private. Raises KernelError MK0704."""
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
    """Hold the lock of this folder, so that no other kernel adds or removes a socket. The folder itself is locked, so
    no lock file remains."""
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(handle, place)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, place: Path) -> None:
    until = time.monotonic() + _LOCK_TIMEOUT
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
    """Yield the address to bind or connect to: the path or, if it is too long for a socket, a shorter equivalent."""
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        yield str(path)
        return
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)


def credentials(connection: socket.socket) -> tuple[int, int]:
    """Return the process id and user id of the other end, as the OS reports them."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


def dial(path: Path, timeout: float = 5.0) -> socket.socket:
    """Connect to a kernel. Raises KernelError: MK0701 if none answers, MK0704 if the other end belongs to another
    user."""
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
    """Return the sockets of running kernels by name. Searches the other folder only if none is found in the first."""
    for place in folders():
        found = {path.stem: path for path in sorted(place.glob("*.sock")) if answers(path)}
        if found:
            return found
    return {}


def answers(path: Path) -> bool:
    """Return whether a kernel answers at this path."""
    try:
        dial(path, 1.0).close()
    except KernelError:
        return False
    return True


def find_kernel(name: str = "") -> Path:
    """Return the socket of the kernel with this name; without a name, of the only one.

    Raises KernelError: MK0701 if none runs, MK0707 if several do.
    """
    if name:
        paths = [place / f"{name}.sock" for place in folders()]
        return next((path for path in paths if path.exists()), paths[0])
    running = running_kernels()
    if len(running) > 1:
        raise KernelError("MK0707", names=sorted(running))
    return next(iter(running.values()), folder())
