"""The process that workers are forked from: exec'ed, single-threaded, a clean environment, and everything imported.

It is a child subreaper, and so is every worker for what it starts itself. So a child of the zygote that is no worker
was left by one that is dead: it is killed, and what it leaves in turn, until none is left. Only then is the worker's
end reported. When the kernel goes, the zygote kills all that is below it, and goes too.
"""

from __future__ import annotations

import array
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from math import ceil, inf
from typing import Any, NoReturn

from microkernel.wire.codec import decode, encode
from microkernel.wire.messages import PROTOCOL
from microkernel.worker import process_setup
from microkernel.worker.confine import sandbox
from microkernel.worker.inherited_state import raise_descriptor_limit, reset_signals
from microkernel.worker.main import become_worker, prepare
from microkernel.worker.zygote.prefork import PreforkedWorker, receive
from microkernel.worker.zygote.warmup import warm_up

_MAX_REQUEST = 64
_SPARE_DELAY = 0.006
"""Seconds for which a worker that was given its work has the processors for itself, before the next is forked: unless
that is wanted at once."""


class ZygoteServer:
    """``run`` returns when the kernel is gone and nothing is left below."""

    def __init__(self, control: socket.socket, lifeline: int, kernel: int, warm_up: Callable[[], object]) -> None:
        self._control = control
        self._warm_up = warm_up
        self._lifeline = lifeline
        self._kernel = kernel
        self._spare: PreforkedWorker | None = None
        self._spare_due = 0.0
        """When the next is forked: never, while there is one, or none was to be had."""
        self._workers: dict[int, int] = {}
        """The kernel's number of each living worker, by pid."""
        self._exits: list[dict[str, Any]] = []
        """Ends that are reported once nothing of them is left."""
        self._sigchld_pipe, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._sigchld_pipe, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._swept = 0.0
        self._sweep_cost = 0.0

    def run(self) -> None:
        poll = select.poll()
        for descriptor in (self._control.fileno(), self._sigchld_pipe, self._kernel):
            poll.register(descriptor, select.POLLIN)
        self._send({"ready": PROTOCOL, "pid": os.getpid()})
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._poll_timeout())}
            if self._kernel in ready or (self._control.fileno() in ready and not self._serve()):
                break
            if self._sigchld_pipe in ready:
                _drain(self._sigchld_pipe)
            self._reap()
            if time.monotonic() >= self._sweep_due:
                self._report_exits()
            if time.monotonic() >= self._spare_due:
                self._provide_spare()
        self._kill_all()

    def _serve(self) -> bool:
        """One request; False when the kernel has closed its end.

        What it says, one plugin's environment, is in a file that only the child reads: every later child has a copy of
        this memory, and whatever was freed in it.
        """
        data, descriptors = receive(self._control, _MAX_REQUEST)
        if not data:
            return False
        number = decode(data)
        try:
            worker = self._take_spare()
        except OSError as error:
            self._send({"refused": number, "reason": error.strerror})
        else:
            self._workers[worker.pid] = number
            self._send({"forked": number, "pid": worker.pid}, worker.handle)  # first: it may take our processor
            worker.assign(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._spare_due = time.monotonic() + _SPARE_DELAY
        return True

    def _take_spare(self) -> PreforkedWorker:
        """Or a fresh one, where there is none, or it has died. Raises OSError where none can be had."""
        self._reap()
        spare, self._spare = self._spare, None
        return spare or self._fork()

    def _provide_spare(self) -> None:
        """The next worker. Where none can be had now, whoever wants one is told."""
        self._spare_due = inf
        with suppress(OSError):
            self._spare = self._fork()
            self._send({"spare": self._spare.pid})

    def _fork(self) -> PreforkedWorker:
        return PreforkedWorker(self._become_child, self._warm_up, self._run_request)

    def _become_child(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        process_setup.detach_from_zygote()

    def _run_request(self, request: int, descriptors: list[int]) -> NoReturn:
        become_worker(decode(_read_request(request)), descriptors, self._lifeline)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._workers.pop(pid, None)
            if number is not None:
                self._exits.append({"ended": number, "status": status})
            elif self._spare is not None and pid == self._spare.pid:
                self._spare.close()
                self._spare = None

    def _poll_timeout(self) -> int | None:
        """Milliseconds until there is something to do without being asked; None where there is nothing."""
        due = min(self._sweep_due, self._spare_due)
        return ceil(max(0.0, due - time.monotonic()) * 1000) if due < inf else None

    @property
    def _sweep_due(self) -> float:
        """When what is left below may be looked for again: looking takes at most a tenth of the time."""
        return self._swept + 10 * self._sweep_cost if self._exits else inf

    def _report_exits(self) -> None:
        """Kill what dead workers left; report their ends when nothing is left."""
        began = time.monotonic()
        left = kill_children(os.getpid(), but={*self._workers, self._spare.pid if self._spare else 0})
        self._swept = time.monotonic()
        self._sweep_cost = self._swept - began
        self._reap()
        if not left:
            exits, self._exits = self._exits, []
            for end in exits:
                self._send(end)

    def _kill_all(self) -> None:
        """Until nothing is left: what is killed may leave children, which are ours then."""
        self._control.close()
        while kill_children(os.getpid()):
            select.select([self._sigchld_pipe], [], [], 0.05)
            _drain(self._sigchld_pipe)
            self._reap()

    def _send(self, message: dict[str, Any], *descriptors: int) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._control.sendmsg([encode(message)], ancillary)
        except OSError:
            return  # the kernel is gone: the next poll says so


def kill_children(parent: int, but: Container[int] = ()) -> bool:
    """Kill the children of a process, but for some; each as soon as it is seen. Whether there were any.

    Dead ones that nobody has waited for count. A process that leaps, forking and exiting again and again, is missed by
    a look that counts the living; but one of its forks is the parent's child, alive or dead, at every moment, and stays
    listed until the parent waits for it. So when there are none, nothing is left.
    """
    found = False
    for child in _children_of(parent):
        if child not in but:
            found = True
            _kill(child)
    return found


def _children_of(parent: int) -> Iterator[int]:
    """The newest first: before it can leap. The system's own list of them holds all that were there when it began to be
    read: none goes from it before its parent has waited for it, and what comes is put at its end. Where a system keeps
    no such list all processes are looked at, which takes a hundred times as long."""
    try:
        with open(f"/proc/{parent}/task/{parent}/children", "rb") as children:
            yield from map(int, reversed(children.read().split()))
    except FileNotFoundError:
        yield from (int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _parent_of(entry) == parent)


def _parent_of(process: str) -> int:
    """0 for one that is gone."""
    try:
        with open(f"/proc/{process}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _read_request(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            continue
    except BlockingIOError:
        return


def main() -> None:
    """Arguments: the level, the guest's image (empty but at the level wasm), the descriptors of the control socket and
    of the lifeline, and the kernel's pid."""
    level, image = sys.argv[-5:-3]
    control, lifeline, kernel = (int(argument) for argument in sys.argv[-3:])
    reset_signals()
    raise_descriptor_limit()
    process_setup.adopt_orphans()
    if level in ("sandbox", "wasm"):
        sandbox.prepare()
    if image:
        from microkernel.worker.wasm import runner  # its engine is installed only where it is wanted

        runner.prepare(image)
    handle = os.pidfd_open(kernel)
    if os.getppid() != kernel:
        sys.exit(f"its parent is process {os.getppid()}, not the kernel: a script must exec the interpreter")
    prepare()
    gc.collect()
    gc.freeze()
    gc.disable()
    ahead = warm_up if not image else int  # a guest's memory begins anew: no life before leaves it anything
    ZygoteServer(socket.socket(fileno=control), lifeline, handle, ahead).run()


if __name__ == "__main__":
    main()
