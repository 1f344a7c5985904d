"""The life of one instance: load, start, serve, stop. The same code at every level.

``run`` is called on the instance's main thread and returns when the instance is done. Sync handlers run there one at a
time; a plugin with an ``async def`` of its own gets an event loop there; ``concurrency = N`` gives sync handlers N
threads instead.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from microkernel.errors import InvalidArguments, PluginLoadError, PluginNotActive
from microkernel.sdk.api import PluginAPI
from microkernel.sdk.channel import Channel, ChannelClosed
from microkernel.sdk.client import Client
from microkernel.sdk.decorators import EveryMark, ExposeMark, Overflow, marked
from microkernel.sdk.dispatcher import Dispatcher
from microkernel.sdk.event import Subscription
from microkernel.sdk.executor import Inline, Job, Pool, Tasks
from microkernel.sdk.handlers import Handlers, is_async
from microkernel.sdk.importer import ModuleSpace
from microkernel.sdk.logs import plugin_logger
from microkernel.sdk.plugin import IPlugin
from microkernel.sdk.signature import name_of
from microkernel.sdk.spawn import Spawned
from microkernel.sdk.timers import Timer, Timers
from microkernel.sdk.trouble import failure_of
from microkernel.sdk.work import NO_SLOT, Work, current
from microkernel.wire import codec, messages
from microkernel.wire.failures import from_error

_POLL_EVERY = 0.0005
"""Seconds between two looks at the channel by code that asks again and again whether it is still wanted."""


class Runtime:
    """One instance and what its PluginAPI does. Registering and sending are for any thread, the rest for its own."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._phase = "loading"
        self._main = threading.get_ident()
        self._handlers = Handlers()
        self._timers = Timers()
        self._polled = 0.0
        self._ending = threading.Event()
        self._space: ModuleSpace | None = None
        self.config: Any = {}
        self.load: messages.Load
        self.spawned: Spawned | None = None

    # The life

    def run(self) -> None:
        """Serve until told to stop, until the channel ends, or until the plugin ends itself."""
        try:
            self._live()
        except ChannelClosed:
            pass  # the kernel is gone, or has dropped this instance: there is nobody to tell
        except SystemExit as leaving:
            self._dispatcher.flush()
            self._channel.send(messages.Leaving(f"sys.exit({'' if leaving.code is None else leaving.code})"))
        finally:
            self._phase = "stopped"
            self._ending.set()
            if self._space is not None:
                self._space.unload()

    def threads(self) -> list[threading.Thread]:
        """The threads beside the main one that still run."""
        pool = [thread for thread in self._dispatcher.executor.threads if thread.is_alive()]
        return [*pool, *(self.spawned.threads if self.spawned else [])]

    def _live(self) -> None:
        self.load = self._await(messages.Load)
        self._dispatcher = Dispatcher(self._channel, self._handlers, self.load.name, self.load.root)
        self._client = Client(self._channel, self.load)
        if not (_finish(self._guard("load", self._import())) and _finish(self._guard("init", self._construct()))):
            return
        self._channel.send(self._loaded())
        start = self._await(messages.Start)
        if self._wants_loop():
            with asyncio.Runner() as runner:
                runner.run(self._serve_in_loop(start))
        else:
            self._serve(start)

    def _await(self, kind: type[messages.Message]) -> Any:
        """The first message of this kind."""
        while True:
            for message in self._channel.receive(None):
                if isinstance(message, kind):
                    return message
                if isinstance(message, messages.Stop):
                    raise ChannelClosed

    async def _guard(self, phase: str, step: Coroutine[Any, Any, None]) -> bool:
        """Do a step of the life; what it raises is told as Failed."""
        try:
            await step
        except PluginLoadError as error:
            self._channel.send(messages.Failed(phase, from_error(error)))
        except Exception as error:
            self._channel.send(messages.Failed(phase, failure_of(error, self.load.root)))
        else:
            return True
        return False

    async def _import(self) -> None:
        load = self.load
        self._space = ModuleSpace(
            load.name, load.generation, load.root, load.entry, load.package, load.sources, load.peers
        )
        self._module = self._space.load()

    async def _construct(self) -> None:
        self.config = _read_config(self._module, self.load)
        log = plugin_logger(self.load.name, self.load.log_level, self._channel.send)
        self.spawned = Spawned(log)
        self._plugin = _plugin_class(self._module, self.load)(PluginAPI(self, log))
        for function, mark in marked(self._plugin):
            if isinstance(mark, ExposeMark):
                self.expose(function, mark.name)
            elif isinstance(mark, EveryMark):
                self.add_timer(mark.seconds, function, repeat=True)
            else:
                self.subscribe(mark.topic, function, mark.once, mark.overflow, board=False)

    def _loaded(self) -> messages.Loaded:
        return messages.Loaded(
            [registered.wire for registered in self._handlers.by_number.values()],
            [exposed.wire for exposed in self._handlers.methods.values()],
            codec.plain_text((type(self._plugin).__doc__ or self._module.__doc__ or "").strip()),
        )

    def _wants_loop(self) -> bool:
        """A plugin with no ``async def`` has no event loop."""
        members = (getattr(type(self._plugin), name, None) for name in dir(type(self._plugin)))
        handlers, methods = self._handlers.by_number.values(), self._handlers.methods.values()
        return any(h.is_async for h in handlers) or any(m.is_async for m in methods) or any(map(is_async, members))

    async def _begin(self, start: messages.Start) -> None:
        self._phase = "starting"
        state = codec.decode(start.state)
        if state is not None and hasattr(self._plugin, "import_state"):
            await _settled(self._plugin.import_state(state, start.from_version))
        await _settled(self._plugin.start())
        self._phase = "active"
        self._timers.begin(time.monotonic())
        self._channel.send(messages.Started())

    async def _end(self) -> None:
        """Export the state if that is wanted, stop, and say so. A stop that raises is told, and counts all the same."""
        stop = self._dispatcher.stop
        state: list[codec.Raw] = []
        self._phase = "stopping"
        self._ending.set()

        async def export() -> None:
            state.append(codec.Raw(codec.encode(await _settled(self._plugin.export_state()))))  # type: ignore[attr-defined]

        async def stop_it() -> None:
            await _settled(self._plugin.stop())

        if stop is not None and stop.export and hasattr(self._plugin, "export_state"):
            await self._guard("export_state", export())
        await self._guard("stop", stop_it())
        self._channel.send(messages.Stopped(state[0] if state else messages.NOTHING))

    # Serving

    def _serve(self, start: messages.Start) -> None:
        dispatcher = self._dispatcher
        dispatcher.executor = self._sync_executor()
        if not _finish(self._guard("start", self._begin(start))):
            return
        while dispatcher.stop is None:
            for message in dispatcher.next(self._timers.wait(time.monotonic())):
                dispatcher.handle(message)
            self._beat()
        dispatcher.finish()
        dispatcher.executor.close()
        dispatcher.flush()
        _finish(self._end())

    async def _serve_in_loop(self, start: messages.Start) -> None:
        loop = asyncio.get_running_loop()
        tasks = Tasks(loop, self._sync_executor(), self._die)
        self._dispatcher.executor = tasks
        assert self.spawned is not None
        self.spawned.loop = loop
        if not await self._guard("start", self._begin(start)):
            return
        await _LoopPump(loop, self._channel.fileno(), self._turn).run()
        self._dispatcher.finish()
        await tasks.drain(self.spawned.tasks)
        self._dispatcher.flush()
        await self._end()

    def _turn(self) -> float | None:
        """One round in the event loop, which must not wait. Seconds until the next is due; negative for the end."""
        for message in self._dispatcher.next(0.0):
            self._dispatcher.handle(message)
        self._beat()
        return -1.0 if self._dispatcher.stop is not None else self._timers.wait(time.monotonic())

    def _sync_executor(self) -> Inline | Pool:
        return Pool(self.load.concurrency, self.load.name, self._die) if self.load.concurrency > 1 else Inline()

    def _beat(self) -> None:
        for timer in self._timers.due(time.monotonic()):
            timer.running = True
            job = Job(Work(0, 0.0, [], NO_SLOT), timer.function, (), {}, partial(self._beaten, timer), timer.is_async)
            self._dispatcher.executor.submit(job)

    def _beaten(self, timer: Timer, _value: Any, error: BaseException | None) -> None:
        timer.running = False
        if error is not None:
            failure = failure_of(error, self.load.root)
            text = f"timer {name_of(timer.function)} raised {failure.type}: {failure.message}\n{failure.traceback}"
            self._channel.send(messages.Log(40, text, time.time()))

    def _die(self, death: BaseException) -> None:
        """What is no Exception ends the instance, on whichever thread it was raised."""
        self._dispatcher.post(partial(_raise, death))

    # What PluginAPI does

    def outgoing(self, what: str) -> Client:
        """The way to others. Raises PluginNotActive before ``start`` and after the end."""
        if self._phase in ("starting", "active", "stopping"):
            return self._client
        reason = f"{what} in __init__; move it to start()" if self._phase == "loading" else what
        raise PluginNotActive("MK0213", name=self.load.name, state=self._phase, what=reason)

    def subscribe(
        self, pattern: str, function: Callable[..., Any], once: bool, overflow: Overflow, *, board: bool
    ) -> Subscription:
        registered = self._handlers.add(pattern, function, once, overflow, board)
        number = registered.wire.number
        try:
            self._client.check_handler(registered.wire)
            if self._phase != "loading":
                self._client.subscribe(registered.wire)
        except BaseException:
            self._handlers.by_number.pop(number, None)
            raise
        return Subscription(pattern, registered.wire.name, partial(self._unsubscribe, number))

    def _unsubscribe(self, number: int) -> None:
        if self._handlers.by_number.pop(number, None) is not None and self._phase in ("starting", "active"):
            self._client.unsubscribe(number)

    def expose(self, function: Callable[..., Any], name: str | None) -> None:
        exposed = self._handlers.expose(function, name)
        if self._phase != "loading":
            self._client.expose(exposed.wire)

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.outgoing("spawn")
        assert self.spawned is not None
        self.spawned.start(function, args)

    def add_timer(self, seconds: float, function: Callable[[], Any], *, repeat: bool) -> Subscription:
        if not (seconds > 0 or (seconds == 0 and not repeat)):
            raise ValueError(f"a timer needs more than 0 seconds, got {seconds}")
        timer = Timer(seconds, function, repeat=repeat, is_async=is_async(function))
        if self._phase == "loading" or threading.get_ident() == self._main:
            self._timers.add(timer, time.monotonic())
        else:
            self._dispatcher.post(lambda: self._timers.add(timer, time.monotonic()))
        return Subscription(f"{'every' if repeat else 'after'} {seconds} s", name_of(function), timer.cancel)

    def is_active(self) -> bool:
        self._look()
        return self._phase in ("starting", "active") and self._dispatcher.stop is None

    def is_cancelled(self) -> bool:
        self._look()
        return current.get().cancelled or self._dispatcher.stop is not None

    def sleep(self, seconds: float) -> bool:
        end, work = time.monotonic() + seconds, current.get()
        while (left := end - time.monotonic()) > 0:
            if work.deadline:
                left = min(left, max(0.0, work.deadline - time.monotonic()))
            if self._on_sync_main():
                self._dispatcher.look_ahead(left)
            else:
                self._ending.wait(left)
            if work.cancelled or self._dispatcher.stop is not None or self._ending.is_set():
                return False
        return True

    def say(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        text, plain = codec.plain_text(text), codec.decode(codec.encode(fields))
        self._channel.send(messages.Log(20, text, time.time(), kind, plain))

    def data_dir(self) -> Path:
        folder = Path(self.load.data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _look(self) -> None:
        """Let a Cancel or a Stop be seen by code that runs on the main thread for long."""
        now = time.monotonic()
        if now - self._polled > _POLL_EVERY and self._on_sync_main() and self._phase in ("starting", "active"):
            self._polled = now
            self._dispatcher.look_ahead(0.0)

    def _on_sync_main(self) -> bool:
        return threading.get_ident() == self._main and not isinstance(self._dispatcher.executor, Tasks)



class _LoopPump:
    """Takes a turn whenever the channel is readable or a timer is due, until a turn says that it was the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, turn: Callable[[], float | None]) -> None:
        self._loop = loop
        self._fd = fd
        self._turn = turn
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] = loop.create_future()

    async def run(self) -> None:
        self._loop.add_reader(self._fd, self._pump)
        try:
            self._pump()
            await self._ended
        finally:
            self._loop.remove_reader(self._fd)
            self._forget_timer()

    def _pump(self) -> None:
        if self._ended.done():
            return
        self._forget_timer()
        try:
            wait = self._turn()
        except BaseException as death:  # asyncio would swallow what is no Exception
            self._ended.set_exception(death)
            return
        if wait is not None and wait < 0:
            self._ended.set_result(None)
        elif wait is not None:
            self._timer = self._loop.call_later(wait, self._pump)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _finish(step: Coroutine[Any, Any, bool | None]) -> Any:
    """Run a step of the life of a plugin that has no coroutines: it never really waits."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a plugin without an async def of its own awaited something")


async def _settled(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value


def _raise(death: BaseException) -> NoReturn:
    raise death


def _read_config(module: Any, load: messages.Load) -> Any:
    config = codec.decode(load.config)
    wanted = getattr(module, "Config", None)
    if not isinstance(wanted, type):
        return config
    try:
        return codec.convert(config, wanted)
    except InvalidArguments as error:
        raise PluginLoadError("MK0121", reason=error.fields["reason"]) from None


def _plugin_class(module: Any, load: messages.Load) -> type[IPlugin]:
    path = f"{load.root}/{load.entry}"
    cls = getattr(module, "Plugin", None)
    if cls is None:
        raise PluginLoadError("MK0105", path=path)
    if not (isinstance(cls, type) and issubclass(cls, IPlugin)):
        line = getattr(getattr(cls, "__init__", None), "__code__", None)
        raise PluginLoadError("MK0106", path=path, line=line.co_firstlineno if line else 1)
    return cls
