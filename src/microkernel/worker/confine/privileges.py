"""Drop a worker's privileges: enter new namespaces where possible, and drop every capability."""

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
# User ids from here on are unused, by a convention of systemd.
_UNUSED_UIDS = 0x70000000


def enter_namespaces() -> list[str]:
    """Enter as many namespaces as this machine allows, and return them: all; as root without a user namespace; none."""
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
    """Give a worker of root a real user id that no other process has.

    Root is exempt from the limit on threads, and the limit counts all processes of one real user. The effective user
    determines the rights.
    """
    with suppress(OSError):  # the container has no such id: its threads are watched instead
        os.setresuid(_UNUSED_UIDS + os.getpid(), -1, -1)


def _map_own_user(user: int, group: int) -> None:
    for name, content in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent, which has one thread, exits.

    If it has exited already, this process ends now. The setting is lost when a process changes its user. Raises
    OSError.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def drop_capabilities() -> None:
    """Drop all capabilities, in all sets. Raises OSError if one is left.

    (A process that may not change the bounding set keeps it: it bounds what executing a program can give, which is
    refused by three other layers.)
    """
    for number in range(_MAX_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
            break
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def limit_threads(limit: int, namespaces: list[str]) -> None:
    """Limit threads if they are counted for this worker alone; elsewhere the limit would count all processes of its
    user."""
    if "user" in namespaces or os.getresuid()[0] >= _UNUSED_UIDS:
        lower_limit(resource.RLIMIT_NPROC, limit)
