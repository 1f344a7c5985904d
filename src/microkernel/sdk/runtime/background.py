"""Background work: functions in threads, coroutine functions as tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from microkernel.errors import PluginKilled
from microkernel.sdk.binding.handlers import is_async
from microkernel.sdk.binding.signature import name_of
from microkernel.sdk.process_copies import IN_THIS_PROCESS
from microkernel.sdk.runtime.executor import EXIT_EXCEPTIONS
from microkernel.sdk.runtime.threads import KillableThread


class BackgroundTasks:
    """The work that one instance has spawned. Threads are daemons, which end by checking ``api.is_active``."""

    def __init__(self, report: Callable[[str, BaseException], object]) -> None:
        """``report`` is called with a description of the work that raised, and the error."""
        self._report = report
        self._threads: list[KillableThread] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Coroutines that run in a thread, each with its own event loop, because the plugin has none.
        self._threaded: dict[asyncio.Task[Any], asyncio.AbstractEventLoop] = {}
        self._on_end: Callable[[], object] = int

    @property
    def threads(self) -> list[KillableThread]:
        """The threads that are still running."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return self._threads

    def use_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start coroutine functions as tasks of the plugin's event loop from now on, and no longer in threads."""
        self._loop = loop

    def start(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self._loop is not None and is_async(function):
            self._loop.call_soon_threadsafe(self._start_task, function, args)
            return
        thread = KillableThread(self._run, name_of(function), (function, args))
        self._threads.append(thread)
        thread.start()

    def _start_task(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._run_async(function, args))
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._on_end()

    def cancel(self, on_end: Callable[[], object] = int) -> None:
        """Cancel each coroutine once, because a second time would interrupt its cleanup. Functions in threads see that
        the plugin is no longer active. ``on_end`` is called, on the loop's thread, whenever a task has ended."""
        self._on_end = on_end
        for task in [*self.tasks]:
            _cancel(task)
        for task, loop in [*self._threaded.items()]:
            with suppress(RuntimeError):  # its loop is closed, so it has just ended
                loop.call_soon_threadsafe(_cancel, task)

    @property
    def is_idle(self) -> bool:
        """True if every coroutine has ended, including its cleanup."""
        return not self.tasks and not self._threaded

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            with IN_THIS_PROCESS:
                value = function(*args)
                if is_async(function):
                    asyncio.run(self._run_in_thread(value))
        except (PluginKilled, SystemExit, asyncio.CancelledError):
            return
        except BaseException as error:
            self._report(f"spawned {name_of(function)}", error)

    async def _run_in_thread(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._threaded[task] = asyncio.get_running_loop()
        try:
            await work
        finally:
            del self._threaded[task]

    async def _run_async(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            with IN_THIS_PROCESS:
                await function(*args)
        except (*EXIT_EXCEPTIONS, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._report(f"spawned {name_of(function)}", error)


def _cancel(task: asyncio.Task[Any]) -> None:
    if not task.cancelling():
        task.cancel()
