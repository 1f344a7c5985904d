"""Handle of a zygote in the kernel: start it, have it fork workers, report their exits, replace it when it dies."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from microkernel.errors import IsolationUnavailable, shortage_in
from microkernel.hosts.procfs.processes import STACKS, STACKS_SIGNAL, is_alive
from microkernel.hosts.procfs.trees import end_trees
from microkernel.hosts.worker.cgroup_layout import Layout, Unavailable
from microkernel.hosts.worker.cgroups import Groups
from microkernel.hosts.worker.environment import interpreter_options, zygote_environment
from microkernel.hosts.worker.socket_pairs import above_standard_streams, blocking_pair
from microkernel.kernel.ports import Exit, Reactor
from microkernel.wire import codec
from microkernel.wire.messages import PROTOCOL

_START_TIMEOUT = 20.0
# How many zygotes may die during one fork.
_MAX_ATTEMPTS = 5
_EXIT_TIMEOUT = 10.0
# The collector is off, because what is imported stays. Our folders come after the standard library and before installed
# packages: most of what is imported is of the standard library, and each folder before it is searched in vain.
_BOOT = (
    "import gc, os, sys; gc.disable(); library = os.path.dirname(os.__file__); "
    "at = sys.path.index(library) + 1 if library in sys.path else 0; sys.path[at:at] = sys.argv[1:-5]; "
    "from microkernel.worker.zygote.server import main; main()"
)
_NEEDED = ("msgspec", "wasmtime")
_MAX_OUTPUT = 64 * 1024
_log = logging.getLogger("microkernel")

ExitCallback = Callable[[Exit], object]


class Fork:
    """A forked worker. The caller closes ``handle``, a pidfd."""

    __slots__ = ("handle", "pid")

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self.handle = handle


class ZygoteHandle:
    """Starts the zygote at the first fork. ``fork`` waits; everything else happens on the reactor's thread."""

    def __init__(
        self,
        reactor: Reactor,
        level: str,
        python: str,
        image: str = "",
        variables: Mapping[str, str] | None = None,
        groups: Groups | None = None,
    ) -> None:
        """Prepare the handle; nothing is started.

        ``image``: the guest's image, at the level wasm. ``variables``: environment variables that are read at exec.
        """
        self.groups = groups or Groups(_no_groups)
        self._reactor = reactor
        self._level = level
        self._python = python
        self._image = image
        self._variables = dict(variables or {})
        self._lock = threading.Lock()
        self._last_number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lifeline = -1
        self._ready = threading.Event()
        self._pending_forks: dict[int, tuple[threading.Event, list[Fork]]] = {}
        self._exit_callbacks: dict[int, ExitCallback] = {}
        self._workers: dict[int, Fork] = {}
        self._refusals: dict[int, str] = {}
        # Last line that a zygote printed which died before it was ready.
        self._last_output = ""
        # Whether the last zygote exited by itself before it was ready; the next one would do so too.
        self._is_unfit = False
        self._closing = False
        self._retired = False

    @property
    def pid(self) -> int | None:
        """The pid of the zygote itself, or None."""
        return self._process.pid if self._process else None

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int], on_exit: ExitCallback) -> Fork:
        """Fork a worker that gets these descriptors; ``on_exit`` is called when nothing of it is left.

        A zygote that dies during the fork is replaced, and the new one is asked. Raises IsolationUnavailable if no
        worker can be forked.
        """
        for _ in range(_MAX_ATTEMPTS):
            fork = self._request_fork(request, descriptors, on_exit)
            if fork is not None:
                return fork
        raise self._unavailable(f"the zygote dies again and again: {self._last_output}")

    def _request_fork(
        self, request: Mapping[str, Any], descriptors: Sequence[int], on_exit: ExitCallback
    ) -> Fork | None:
        """Ask the running zygote. Return None if it died during the fork."""
        with self._lock:
            control = self._ensure()
            if control is None:
                return None
            self._last_number += 1
            number = self._last_number
            arrived: tuple[threading.Event, list[Fork]] = (threading.Event(), [])
            self._pending_forks[number] = arrived
            self._exit_callbacks[number] = on_exit
            try:
                _send(control, number, {**request, "stacks": [STACKS, STACKS_SIGNAL]}, descriptors)
            except OSError as error:
                self._drop(number)
                if isinstance(error, ConnectionError) or self._control is not control:
                    self._reactor.run(partial(self._on_zygote_exit, control))
                    return None
                raise self._unavailable(f"no answer from the zygote: {error}", shortage_in(error)) from None
        has_answered = arrived[0].wait(_START_TIMEOUT)
        if arrived[1]:
            return arrived[1][0]
        self._drop(number)
        if has_answered and number not in self._refusals:
            return None
        refusal = _clarify(self._refusals.pop(number, ""))
        raise self._unavailable(f"no process can be started: {refusal or 'no answer'}", refusal)

    def ensure(self) -> None:
        """Start the zygote if it does not run. Raises IsolationUnavailable if it cannot be started."""
        with self._lock:
            self._ensure()

    def retire(self, retired: bool) -> None:
        """Have the zygote exit with its last worker, or cancel that. It is started again if a worker is requested
        later."""
        self._retired = retired
        self._reactor.post(self._end_if_idle)

    def close(self) -> None:
        """Have the zygote kill its workers and exit. Waits for it."""
        with self._lock:
            self._closing = True
            process, control = self._process, self._control
        if process is None or control is None:
            return
        control.shutdown(socket.SHUT_WR)
        try:
            process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reactor.post(partial(self._release, control))

    def _drop(self, number: int) -> None:
        for table in (self._pending_forks, self._exit_callbacks, self._workers):
            table.pop(number, None)

    def _unavailable(self, reason: str, shortage: str = "") -> IsolationUnavailable:
        error = IsolationUnavailable("MK0501", level=self._level, reason=reason)
        error.shortage = shortage
        return error

    def _ensure(self) -> socket.socket | None:
        """Return the control socket of a running zygote, or None if one died before it was ready."""
        if self._closing:
            raise self._unavailable("the kernel is stopping")
        if self._process is None or self._control is None:
            self._start()
        return self._control

    def _start(self) -> None:
        with ExitStack() as opened:
            ours, their_end = blocking_pair(takes_descriptors=True)
            opened.callback(ours.close)
            theirs = above_standard_streams(their_end.detach())
            opened.callback(os.close, theirs)
            lifeline, self._lifeline = map(above_standard_streams, os.pipe())
            opened.pop_all()
        self._ready = threading.Event()
        self._is_unfit = False
        try:
            self._process = _spawn(self._python, self._level, self._image, theirs, lifeline, self._variables)
        except OSError as error:
            ours.close()
            os.close(self._lifeline)
            shortage = shortage_in(error)
            raise self._unavailable(f"{self._python}: {shortage or error.strerror}", shortage) from None
        finally:
            os.close(theirs)
            os.close(lifeline)
        self._control = ours
        self._reactor.post(partial(self._watch, ours))
        if not self._ready.wait(_START_TIMEOUT):
            self._reactor.run(partial(self._on_zygote_exit, ours))
            raise self._unavailable(f"the zygote did not start: {self._last_output}")
        if self._is_unfit:
            raise self._unavailable(f"the zygote did not start: {self._last_output}")

    # On the reactor's thread

    def _watch(self, control: socket.socket) -> None:
        self._reactor.watch(control.fileno(), partial(self._on_readable, control))

    def _on_readable(self, control: socket.socket) -> None:
        try:
            data, descriptors = _receive(control)
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._on_zygote_exit(control)
            return
        message = codec.decode(data)
        if "refused" in message:
            self._refusals[message["refused"]] = message["reason"]
            self._pending_forks.pop(message["refused"], (threading.Event(), []))[0].set()
        elif "ready" in message:
            if message["ready"] == PROTOCOL:
                self._ready.set()
            else:
                self._on_zygote_exit(control)
                self._last_output = f"{self._python} has another version of microkernel"
        elif "spare" in message:
            self.groups.adopt(message["spare"])
        elif "forked" in message:
            self._on_forked(message, descriptors)
        elif (on_exit := self._exit_callbacks.pop(message["ended"], None)) is not None:
            fork = self._workers.pop(message["ended"], None)
            if fork is not None:
                self.groups.on_worker_exit(fork.pid)
            on_exit(exit_from_status(message["status"]))
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._retired or self._exit_callbacks or not self._lock.acquire(blocking=False):
            return  # the thread that holds the lock requests a worker, whose exit calls this again
        try:
            if not self._exit_callbacks and self._control is not None:
                self._control.shutdown(socket.SHUT_WR)
        finally:
            self._lock.release()

    def _on_forked(self, message: dict[str, Any], descriptors: list[int]) -> None:
        number = message["forked"]
        event, forks = self._pending_forks.pop(number, (threading.Event(), []))
        if descriptors:
            fork = self._workers[number] = Fork(message["pid"], descriptors[0])
            forks.append(fork)
        else:  # no descriptor was left for its handle. The worker exits when its runner closes the channel
            self._refusals[number] = "too many open files"
        event.set()

    def _on_zygote_exit(self, control: socket.socket) -> None:
        """The zygote died: end its workers and report their exits. Idempotent.

        Threads that wait for a fork see that none came; that is not a crash of a plugin.
        """
        if self._control is not control:
            return
        # Before the lifeline is closed: a worker that dies of that has no subreaper to kill what it started.
        end_trees([fork.pid for fork in self._workers.values() if is_alive(fork.handle)])
        self._workers.clear()
        self._is_unfit, self._last_output = (
            (False, "it was ready") if self._ready.is_set() else _collect_output(self._process)
        )
        unanswered, self._pending_forks = self._pending_forks, {}
        watched = {number: on_exit for number, on_exit in self._exit_callbacks.items() if number not in unanswered}
        self._exit_callbacks = {}
        ready = self._ready
        self._release(control)  # from here on another zygote may be started; what follows concerns the old one
        ready.set()
        for event, _ in unanswered.values():
            event.set()
        for on_exit in watched.values():
            on_exit(Exit("the process that starts plugins died", signal=9, uncharged=True))

    def _release(self, control: socket.socket) -> None:
        if self._control is not control:
            return
        self._reactor.unwatch(control.fileno())
        control.close()
        os.close(self._lifeline)
        process, self._process, self._control = self._process, None, None
        if process is not None:
            if process.stderr is not None:
                process.stderr.close()
            process.wait()


