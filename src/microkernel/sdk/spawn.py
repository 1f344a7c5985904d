"""Work beside the handlers: threads for functions, tasks for coroutine functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from microkernel.errors import PluginKilled
from microkernel.sdk.handlers import is_async
from microkernel.sdk.signature import name_of
from microkernel.sdk.threads import PluginThread


class Spawned:
    """What one instance has spawned. Threads are daemons: they are asked to end by ``api.is_active``."""

    def __init__(self, report: Callable[[str, BaseException], object]) -> None:
        """``report`` takes who raised, in words, and what."""
        self._report = report
        self._threads: list[PluginThread] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def threads(self) -> list[PluginThread]:
        """Those that still run."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return self._threads

    def cancel_all(self) -> None:
        """Cancel all tasks."""
        for task in self.tasks:
            task.cancel()

    def start(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.loop is not None and is_async(function):
            self.loop.call_soon_threadsafe(self._start_task, function, args)
            return
        thread = PluginThread(self._run, name_of(function), (function, args))
        self._threads.append(thread)
        thread.start()

    def _start_task(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        assert self.loop is not None
        task = self.loop.create_task(self._run_async(function, args))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            value = function(*args)
            if is_async(function):
                asyncio.run(value)
        except (PluginKilled, SystemExit):
            return
        except Exception as error:
            self._report(f"spawned {name_of(function)}", error)

    async def _run_async(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            await function(*args)
        except Exception as error:
            self._report(f"spawned {name_of(function)}", error)
