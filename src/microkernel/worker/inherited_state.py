"""Process state that a zygote and its workers inherit from the kernel's program, and process state that they reset.

This is the only list. ``docs/operating.md`` has it for users, and ``tests/unit/hosts/test_inherited_state.py`` tests
each entry.

Reset, so that a worker finds what a fresh interpreter finds:

- signal masks and ignored signals: here. ``exec`` keeps both.
- standard streams and descriptors: ``process_setup.apply_request``.
- socket time-out, recursion limit, warning filters, ``gc``: by ``exec``, and by ``-I``, which ignores ``PYTHON*``
  variables. A socket that the kernel makes for a worker is blocking whatever the program's default time-out is
  (``hosts/worker/socket_pairs.py``).
- variables that address one process alone (``NOTIFY_SOCKET`` and its like): ``hosts/worker/environment.py``.

Inherited: umask, nice value, scheduling policy, CPU affinity, cgroup (or one below it), namespaces and resource limits,
except that the soft limit of open files is raised to the hard one and that no core files are written; by environment
variables locale and time zone; and, at level process, what the dynamic loader and the allocator read at ``exec``.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
_CANNOT_BE_SET = {signal.SIGKILL, signal.SIGSTOP}


def reset_signals() -> None:
    """Unblock all signals and give them the handlers of a fresh interpreter.

    The zygote calls it first: the thread that started it may have blocked SIGCHLD, and a program under ``nohup``
    ignores SIGHUP.
    """
    for number in signal.valid_signals() - _CANNOT_BE_SET - _IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for ignored in _IGNORED_BY_PYTHON:
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one, because the soft one is meant for programs that use
    ``select``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # forbidden on some systems; the lower limit is enough for a worker
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def lower_limit(limit: int, value: int) -> None:
    """Set a resource limit, soft and hard, but never above the hard limit that the process has.

    The operator's limit counts even if the process may raise it.
    """
    hard = resource.getrlimit(limit)[1]
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (least, least))


def take_environment(variables: Mapping[bytes, bytes]) -> None:
    """Set the environment of this worker. The zygote read the time zone when it started, so it is read again."""
    for name, value in variables.items():
        os.environb[name] = value
    time.tzset()