def _no_groups() -> Layout:
    raise Unavailable("not requested")


def _clarify(refusal: str) -> str:
    """Replace the reason EAGAIN, whose text does not mention processes, by one that names the shortage."""
    return shortage_in(BlockingIOError(errno.EAGAIN, refusal)) if refusal == os.strerror(errno.EAGAIN) else refusal


def _collect_output(process: subprocess.Popen[bytes] | None) -> tuple[bool, str]:
    """Kill a zygote that did not become ready. Return whether it had exited by itself, and the last line it printed.

    What it has started is killed too: ``python`` may be a script.
    """
    if process is None or process.stderr is None:
        return False, "it was not started"
    with suppress(ProcessLookupError, PermissionError):  # it has ended, with its group
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    status = process.wait()
    words = _read_available(process.stderr.fileno()).decode(errors="backslashreplace").strip()
    ending = f"it {describe_exit_code(status)} and printed nothing; `python` must be a Python interpreter"
    return status >= 0, words.splitlines()[-1] if words else ending


def _read_available(descriptor: int) -> bytes:
    """Return what can be read without waiting; a process that left its group may hold the other end open."""
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, _MAX_OUTPUT)
    except BlockingIOError:
        return b""


def describe_exit_code(code: int) -> str:
    """Describe how a process ended, from the return code that ``Popen`` gives."""
    if code == -signal.SIGKILL:
        return "did not answer"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"


