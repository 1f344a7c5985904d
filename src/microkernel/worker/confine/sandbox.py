"""The level ``sandbox``: a worker walls itself in before any code of a plugin is there, and tries the walls.

What was opened before stays open: the channel, the output, the file of stacks. Nothing of this can be undone.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from microkernel.wire.messages import ConfinementReport
from microkernel.worker.confine import landlock, privileges, proc_files, seccomp
from microkernel.worker.inherited_state import lower_limit

_ADDRESS_SPACE_RESERVE = 64 << 30
"""Addresses beyond the memory: threads and allocators reserve many that they never use. They bound page tables."""
_STACK = 64 << 20
"""Bytes of the main thread's stack, which RLIMIT_DATA does not count."""
_MAX_PENDING_SIGNALS = 256
"""Signals that may be pending, and timers, of which each holds one. The system counts them by user, and refuses the
user's other processes what one has taken."""
_FORBIDDEN = "/"
_filter: seccomp.Filter | None = None
_zygote_pid = 0
"""Its number, which is this process's parent. A worker has another tie to the kernel, its lifeline, which a plugin can
close; it cannot undo this one, and at these levels there is nothing below it that would be left."""


def prepare() -> None:
    """In the zygote: what all its workers need is made once."""
    global _filter, _zygote_pid
    _zygote_pid = os.getpid()
    _filter = seccomp.Filter(seccomp.machine())
    proc_files.pin(proc_files.OF_MACHINE)


def confine(requested: Mapping[str, Any]) -> ConfinementReport:
    """Wall this process in: ``read`` and ``write`` are the paths it may still open, ``threads`` how many it may have.

    What could not be had is named in ``missing``; then no plugin may run here.
    """
    layer = "system calls"
    try:
        if _filter is None:
            raise OSError(errno.ENOSYS, "the zygote has no filter")
        layer = "Landlock"
        rules, own = landlock.Rules(), proc_files.readable()
        closed = rules.allow([*_interpreter_paths(), *own, *requested["read"]], requested["granted"], write=False)
        closed |= rules.allow(requested["write"], requested["granted"], write=True)
        proc_files.pin([*proc_files.OWN, *requested["granted"]])
        layer = "limits"
        namespaces = privileges.enter_namespaces()
        _limit(requested, namespaces)
        layer = "capabilities"
        privileges.drop_capabilities()
        privileges.die_with(_zygote_pid)
        layer = "Landlock"
        rules.restrict()
        layer = "seccomp"
        seccomp.install(_filter)
    except OSError as error:
        return ConfinementReport(missing=f"{layer}: {error.strerror}")
    if os.getuid() != os.geteuid():
        os.access = _access
    unopened = {_display(path): _reason(closed[path]) for path in requested["granted"] if path in closed}
    return ConfinementReport(rules.version, namespaces, _failed_checks(), unopened_paths=unopened)


def _display(path: bytes) -> str:
    return path.decode(errors="backslashreplace")


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, str(error.strerror))


_BY_LINK = "a link leads there that a plugin may have made, or that is another for each process"
_REASONS = {errno.ENOENT: "it is not there", errno.ELOOP: _BY_LINK}


def _interpreter_paths() -> list[bytes]:
    """Its modules and its shared libraries."""
    return [os.fsencode(path) for path in (*sys.path, f"{sys.base_prefix}/lib", f"{sys.exec_prefix}/lib")]


def _limit(requested: Mapping[str, Any], namespaces: list[str]) -> None:
    privileges.limit_threads(requested["threads"], namespaces)
    memory = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if memory != resource.RLIM_INFINITY:
        lower_limit(resource.RLIMIT_AS, memory + _ADDRESS_SPACE_RESERVE)
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    lower_limit(resource.RLIMIT_STACK, _STACK if stack == resource.RLIM_INFINITY else min(stack, _STACK))
    lower_limit(resource.RLIMIT_SIGPENDING, _MAX_PENDING_SIGNALS)
    for name in (resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE, resource.RLIMIT_RTPRIO, resource.RLIMIT_NICE):
        resource.setrlimit(name, (0, 0))


_real_access = os.access


def _access(
    path: Any, mode: int, *, dir_fd: int | None = None, effective_ids: bool = True, follow_symlinks: bool = True
) -> bool:
    """``os.access`` asks for the real user, who is nobody here: see ``privileges``."""
    return _real_access(path, mode, dir_fd=dir_fd, effective_ids=effective_ids, follow_symlinks=follow_symlinks)


# The walls are tried: what a worker says of itself before the plugin's code is there, it cannot have been told to say.


def _failed_checks() -> list[str]:
    return [name for name, check in _CHECKS.items() if _succeeds(check)]


def _succeeds(check: Callable[[], object]) -> bool:
    try:
        check()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _open_forbidden() -> None:
    os.close(os.open(_FORBIDDEN, os.O_RDONLY))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


_CHECKS: dict[str, Callable[[], object]] = {
    "files": _open_forbidden,
    "network": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    "processes": _fork,
    "signals": lambda: os.kill(os.getppid(), 0),
}
