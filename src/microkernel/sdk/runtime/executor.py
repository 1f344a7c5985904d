"""Where handlers and methods run: one at a time on the main thread, as tasks of its loop, or on N threads.

A job ends exactly once, by a value or by an error. Whatever it raises is an error of the job, also what is not derived
from ``Exception``: ``CancelledError``, a time-out of gevent, a panic of Rust code. Only what ends a plain program
(``SystemExit``, ``KeyboardInterrupt``) and the kernel's own ``PluginKilled`` end the instance, and pass through.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
from collections.abc import Callable, Coroutine
from functools import partial
from operator import methodcaller
from types import CoroutineType
from typing import Any

from microkernel.errors import PluginKilled
from microkernel.sdk.request_context import RequestContext, current
from microkernel.sdk.runtime.threads import KillableThread
from microkernel.wire.codec import Struct

DEATHS = (SystemExit, KeyboardInterrupt, PluginKilled)
"""What a job may raise that ends the instance."""
GLANCE = 0.01
"""Seconds between two looks whether the threads of a pool have ended."""
Finish = Callable[[Any, BaseException | None], None]
Died = Callable[[BaseException], None]


def refuse_coroutine(value: CoroutineType[Any, Any, Any]) -> None:
    """What a function that is not ``async`` made, as ``lambda: self.async_method()`` does, would never run. Raises
    TypeError."""
    name = value.__qualname__
    value.close()
    raise TypeError(f"it returned the coroutine {name}, which nothing awaits; register the async function itself")


class Job(Struct):
    """One call of plugin code."""

    work: RequestContext
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    finish: Finish
    is_async: bool
    task: asyncio.Task[None] | None = None

    def run(self, slot: int) -> None:
        """Here and now, in a context of its own: context variables that it sets are gone afterwards. A coroutine
        function gets an event loop of its own for the time."""
        contextvars.copy_context().run(self._run, slot)

    def _run(self, slot: int) -> None:
        self.work.slot = slot
        current.set(self.work)
        try:
            value = self.function(*self.args, **self.kwargs)
            if self.is_async:
                value = asyncio.run(value)
            elif type(value) is CoroutineType:
                refuse_coroutine(value)
        except DEATHS:
            raise
        except BaseException as error:
            self.finish(None, error)
        else:
            self.finish(value, None)

    async def run_async(self, died: Died) -> None:
        """As a task; what it awaits lets other handlers go on."""
        self.work.slot = 0
        current.set(self.work)
        try:
            value = await self.function(*self.args, **self.kwargs)
        except DEATHS as death:
            died(death)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not _is_running(self.task):
                raise  # the loop has gone: there is nothing to tell
            self.finish(None, error)
        else:
            self.finish(value, None)


def _is_running(task: asyncio.Task[None] | None) -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


def _finish_unstarted(job: Job, task: asyncio.Task[None]) -> None:
    """A task that is cancelled before its first step never runs, and so cannot tell its end itself."""
    if task.cancelled():
        job.finish(None, asyncio.CancelledError())


class InlineExecutor:
    """Jobs run where they arrive."""

    threads: tuple[KillableThread, ...] = ()
    submit: Callable[[Job], None] = methodcaller("run", 0)

    def cancel_all(self) -> None:
        """There are no threads."""

    def shutdown(self) -> None:
        """Nothing is under way between two jobs."""


class Pool:
    """Sync jobs on N threads, each a slot of its own. ``died`` is told of what is no Exception."""

    def __init__(self, size: int, name: str, died: Died) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._died = died
        self.threads = [KillableThread(self._work, f"{name}-{slot}", (slot,)) for slot in range(size)]
        for thread in self.threads:
            thread.start()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def cancel_all(self) -> None:
        """The instance has ended: what has not begun will not begin. Does not wait for what has."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        self.shutdown()

    def shutdown(self) -> None:
        """Its threads end when all that was submitted has run."""
        for _ in self.threads:
            self._jobs.put(None)

    def _work(self, slot: int) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.run(slot)
            except BaseException as death:
                self._died(death)
                return


class Tasks:
    """Async jobs interleave as tasks of the running loop; sync jobs run between them, or on the pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sync: InlineExecutor | Pool, died: Died) -> None:
        self._loop = loop
        self._sync = sync
        self._died = died
        self._tasks: set[asyncio.Task[None]] = set()
        self.threads = sync.threads
        self.on_end: Callable[[], object] = int
        """Called whenever a task has ended."""

    def cancel_all(self) -> None:
        self._sync.cancel_all()

    def submit(self, job: Job) -> None:
        if job.is_async:
            job.task = self.keep(job.run_async(self._died))
            job.task.add_done_callback(partial(_finish_unstarted, job))
        else:
            self._sync.submit(job)

    def keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task until it ends or the instance does."""
        task = self._loop.create_task(work, context=contextvars.copy_context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.on_end()

    def shutdown(self) -> None:
        """Its threads end when all that was submitted has run; tasks go on."""
        self._sync.shutdown()

    @property
    def is_idle(self) -> bool:
        """Whether no handler is under way. Threads are only idle when they were dismissed."""
        return not self._tasks and not any(thread.is_alive() for thread in self.threads)
