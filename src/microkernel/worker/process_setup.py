"""Set up a worker's process before any code of a plugin runs: session, descriptors, limits, end with the kernel."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
from collections.abc import Sequence
from typing import Any

from microkernel.worker.inherited_state import lower_limit

_PR_SET_CHILD_SUBREAPER = 36
_F_SETSIG = 10
_FIRST_FREE = 3
_libc = ctypes.CDLL(None, use_errno=True)

# Descriptors of the zygote that its workers keep, under the same numbers.
_inherited: set[int] = set()

RLIMITS = {
    "memory": resource.RLIMIT_DATA,
    "files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
    "cpu": resource.RLIMIT_CPU,
}


def keep_open(descriptors: set[int]) -> None:
    """Have workers that are forked from now on keep these descriptors of the zygote."""
    global _inherited
    _inherited |= descriptors


def detach_from_zygote() -> None:
    """Start a session, and apply what is the same for all workers.

    A worker reaps what it starts. What outlives it falls to the zygote, which kills every child that is not a worker.
    """
    os.setsid()
    adopt_orphans()
    _set_oom_score()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def apply_request(request: dict[str, Any], descriptors: Sequence[int], lifeline: int) -> list[int]:
    """Take the descriptors and limits of a request. Return the descriptors of the channel, renumbered."""
    kept = _take_descriptors(descriptors, lifeline)
    _die_with_kernel(kept.pop())
    for name, limit in RLIMITS.items():
        if value := request["limits"].get(name, 0):
            lower_limit(limit, value)
    return kept


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent exits (a child subreaper)."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _take_descriptors(descriptors: Sequence[int], lifeline: int) -> list[int]:
    """Set up the descriptors: nothing to read, output to the pipes, the channel from 3 on, the lifeline last. All
    others are closed."""
    down, up, out, err, *lanes = descriptors
    nothing = os.open(os.devnull, os.O_RDONLY)
    requested = [nothing, out, err, down, up, *lanes, os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY)]
    high = max([*requested, *_inherited, len(requested)]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, high) for descriptor in requested]
    for target, descriptor in enumerate(moved):
        os.dup2(descriptor, target, inheritable=target < _FIRST_FREE)
    last = len(moved)
    for descriptor in (*sorted(_inherited), os.sysconf("SC_OPEN_MAX")):
        os.closerange(last, descriptor)
        last = descriptor + 1
    return list(range(_FIRST_FREE, len(moved)))


def _die_with_kernel(lifeline: int) -> None:
    """Have the system send SIGKILL to this process when the kernel is gone.

    The kernel holds the other end of this pipe and never writes to it. No thread of this process has to be able to run
    for that.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _set_oom_score() -> None:
    """Have the system kill plugins before the kernel when memory runs out."""
    try:
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, b"1000")
    except OSError:
        return  # forbidden on some systems
    os.close(score)
