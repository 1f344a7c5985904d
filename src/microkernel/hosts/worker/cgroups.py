"""Control groups, one for each worker: its memory and its processes are limited and killed as one.

A waiting worker is moved before it is needed (a move takes the system up to 20 ms), so no start is slower. A worker
that was not forked ahead is moved while it starts. All of this happens on one separate thread.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue

from microkernel.hosts.worker.cgroup_layout import Layout, Unavailable, find, unique, write

_PREFIX = "microkernel-"
_MAX_ATTEMPTS = 10
_KILL_ROUNDS = 200
_PAUSE = 0.01
_REMOVE_TIMEOUT = 2.0
_NO_LIMITS = (0, 0, 0.0)


class Group:
    """The control group of one worker; where there are none, its methods do nothing. On any thread."""

    def __init__(self, groups: Groups, pid: int) -> None:
        self.pid = pid
        self._groups = groups

    def limit(self, memory: int, tasks: int, processors: float = 0.0) -> None:
        """Limit bytes, processes and threads together, and processors; 0 for none. Takes effect now, or when the worker
        is moved."""
        self._groups.limit(self.pid, memory, tasks, processors)

    def enforced(self) -> frozenset[str]:
        """Return which limits the system enforces on this worker, read back: ``memory``, ``threads``,
        ``processors``."""
        return self._groups.enforced(self.pid)

    def oom_kills(self) -> int:
        """Return how many of its processes the system killed because the group's memory was used up."""
        return self._groups.oom_kills(self.pid)

    def end(self) -> None:
        """Kill what is left in the group of a worker that has exited, and remove the group. Does not wait."""
        self._groups.remove(self.pid)


