"""What a worker gives up of its user: namespaces of its own where it can have them, and every capability."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress

from microkernel.worker.inherited_state import lower_limit

_libc = ctypes.CDLL(None, use_errno=True)
_NEW = {"user": 0x10000000, "net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000}
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64
_UNUSED_UIDS = 0x70000000
"""From here on the numbers of users are nobody's, by the convention of systemd."""


def enter_namespaces() -> list[str]:
    """As many as this machine gives: all; as root without a namespace of users; none."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _use_unique_real_user()
    for requested in (("user", "net", "ipc", "uts"), ("net", "ipc", "uts"), ("net",)):
        if _libc.unshare(sum(_NEW[name] for name in requested)) == 0:
            if "user" in requested:
                _map_own_user(user, group)
            return list(requested)
    return []


def _use_unique_real_user() -> None:
    """No limit on threads holds for root, and what limit there is counts all of one user's: as its real user, which is
    who is counted, each worker has a number that nobody else has. Its rights are those of the effective user."""
    with suppress(OSError):  # the container has no such number: its threads are watched then
        os.setresuid(_UNUSED_UIDS + os.getpid(), -1, -1)


def _map_own_user(user: int, group: int) -> None:
    for name, content in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, which has one thread. If it has ended already, so does
    this process. The system forgets it when a process changes its user. Raises OSError."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def drop_capabilities() -> None:
    """All of them, in all sets. Raises OSError if one is left. (The bounding set is left to who may not touch it: it
    bounds what executing a program can give, and that is refused thrice.)"""
    for number in range(_MAX_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
            break
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def limit_threads(limit: int, namespaces: list[str]) -> None:
    """Where they are counted for this worker alone; elsewhere this would count all processes of its user."""
    if "user" in namespaces or os.getresuid()[0] >= _UNUSED_UIDS:
        lower_limit(resource.RLIMIT_NPROC, limit)
