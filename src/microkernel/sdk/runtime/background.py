"""Work beside the handlers: threads for functions, tasks for coroutine functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from microkernel.errors import PluginKilled
from microkernel.sdk.binding.handlers import is_async
from microkernel.sdk.binding.signature import name_of
from microkernel.sdk.process_copies import IN_THIS_PROCESS
from microkernel.sdk.runtime.executor import DEATHS
from microkernel.sdk.runtime.threads import KillableThread


class BackgroundTasks:
    """What one instance has spawned. Threads are daemons: they are asked to end by ``api.is_active``."""

    def __init__(self, report: Callable[[str, BaseException], object]) -> None:
        """``report`` takes who raised, in words, and what."""
        self._report = report
        self._threads: list[KillableThread] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._elsewhere: dict[asyncio.Task[Any], asyncio.AbstractEventLoop] = {}
        """Coroutines that run in a thread, because the plugin has no event loop, each with a loop of its own."""
        self.on_end: Callable[[], object] = int
        """Called on the loop's thread whenever a task has ended."""

    @property
    def threads(self) -> list[KillableThread]:
        """Those that still run."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return self._threads

    def start(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.loop is not None and is_async(function):
            self.loop.call_soon_threadsafe(self._start_task, function, args)
            return
        thread = KillableThread(self._run, name_of(function), (function, args))
        self._threads.append(thread)
        thread.start()

    def _start_task(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        assert self.loop is not None
        task = self.loop.create_task(self._run_async(function, args))
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.on_end()

    def cancel(self) -> None:
        """Cancel each coroutine, once: a second time would cut off what it does at its end. Functions in threads see
        that the plugin is not active any more."""
        for task in [*self.tasks]:
            _cancel(task)
        for task, loop in [*self._elsewhere.items()]:
            with suppress(RuntimeError):  # its loop is closed: it has just ended
                loop.call_soon_threadsafe(_cancel, task)

    @property
    def is_idle(self) -> bool:
        """Whether every coroutine has ended, with what it does at its end."""
        return not self.tasks and not self._elsewhere

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            with IN_THIS_PROCESS:
                value = function(*args)
                if is_async(function):
                    asyncio.run(self._run_elsewhere(value))
        except (PluginKilled, SystemExit, asyncio.CancelledError):
            return
        except BaseException as error:
            self._report(f"spawned {name_of(function)}", error)

    async def _run_elsewhere(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._elsewhere[task] = asyncio.get_running_loop()
        try:
            await work
        finally:
            del self._elsewhere[task]

    async def _run_async(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            with IN_THIS_PROCESS:
                await function(*args)
        except (*DEATHS, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._report(f"spawned {name_of(function)}", error)


def _cancel(task: asyncio.Task[Any]) -> None:
    if not task.cancelling():
        task.cancel()
