"""The main loop of an instance: messages, timers and maintenance, from its start to its stop."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from math import inf
from typing import Any, NoReturn

from microkernel.errors import PluginKilled
from microkernel.sdk.binding.signature import name_of
from microkernel.sdk.client.channel import Channel, ChannelClosed
from microkernel.sdk.process_copies import end_if_copy
from microkernel.sdk.request_context import MAX_TIMEOUT, NO_SLOT, RequestContext
from microkernel.sdk.runtime.asyncio_driver import LoopDriver
from microkernel.sdk.runtime.dispatcher import NATIVE_RUNNER
from microkernel.sdk.runtime.executor import POLL_SECONDS, InlineExecutor, Job, Pool, Tasks
from microkernel.sdk.runtime.housekeeping import Chores
from microkernel.sdk.runtime.instance import PluginInstance
from microkernel.sdk.runtime.timers import Timer


class MainLoop(ABC):
    """Serves an instance on its main thread.

    Keeps no reference to an executor, because its jobs hold functions of the plugin: the dispatcher has it, and drops
    it with everything else.
    """

    def __init__(self, channel: Channel, instance: PluginInstance, chores: Chores) -> None:
        self._channel = channel
        self._instance = instance
        self._chores = chores
        chores.call_when_due(self._on_chores)

    @abstractmethod
    def prepare(self) -> None:
        """Give the dispatcher an executor: before the start, and after each ``serve`` that another one follows."""

    @abstractmethod
    def serve(self) -> None:
        """Serve until a Stop, then wait for running handlers."""

    @abstractmethod
    def clean_up(self) -> float:
        """Cancel spawned coroutines and wait for them, except for those that wait for an effect of ``stop``. Return the
        deadline for everything."""

    def _sync_executor(self) -> InlineExecutor | Pool:
        load = self._instance.load
        return Pool(load.concurrency, load.name, self._end_instance) if load.concurrency > 1 else InlineExecutor()

    def _end_instance(self, error: BaseException) -> None:
        """End the instance because of an exception on any thread that is not an ``Exception``. Does nothing after the
        instance has ended, where its tasks are dropped wherever they wait."""
        end_if_copy(error)
        with suppress(PluginKilled, ChannelClosed):
            self._instance.dispatcher.post(partial(_raise, error))

    def _is_cleaning_up(self, until: float) -> bool:
        """Return whether spawned coroutines are running their cleanup, and there is time left before ``stop`` must be
        called."""
        return not self._instance.spawned.is_idle and time.monotonic() < until

    def _deadlines(self) -> tuple[float, float]:
        """Return until when ``stop`` may wait for the cleanup of spawned coroutines, and when everything must have
        ended. The first is half of the time, because they may wait for an effect of ``stop``."""
        stop, now = self._instance.dispatcher.stop, time.monotonic()
        within = stop.within if stop is not None and stop.within else MAX_TIMEOUT
        return now + within / 2, now + within

    def _wait(self) -> float | None:
        """Do maintenance that is due. Return the seconds until something is due without a message; None if nothing
        is."""
        now = time.monotonic()
        if now >= self._chores.due:
            self._chores.do()
        wait = self._instance.timers.wait(now)
        if self._chores.due == inf:
            return wait
        return max(0.0, min(self._chores.due - now, inf if wait is None else wait))

    def _on_chores(self) -> None:
        """Wake the main thread, which may be waiting for messages only, because maintenance has become due."""
        if self._instance.phase in ("starting", "active"):
            self._instance.dispatcher.post(int)

    def _run_due_timers(self) -> None:
        for timer in self._instance.timers.due(time.monotonic()):
            timer.running = True
            job = Job(
                RequestContext(0, 0.0, [], NO_SLOT),
                timer.function,
                (),
                {},
                partial(self._timer_finished, timer),
                timer.is_async,
            )
            self._instance.dispatcher.executor.submit(job)

    def _timer_finished(self, timer: Timer, _value: Any, error: BaseException | None) -> None:
        timer.running = False
        end_if_copy(error)
        if error is not None:
            self._instance.report(f"timer {name_of(timer.function)}", error)


class BlockingLoop(MainLoop):
    """Waits for messages on the main thread, which also runs handlers unless the plugin has ``concurrency``."""

    def prepare(self) -> None:
        self._instance.dispatcher.use(self._sync_executor())

    def serve(self) -> None:
        dispatcher, timers = self._instance.dispatcher, self._instance.timers
        while dispatcher.stop is None:
            received = dispatcher.next(self._wait() if timers.heap or self._chores.due < inf else None)
            if NATIVE_RUNNER is not None:
                NATIVE_RUNNER.run(dispatcher, received)
            else:
                for message in received:
                    dispatcher.handle(message)
            if timers.heap:
                self._run_due_timers()
        executor = dispatcher.executor
        executor.shutdown()
        while any(thread.is_alive() for thread in executor.threads):
            dispatcher.poll_control(POLL_SECONDS)
        dispatcher.flush()

    def clean_up(self) -> float:
        self._instance.spawned.cancel()
        until, deadline = self._deadlines()
        while self._is_cleaning_up(until):
            self._instance.dispatcher.poll_control(POLL_SECONDS)
        return deadline


class AsyncioLoop(MainLoop):
    """Serves inside the plugin's event loop, in one context throughout, but not in one task, see LoopDriver."""

    def __init__(
        self,
        channel: Channel,
        instance: PluginInstance,
        chores: Chores,
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> None:
        super().__init__(channel, instance, chores)
        self._loop = loop
        self._context = context
        instance.spawned.use_loop(loop)

    def prepare(self) -> None:
        self._instance.dispatcher.use(Tasks(self._loop, self._sync_executor(), self._end_instance))

    def serve(self) -> None:
        self._context.run(self._serve)

    def clean_up(self) -> float:
        return self._context.run(self._clean_up)

    def _serve(self) -> None:
        """Serve until a Stop, then wait for running handlers. A Cancel still takes effect, and so does a closed
        channel. If the instance is sure to end, spawned tasks are cancelled first."""
        self._drive(self._turn).run()
        if self._instance.ending.is_set():
            self._instance.spawned.cancel()
        tasks = self._instance.dispatcher.executor
        assert isinstance(tasks, Tasks)
        driver = self._drive(partial(self._poll_until, lambda: tasks.is_idle))
        tasks.shutdown(driver.turn)
        driver.run()
        self._instance.dispatcher.flush()

    def _clean_up(self) -> float:
        until, deadline = self._deadlines()
        driver = self._drive(partial(self._poll_until, lambda: not self._is_cleaning_up(until)))
        self._instance.spawned.cancel(driver.turn)
        driver.run()
        return deadline

    def _drive(self, turn: Callable[[], float | None]) -> LoopDriver:
        return LoopDriver(self._loop, self._channel.fileno(), turn)

    def _turn(self) -> float | None:
        """Run one round in the event loop, without blocking. Return the seconds until the next is due; negative to
        end."""
        received = self._instance.dispatcher.next(0.0)
        for message in received:
            self._instance.dispatcher.handle(message)
        self._run_due_timers()
        if self._instance.dispatcher.stop is not None:
            return -1.0
        return 0.0 if received else self._wait()  # there may be another batch

    def _poll_until(self, is_over: Callable[[], bool]) -> float:
        self._instance.dispatcher.poll_control(0.0)
        return -1.0 if is_over() else POLL_SECONDS


def _raise(error: BaseException) -> NoReturn:
    raise error