class Groups:
    """The control groups of one host. If the system has none, every method does nothing, and ``enforced`` returns
    none."""

    def __init__(self, find: Callable[[], Layout] = find) -> None:
        self._find = find
        self.layout: Layout | None = None
        # Why there are none.
        self.reason = ""
        self._is_open = False
        self._lock = threading.Lock()
        self._handle = -1
        self._bases: dict[str, str] = {}
        self._moved: set[int] = set()
        self._limits: dict[int, tuple[int, int, float]] = {}
        self._unremoved: set[int] = set()
        self._claimed: set[int] = set()
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Find where groups can be created; once, before the first worker."""
        with self._lock:
            if not self._is_open:
                self._is_open = True
                self._open()

    def describe(self) -> str:
        """Describe them for `mk doctor`; empty if there are none."""
        self.open()
        return self.layout.describe() if self.layout is not None else ""

    def adopt(self, pid: int) -> None:
        """Create a group for this worker and move it there, unless that has been done."""
        if self.layout is not None and pid not in self._moved:
            self._post(lambda: self._move(pid))

    def claim(self, pid: int) -> Group:
        """Return the worker's group. A claimed group is removed on request; an unclaimed one when the worker has
        exited."""
        self._claimed.add(pid)
        self.adopt(pid)
        return Group(self, pid)

    def limit(self, pid: int, memory: int, tasks: int, processors: float = 0.0) -> None:
        self._limits[pid] = memory, tasks, processors
        if pid in self._moved:
            self._set_limits(pid)

    def enforced(self, pid: int) -> frozenset[str]:
        if self.layout is None or pid not in self._moved:
            return frozenset()
        named = {"memory": "memory", "pids": "threads", "cpu": "processors"}
        requested = self.layout.limits(*self._limits.get(pid, _NO_LIMITS))
        return frozenset(
            named[controller]
            for controller in named
            if any(each == controller for each, _, _ in requested)
            and self._contains(pid, controller)
            and all(self._is_set(pid, *each) for each in requested if each[0] == controller)
        )

    def oom_kills(self, pid: int) -> int:
        layout = self.layout
        if layout is None or "memory" not in layout.folders or pid not in self._moved:
            return 0
        file = "memory.events" if layout.version == 2 else "memory.oom_control"
        with suppress(OSError, ValueError):
            for line in _lines(f"{self._bases['memory']}/{pid}/{file}"):
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        return 0

    def on_worker_exit(self, pid: int) -> None:
        if pid not in self._claimed:
            self.remove(pid)

    def remove(self, pid: int) -> None:
        self._claimed.discard(pid)
        if self.layout is not None:
            self._post(lambda: self._remove(pid))

    def close(self) -> None:
        """Remove all groups. No worker is left. Waits."""
        with self._lock:
            self._is_open = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()
        if self.layout is not None:
            self.layout = None
            _clear(unique(self._bases.values()), time.monotonic() + _REMOVE_TIMEOUT)
            os.close(self._handle)

    # On the thread, or before there is one

    def _open(self) -> None:
        try:
            layout = self._find()
            self._bases, self._handle = _make_bases(layout)
        except Unavailable as error:
            self.reason = str(error)
            return
        except OSError as error:
            self.reason = (error.strerror or str(error)).lower()
            return
        self.layout = layout
        self._post(lambda: _sweep(layout))

    def _post(self, job: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the system has no thread left: these workers are watched instead
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="microkernel-cgroups", daemon=True)
                thread.start()
                self._thread = thread
            self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            with suppress(OSError):  # the worker has exited, or its group was removed
                job()

    def _move(self, pid: int) -> None:
        if pid in self._moved:
            return
        self._unremoved.discard(pid)
        for base in unique(self._bases.values()):
            with suppress(FileExistsError):
                os.mkdir(f"{base}/{pid}")
            write(f"{base}/{pid}/cgroup.procs", str(pid))
        self._move_started(pid)
        self._moved.add(pid)
        self._set_limits(pid)

    def _move_started(self, pid: int) -> None:
        """Move the processes that a worker started before it was moved.

        Orphans are among the worker's descendants, because the worker is a subreaper.
        """
        moved: set[int] = set()
        while new := {*_descendants(pid)} - moved:
            for each in new:
                for base in unique(self._bases.values()):
                    with suppress(OSError):  # it has exited
                        write(f"{base}/{pid}/cgroup.procs", str(each))
            moved |= new

    def _set_limits(self, pid: int) -> None:
        assert self.layout is not None
        for controller, file, content in self.layout.limits(*self._limits.get(pid, _NO_LIMITS)):
            with suppress(OSError):  # it has exited, or the system does not count swap; limits are read back
                write(f"{self._bases[controller]}/{pid}/{file}", content)

    def _contains(self, pid: int, controller: str) -> bool:
        with suppress(OSError):
            return str(pid) in _lines(f"{self._bases[controller]}/{pid}/cgroup.procs")
        return False

    def _is_set(self, pid: int, controller: str, file: str, content: str) -> bool:
        """Return whether this limit is in force. Without swap accounting the file is missing, and there is no such
        limit."""
        try:
            found = "".join(_lines(f"{self._bases[controller]}/{pid}/{file}"))
        except FileNotFoundError:
            return file in ("memory.swap.max", "memory.memsw.limit_in_bytes")
        except OSError:
            return False
        value = found.split(" ")[0]  # of `cpu.max` the quota
        return value.isdigit() and int(value) <= int(content.split(" ")[0])

    def _remove(self, pid: int) -> None:
        """Kill and remove a group. Removal may have to wait for processes that are exiting: each later call tries
        again."""
        self._limits.pop(pid, None)
        self._moved.discard(pid)
        # The freezer is the last controller; while it holds a group, the group does not grow.
        bases = unique(self._bases.values())[::-1]
        for base in bases:
            end_group(f"{base}/{pid}")
        self._unremoved.add(pid)
        for left in list(self._unremoved):
            removed = [_try_remove(f"{base}/{left}") for base in bases]
            if all(removed):
                self._unremoved.discard(left)


def end_group(group: str) -> None:
    """Kill everything in a group, at once if the system can (``cgroup.kill``); otherwise repeatedly until nothing is
    left.

    Meanwhile the freezer, if this is one, keeps the group from growing. Groups inside it, which only root can have
    created, are removed.
    """
    if not os.path.isdir(group):
        return
    for inner in _groups_in(group):
        end_group(inner)
        _try_remove(inner)
    if not _pids(group):
        return
    with suppress(OSError):
        write(f"{group}/cgroup.kill", "1")
        return
    with suppress(OSError):
        write(f"{group}/freezer.state", "FROZEN")
    for _ in range(_KILL_ROUNDS):
        if not (pids := _pids(group)):
            break
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with suppress(OSError):
            write(f"{group}/freezer.state", "THAWED")
        time.sleep(_PAUSE)


def _pids(group: str) -> list[int]:
    with suppress(OSError, ValueError):
        return [int(line) for line in _lines(f"{group}/cgroup.procs")]
    return []


def _descendants(pid: int) -> Iterator[int]:
    """Yield the descendants of a process. A loop, because the plugin decides how deep they are nested."""
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        yield from children
        waiting += children


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as children:
            return [int(each) for each in children.read().split()]
    except (OSError, ValueError):  # it has exited, or the system keeps no such list
        return []


def _lines(path: str) -> list[str]:
    with open(path, "rb", buffering=0) as file:
        return file.readall().decode(errors="replace").split("\n")[:-1]


def _try_remove(group: str) -> bool:
    try:
        os.rmdir(group)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _make_bases(layout: Layout) -> tuple[dict[str, str], int]:
    """Create this kernel's folders; the first stays locked for as long as the kernel lives. Raises OSError."""
    folders = unique(layout.folders.values())
    for _ in range(_MAX_ATTEMPTS):
        made = tempfile.mkdtemp("", _PREFIX, folders[0])
        handle = _try_lock(made)
        if handle >= 0:
            break
        _try_remove(made)  # another kernel removed it before it was locked
    else:
        raise OSError("another program removes its groups")
    name = os.path.basename(made)
    for folder in folders[1:]:
        os.mkdir(f"{folder}/{name}", 0o700)
    if layout.enable:
        write(f"{made}/cgroup.subtree_control", layout.enable)
    return {controller: f"{folder}/{name}" for controller, folder in layout.folders.items()}, handle


def _try_lock(folder: str) -> int:
    """Open and lock a folder. Return -1 if another process has the lock, or it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(folder), os.fstat(handle)):
            return handle
    os.close(handle)
    return -1


def _sweep(layout: Layout) -> None:
    """Kill and remove what dead kernels left: folders that no process has locked."""
    folders = unique(layout.folders.values())
    for name in _names(folders[0]):
        handle = _try_lock(f"{folders[0]}/{name}")
        if handle >= 0:
            _clear([f"{folder}/{name}" for folder in folders], time.monotonic() + _REMOVE_TIMEOUT)
            os.close(handle)


def _names(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return [
            entry.name
            for entry in entries
            if entry.name.startswith(_PREFIX) and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        ]


def _clear(bases: list[str], until: float) -> None:
    """Remove these with all groups in them. The first, which is locked, goes last."""
    for base in reversed(bases):
        for group in (*_groups_in(base), base):
            end_group(group)
            while not _try_remove(group) and time.monotonic() < until:
                time.sleep(_PAUSE)


def _groups_in(base: str) -> Iterator[str]:
    with suppress(OSError):
        for entry in os.scandir(base):
            if entry.is_dir(follow_symlinks=False):
                yield entry.path
