"""The level ``sandbox``: a worker confines itself before any code of a plugin is loaded, and checks the result.

What was opened before stays open: the channel, the output, the file of stacks. None of this can be undone.
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

# Bytes of address space beyond the memory limit, which bound page tables. Threads and allocators reserve much that they
# never use.
_ADDRESS_SPACE_RESERVE = 64 << 30
# Bytes of the main thread's stack, which RLIMIT_DATA does not count.
_STACK = 64 << 20
# Signals that may be pending, and timers, each of which holds one. The system counts them per user, and refuses other
# processes of the user what one has taken.
_MAX_PENDING_SIGNALS = 256
_FORBIDDEN = "/"
_filter: seccomp.Filter | None = None
# The zygote, this process's parent. A worker has another tie to the kernel, its lifeline, which a plugin can close. It
# cannot undo this one, and at these levels there is nothing below it that would be left.
_zygote_pid = 0


def prepare() -> None:
    """Create in the zygote, once, what all its workers need."""
    global _filter, _zygote_pid
    _zygote_pid = os.getpid()
    _filter = seccomp.Filter(seccomp.machine())
    proc_files.pin(proc_files.OF_MACHINE)


def confine(requested: Mapping[str, Any]) -> ConfinementReport:
    """Confine this process: ``read`` and ``write`` are the paths it may still open, ``threads`` how many it may have.

    A layer that cannot be installed is named in ``missing``; no plugin may run then.
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
    """Return the paths of its modules and its shared libraries."""
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
    """``os.access`` for the effective user. The system call checks the real user, which has no rights here: see
    ``privileges``."""
    return _real_access(path, mode, dir_fd=dir_fd, effective_ids=effective_ids, follow_symlinks=follow_symlinks)


# The worker tries what must be refused. Before the plugin's code is loaded, no plugin can influence what it reports.


def _failed_checks() -> list[str]:
    """Return the forbidden operations that succeeded."""
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


def _open_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _signal_parent() -> None:
    os.kill(os.getppid(), 0)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


_CHECKS: dict[str, Callable[[], object]] = {
    "files": _open_forbidden,
    "network": _open_socket,
    "processes": _fork,
    "signals": _signal_parent,
}
