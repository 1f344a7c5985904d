"""What a worker gives up before any code of a plugin runs, and what ties it to the kernel."""

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

inherited: set[int] = set()
"""Descriptors that a worker keeps, under their numbers, of those its zygote has."""

RLIMITS = {
    "memory": resource.RLIMIT_DATA,
    "files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
    "cpu": resource.RLIMIT_CPU,
}


def detach_from_zygote() -> None:
    """Own session, and what else is the same for all workers.

    Whatever it starts is its own to reap; what outlives it falls to the zygote, which kills all that is no worker.
    """
    os.setsid()
    adopt_orphans()
    _set_oom_score()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def apply_request(request: dict[str, Any], descriptors: Sequence[int], lifeline: int) -> list[int]:
    """Own descriptors, limits. Returns the descriptors of the channel, renumbered."""
    kept = _take_descriptors(descriptors, lifeline)
    _die_with_kernel(kept.pop())
    for name, limit in RLIMITS.items():
        if value := request["limits"].get(name, 0):
            lower_limit(limit, value)
    return kept


def adopt_orphans() -> None:
    """Become the parent of every process below that loses its own."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _take_descriptors(descriptors: Sequence[int], lifeline: int) -> list[int]:
    """Nothing in, output into the pipes, the channel (and the lifeline, last) from 3 on, and nothing else open."""
    down, up, out, err, *lanes = descriptors
    nothing = os.open(os.devnull, os.O_RDONLY)
    requested = [nothing, out, err, down, up, *lanes, os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY)]
    high = max([*requested, *inherited, len(requested)]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, high) for descriptor in requested]
    for place, descriptor in enumerate(moved):
        os.dup2(descriptor, place, inheritable=place < _FIRST_FREE)
    last = len(moved)
    for descriptor in (*sorted(inherited), os.sysconf("SC_OPEN_MAX")):
        os.closerange(last, descriptor)
        last = descriptor + 1
    return list(range(_FIRST_FREE, len(moved)))


def _die_with_kernel(lifeline: int) -> None:
    """The kernel holds the other end of this pipe and never writes. When it is gone, the system sends us SIGKILL: no
    thread of ours has to be able to run for that."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _set_oom_score() -> None:
    """When the machine runs out of memory, plugins go before the kernel."""
    try:
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, b"1000")
    except OSError:
        return  # a system may forbid it
    os.close(score)