def _spawn(
    python: str, level: str, image: str, control: int, lifeline: int, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the zygote with a clean environment, in its own session."""
    variables = dict(variables or {})
    ours = [str(Path(__file__).parents[3])]
    if python == sys.executable:  # another interpreter needs its own installation, because these contain C code
        ours += [str(Path(spec.origin).parents[1]) for spec in map(find_spec, _NEEDED) if spec and spec.origin]
    arguments = [*ours, level, image, str(control), str(lifeline), str(os.getpid())]
    return subprocess.Popen(
        [python, *interpreter_options(variables), "-c", _BOOT, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(control, lifeline),
        start_new_session=True,
        env=zygote_environment(variables),
    )


def _send(control: socket.socket, number: int, request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Send a fork request. Its content goes as a file, the last descriptor: only the child reads it, not the zygote."""
    file = os.memfd_create("request")
    try:
        with open(file, "wb", closefd=False) as content:
            content.write(codec.encode(request))
        socket.send_fds(control, [codec.encode(number)], [*descriptors, file])
    finally:
        os.close(file)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
    return data, descriptors


def exit_from_status(status: int) -> Exit:
    """Convert a wait status to an Exit."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return Exit(f"killed by {name}", signal=number)
    code = os.waitstatus_to_exitcode(status)
    return Exit(f"exit status {code}", code=code)
