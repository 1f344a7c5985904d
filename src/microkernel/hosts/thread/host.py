"""The level ``thread``: an instance in a thread of the kernel's process. Fastest, and only for trusted code.

It runs the same runtime as a worker, over a channel in memory. A thread that does not end on request has an exception
raised in it, which can end any Python code, but no C call, ``sleep`` or lock; and C code that keeps the GIL freezes the
whole process. Such a thread is disconnected from every API; it is never reported as stopped.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from microkernel.errors import PluginKilled
from microkernel.hosts.thread.interpreter_state import InterpreterState
from microkernel.hosts.thread.leftovers import LeakAudit
from microkernel.hosts.thread.memory_channel import MemoryChannel
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import (
    Audit,
    Availability,
    DirectLink,
    Exit,
    InstanceEvents,
    LaunchSpec,
    MessageSource,
    steady,
)
from microkernel.kernel.ports import Reactor as ReactorPort
from microkernel.sdk.loading.module_finders import release
from microkernel.sdk.loading.module_names import ModuleNames
from microkernel.sdk.runtime import threads
from microkernel.sdk.runtime.runtime import Runtime
from microkernel.sdk.runtime.threads import KillableThread
from microkernel.wire.messages import Message

# Seconds that a thread may take from reporting its exit to its end.
_JOIN_TIMEOUT = 1.0
_log = logging.getLogger("microkernel")
_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)
threads.clear_kills_with(lambda thread: _raise_in(thread, ctypes.py_object()))


def _current_frames() -> dict[int, FrameType]:
    """Return the frame of each thread.

    The collector is off meanwhile: it may let other threads run, and CPython before 3.13 holds a lock here that they
    wait for in turn.
    """
    with steady:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()


def _in_shared_code(frame: FrameType | None) -> bool:
    """Return whether a thread is about to take or release a lock that the whole process shares, of imports or of
    logging.

    It leaves that code by itself, and a later attempt raises the exception in it. (Only the innermost frame can be
    checked, because the thread keeps running.)
    """
    return frame is not None and frame.f_code.co_filename.startswith(_SHARED_CODE)


def _format_stack(thread: KillableThread, frame: FrameType | None) -> str:
    """Format a stack as ``faulthandler`` does, the most recent call first."""
    lines = [f"Thread {thread.name} (most recent call first):"]
    while frame is not None:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
        frame = frame.f_back
    return "\n".join([*lines, ""])


_SHARED_CODE = ("<frozen importlib", os.path.dirname(logging.__file__))


class ThreadHost:
    """Launches instances as threads."""

    level: Level = "thread"

    def __init__(self, reactor: ReactorPort, name: str = "", **_options: object) -> None:
        """``name``: the kernel's name."""
        self._reactor = reactor
        self._names = ModuleNames(name, shared=True)

    def available(self) -> Availability:
        return Availability("cannot be killed in C code")

    def launch(self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents) -> ThreadRunner:
        runner = ThreadRunner(spec, source, events, self._reactor, self._names)
        runner.thread.start()
        return runner

    def close(self) -> None:
        """Release the names of the plugins' modules for the next kernel in this process. The kernel has ended the
        instances."""
        release(self._names)


class ThreadRunner:
    """A thread and its channel in memory. All methods of ``ports.Runner`` return without waiting."""

    def __init__(
        self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents, reactor: ReactorPort, names: ModuleNames
    ) -> None:
        self._names = names
        self._events = events
        self._reactor = reactor
        self.channel = MemoryChannel(source, events)
        self.wake = self.pump = self.channel.notify
        self._runtime: Runtime | None = None
        self._interpreter_state = InterpreterState()
        self._leak_audit: LeakAudit | None = None
        load = spec.load
        self._exit = Exit("its thread was ended", signal=9)
        self.thread = KillableThread(self._run, f"{load.name}-{load.generation}", last=self._on_thread_exit)
        self.send(load)

    @property
    def pid(self) -> int | None:
        return None

    def send(self, message: Message) -> None:
        self.channel.push(message)

    def lane(self) -> None:
        """Return None: replies are handed over in memory."""

    def direct_link(self, number: int) -> None:
        """Return None: direct channels connect processes that the kernel has started."""

    def join_direct(self, number: int, link: DirectLink) -> bool:  # noqa: ARG002
        return False

    def drain(self, drained: Callable[[], object]) -> None:
        """Call ``drained`` at once: messages are handled in the call that sends them."""
        drained()

    def request_exit(self) -> None:
        at = _current_frames()
        for thread in self._threads():
            if not _in_shared_code(at.get(thread.ident or 0)):
                thread.inject_kill(_raise_in)
        self.channel.interrupt()
        runtime = self._runtime
        if runtime is not None:
            runtime.wake()

    def kill(self) -> None:
        self.channel.close()
        self.request_exit()
        runtime = self._runtime
        if runtime is not None:
            runtime.yield_names()

    def is_waiting(self) -> bool:
        """Return False: where a thread is, only the thread itself can tell."""
        return False

    def is_stopped(self) -> bool:
        """Return False: a thread cannot be stopped without the whole process."""
        return False

    def stack(self) -> str:
        at = _current_frames()
        return "\n".join(
            _format_stack(thread, at[thread.ident]) for thread in reversed(self._threads()) if thread.ident in at
        )

    def statistics(self, *, recent: bool = False) -> Mapping[str, Any]:  # noqa: ARG002 - it is always measured now
        wall = "unavailable"
        return {"protections": {"memory": wall, "cpu": wall, "files": wall, "network": wall, "hard kill": "watched"}}

    def audit(self) -> Audit:
        self.thread.join(_JOIN_TIMEOUT)
        return self._leak_audit.audit(_current_frames()) if self._leak_audit is not None else Audit()

    def _threads(self) -> list[KillableThread]:
        runtime = self._runtime
        others = runtime.threads() if runtime is not None else []
        return [thread for thread in (self.thread, *others) if thread.is_alive()]

    def _run(self) -> None:
        try:
            self._runtime = Runtime(self.channel, self._names)
            self._runtime.run()
            self._exit = Exit("its runtime ended", code=0)
        except PluginKilled:
            return
        except BaseException as error:
            _log.debug(
                "a plugin's thread ended: %s", "".join(traceback.format_exception(error))
            )  # keeps no object of the plugin
            self._exit = Exit(f"{type(error).__name__}: {error}", code=1)

    def _on_thread_exit(self) -> None:
        """Report the exit, when the plugin's other threads have ended too. Nothing can be raised in this thread any
        more."""
        try:
            self.channel.close()
            self._release_runtime()
        finally:
            self._reactor.post(self._report_end)  # after the messages that it sent before

    def _report_end(self) -> None:
        self.channel.finish()
        self._events.ended(self._exit)

    def _release_runtime(self) -> None:
        """Wait for the plugin's other threads, then release what it held. Only then nothing of it runs any more."""
        if self._runtime is None:
            return
        self._runtime.cancel_all()
        for thread in self._threads():
            if thread is not threading.current_thread():
                thread.join()
        names, modules, plugin = self._runtime.owned_resources()
        self._interpreter_state.register_names(names)
        self._leak_audit = LeakAudit(self._interpreter_state, modules, plugin)
        self._runtime.release()
        self._runtime = None
        self.channel.forget()
