"""Where this process may create control groups, and the names of their files in versions 1 and 2 of the interface.

Version 1 has a hierarchy per controller; groups are created below the process's own where it is writable. Version 2 has
a single hierarchy, owned by whoever it was delegated to: nothing is written except below a group marked as delegated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

CONTROLLERS = ("memory", "pids", "cpu", "freezer")
_V2_CONTROLLERS = ("memory", "pids", "cpu")
# How many of ``_V2_CONTROLLERS``, from the first, are required.
_V2_REQUIRED = 2
_KERNEL = "kernel"
_DELEGATED = ("user.delegate", "trusted.delegate")
_DELEGATION_HINT = "needs delegation: systemd-run --user --scope -p Delegate=yes mk run"
# Microseconds. The quota is the part of each period that a group may compute, on all processors together.
_PERIOD, _MIN_QUOTA = 100_000, 1_000
# Bytes in addition to the plugin's memory limit, because a group also counts what the system allocates for it.
SYSTEM_MEMORY = 64 << 20


class Unavailable(Exception):
    """No control groups can be created here; the text says why."""


class Layout(NamedTuple):
    """Folders for groups. ``folders``: for each controller, the folder in which groups are created."""

    version: int
    folders: Mapping[str, str]

    @property
    def enable(self) -> str:
        """What version 2 requires to be written before groups have controllers."""
        return " ".join(f"+{name}" for name in self.folders) if self.version == 2 else ""

    def describe(self) -> str:
        return f"cgroups v{self.version} ({', '.join(self.folders)})"

    def limits(self, memory: int, tasks: int, processors: float = 0.0) -> list[tuple[str, str, str]]:
        """Return what to write where: controller, file and content. 0 is no limit.

        The total of memory and swap has the same limit as memory, where the system counts swap.
        """
        quota = max(_MIN_QUOTA, int(processors * _PERIOD)) if processors else 0
        second = self.version == 2
        requested = [
            ("memory", "memory.max" if second else "memory.limit_in_bytes", memory),
            ("memory", "memory.swap.max" if second else "memory.memsw.limit_in_bytes", memory),
            ("pids", "pids.max", tasks),
            ("cpu", "cpu.max" if second else "cpu.cfs_quota_us", quota),
        ]
        return [
            (controller, file, _content(file, value))
            for controller, file, value in requested
            if value and controller in self.folders
        ]


def _content(file: str, value: int) -> str:
    if file == "memory.swap.max":
        return "0"
    return f"{value} {_PERIOD}" if file == "cpu.max" else str(value)


Attribute = Callable[[str, str], bytes]


def find(about: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup", attribute: Attribute = os.getxattr) -> Layout:
    """Find where groups can be created. Raises Unavailable."""
    own = _own_groups(about)
    v1 = _find_v1(own, root)
    if v1.folders:
        return v1
    second = f"{root}{own.get('', '').rstrip('/')}"
    if "" in own and os.path.exists(f"{second}/cgroup.controllers"):
        return _find_v2(second, attribute)
    has_v1 = any({*controllers.split(",")} & {*CONTROLLERS} for controllers in own)
    raise Unavailable("this user may make none in version 1" if has_v1 else "none is mounted")


def _own_groups(about: str) -> dict[str, str]:
    """Return the process's group by controller, or list of controllers; that of version 2 has the empty name."""
    try:
        with open(about, errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        raise Unavailable("none is mounted") from None
    return {controllers: path for _, controllers, path in lines}


def _find_v1(own: Mapping[str, str], root: str) -> Layout:
    folders = {}
    for controllers, path in own.items():
        for controller in set(controllers.split(",")) & {*CONTROLLERS}:
            folder = _writable(_mounted(root, controllers, controller), path)
            if folder:
                folders[controller] = folder
    return Layout(1, {name: folders[name] for name in CONTROLLERS if name in folders})


def _mounted(root: str, controllers: str, controller: str) -> str:
    return next((path for path in (f"{root}/{controllers}", f"{root}/{controller}") if os.path.isdir(path)), "")


def _writable(mount: str, path: str) -> str:
    """Return the group's folder; empty if none can be created in it. A container may see its own group as the root."""
    for folder in (mount + path.rstrip("/"), mount):
        if mount and os.path.exists(f"{folder}/cgroup.procs"):
            return folder if os.access(folder, os.W_OK, effective_ids=True) else ""
    return ""


def _find_v2(folder: str, attribute: Attribute) -> Layout:
    """Find the layout for version 2. ``folder``: the process's own group, perhaps the one that this or another kernel
    moved into."""
    group = os.path.dirname(folder) if os.path.basename(folder) == _KERNEL else folder
    if not os.access(group, os.W_OK, effective_ids=True) or not _is_delegated(group, attribute):
        raise Unavailable(_DELEGATION_HINT)
    has = [name for name in _V2_CONTROLLERS if name in _read(f"{group}/cgroup.controllers").split()]
    if not {*_V2_CONTROLLERS[:_V2_REQUIRED]} <= {*has}:
        raise Unavailable("memory and pids are not delegated")
    layout = Layout(2, dict.fromkeys(has, group))
    _vacate(group, layout.enable)
    return layout


def _is_delegated(group: str, attribute: Attribute) -> bool:
    for name in _DELEGATED:
        with suppress(OSError):
            if attribute(group, name) == b"1":
                return True
    return False


def _vacate(group: str, enable: str) -> None:
    """Move this process into a subgroup, next to those it creates, and enable the controllers.

    A group that passes controllers to its subgroups may not hold a process itself.
    """
    own = f"{group}/{_KERNEL}"
    with suppress(FileExistsError):
        os.mkdir(own)
    try:
        write(f"{own}/cgroup.procs", str(os.getpid()))
        write(f"{group}/cgroup.subtree_control", enable)
    except OSError:
        with suppress(OSError):  # another program is in the group, so this process moves back
            write(f"{group}/cgroup.procs", str(os.getpid()))
            os.rmdir(own)
        raise Unavailable("other processes are in the same group") from None


def write(path: str, content: str) -> None:
    """Write in a single call, as these files require. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, content.encode())
    finally:
        os.close(handle)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def unique(folders: Iterable[str]) -> list[str]:
    """Return each folder once, in order."""
    return list(dict.fromkeys(folders))
