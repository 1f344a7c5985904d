"""Run handlers and methods: one at a time on the main thread, as tasks of its event loop, or on N threads.

A job ends exactly once, with a value or an error. Whatever it raises is an error of the job, even if it is not derived
from ``Exception``: ``CancelledError``, a gevent timeout, a panic of Rust code. Only exceptions that end a plain program
(``SystemExit``, ``KeyboardInterrupt``) and the kernel's ``PluginKilled`` are passed on and end the instance.
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
from microkernel.sdk.binding.handlers import refuse_coroutine
from microkernel.sdk.request_context import RequestContext, current
from microkernel.sdk.runtime.threads import KillableThread
from microkernel.wire.codec import Struct

# Exceptions that end the instance when a job raises them.
EXIT_EXCEPTIONS = (SystemExit, KeyboardInterrupt, PluginKilled)
# Seconds between two checks of whether the threads of a pool have ended.
POLL_SECONDS = 0.01
Finish = Callable[[Any, BaseException | None], None]
OnExit = Callable[[BaseException], None]


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
        """Run the job on this thread, in a copy of the context, so that changes of context variables do not outlive it.
        A coroutine function gets its own event loop."""
        contextvars.copy_context().run(self.run_here, slot)

    def run_here(self, slot: int) -> None:
        """Run the job on this thread, in the present context."""
        self.work.slot = slot
        current.set(self.work)
        try:
            value = self.function(*self.args, **self.kwargs)
            if self.is_async:
                value = asyncio.run(value)
            elif type(value) is CoroutineType:
                refuse_coroutine(value)
        except EXIT_EXCEPTIONS:
            raise
        except BaseException as error:
            self.finish(None, error)
        else:
            self.finish(value, None)

    async def run_async(self, on_exit: OnExit) -> None:
        """Run the job as a task; while it awaits, other handlers run."""
        self.work.slot = 0
        current.set(self.work)
        try:
            value = await self.function(*self.args, **self.kwargs)
        except EXIT_EXCEPTIONS as error:
            on_exit(error)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not _is_running(self.task):
                raise  # the loop has been closed; there is no receiver for the outcome
            self.finish(None, error)
        else:
            self.finish(value, None)


def _is_running(task: asyncio.Task[None] | None) -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


def _finish_unstarted(job: Job, task: asyncio.Task[None]) -> None:
    """Finish the job of a task that was cancelled before its first step: such a task never runs, and cannot finish the
    job itself."""
    if task.cancelled():
        job.finish(None, asyncio.CancelledError())


class InlineExecutor:
    """Runs jobs on the calling thread."""

    threads: tuple[KillableThread, ...] = ()
    submit: Callable[[Job], None] = methodcaller("run", 0)

    def cancel_all(self) -> None:
        """Does nothing: there are no threads."""

    def shutdown(self) -> None:
        """Does nothing: no job is running between two calls of ``submit``."""


class Pool:
    """Runs sync jobs on N threads, one slot each. ``on_exit`` is called with exceptions that end the instance."""

    def __init__(self, size: int, name: str, on_exit: OnExit) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._on_exit = on_exit
        self.threads = [KillableThread(self._work, f"{name}-{slot}", (slot,)) for slot in range(size)]
        for thread in self.threads:
            thread.start()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def cancel_all(self) -> None:
        """Drop the jobs that have not started, because the instance has ended. Does not wait for running ones."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        self.shutdown()

    def shutdown(self) -> None:
        """End the threads after all submitted jobs have run."""
        for _ in self.threads:
            self._jobs.put(None)

    def _work(self, slot: int) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.run(slot)
            except BaseException as error:
                self._on_exit(error)
                return


class Tasks:
    """Runs async jobs as concurrent tasks of the running loop; sync jobs between them, or on a pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sync: InlineExecutor | Pool, on_exit: OnExit) -> None:
        self._loop = loop
        self._sync = sync
        self._on_exit = on_exit
        self._tasks: set[asyncio.Task[None]] = set()
        self.threads = sync.threads
        self._on_end: Callable[[], object] = int

    def cancel_all(self) -> None:
        self._sync.cancel_all()

    def submit(self, job: Job) -> None:
        if job.is_async:
            job.task = self.keep(job.run_async(self._on_exit))
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
        self._on_end()

    def shutdown(self, on_end: Callable[[], object] = int) -> None:
        """End the pool's threads after all submitted jobs have run. Tasks keep running; ``on_end`` is called whenever
        one has ended."""
        self._on_end = on_end
        self._sync.shutdown()

    @property
    def is_idle(self) -> bool:
        """True if no handler is running. Threads are idle only after ``shutdown``."""
        return not self._tasks and not any(thread.is_alive() for thread in self.threads)
