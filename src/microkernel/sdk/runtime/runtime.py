"""The life cycle of one instance: load, start, serve, stop. The same code at every level.

``run`` is called on the instance's main thread and returns when the instance has ended. Sync handlers run there one at
a time. A plugin with an ``async def`` gets an event loop there. ``concurrency = N`` gives sync handlers N threads
instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from types import ModuleType
from typing import Any

from microkernel.errors import KernelError, PluginKilled, PluginLoadError, PluginNotReady
from microkernel.sdk.api import PluginAPI
from microkernel.sdk.binding.handlers import is_async
from microkernel.sdk.client.channel import Channel, ChannelClosed
from microkernel.sdk.decorators import EverySpec, ExposeSpec, bare, marked_members, members
from microkernel.sdk.failures import failure_of
from microkernel.sdk.loading.config_secrets import mask, secret_values
from microkernel.sdk.loading.configuration import read_configuration
from microkernel.sdk.loading.importer import PluginNamespace
from microkernel.sdk.loading.module_names import ModuleNames
from microkernel.sdk.plugin import IPlugin, NotReady
from microkernel.sdk.process_copies import IN_THIS_PROCESS, end_if_copy, is_instance, watch_loop
from microkernel.sdk.runtime.executor import EXIT_EXCEPTIONS
from microkernel.sdk.runtime.housekeeping import Chores
from microkernel.sdk.runtime.instance import PluginInstance
from microkernel.sdk.runtime.main_loop import AsyncioLoop, BlockingLoop, MainLoop
from microkernel.sdk.runtime.threads import KillableThread
from microkernel.wire import codec, messages
from microkernel.wire.failures import from_error, reason_suffix
from microkernel.wire.secrets import Secrets
from microkernel.wire.texts import path_from_text

# Characters of the reason why a plugin is not ready.
_MAX_REASON = 500


class Runtime:
    """Drives one instance. Created and run on the instance's main thread.

    ``names`` determines the names of its modules. ``keep`` is called with the Load message, before any of its code
    runs. ``chores`` is maintenance work of the process, done between messages.
    """

    def __init__(
        self,
        channel: Channel,
        names: ModuleNames | None = None,
        keep: Callable[[messages.Load], object] = id,
        chores: Chores | None = None,
    ) -> None:
        self._channel = channel
        self._names = names
        self._keep = keep
        self._chores = chores or Chores()
        self._space: PluginNamespace | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._instance: PluginInstance
        self._module: Any = None
        self._plugin: Any = None

    def run(self) -> None:
        """Serve until a stop is requested, the channel is closed, or the plugin ends itself."""
        try:
            self._run_guarded()
        except ChannelClosed:
            pass  # the kernel is gone or has dropped this instance, so there is no receiver for a report
        except SystemExit as leaving:
            if hasattr(self, "_instance"):  # SIGTERM can arrive at any time
                self._instance.dispatcher.flush()
            self._channel.send(
                _exit_message(leaving, self._instance.secrets if hasattr(self, "_instance") else Secrets())
            )
        except PluginKilled:
            raise
        except BaseException as error:
            self._report_exit(error)
            raise
        finally:
            self._mark_stopped()

    def threads(self) -> list[KillableThread]:
        """Return the running threads of the instance, except the main one."""
        return self._instance.threads() if hasattr(self, "_instance") else []

    def _on_loop_error(self, _loop: object, context: dict[str, Any]) -> None:
        """Log an error that asyncio reports outside of any handler. A kill is not logged."""
        error = context.get("exception")
        if not isinstance(error, PluginKilled | ChannelClosed):
            with suppress(PluginKilled, ChannelClosed):  # the instance has ended, so there is no receiver
                if isinstance(error, BaseException):
                    self._instance.report(f"{context['message']}; it", error)
                else:
                    self._instance.log.error("%s", context["message"])

    def wake(self) -> None:
        """Wake the event loop from another thread: an exception raised in a thread takes effect only when code runs."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(int)

    def cancel_all(self) -> None:
        """End the threads of the pool, because the instance has ended."""
        if hasattr(self, "_instance"):
            self._instance.dispatcher.executor.cancel_all()

    def yield_names(self) -> None:
        """Return the public module names to the running generation, because a generation that is being ended may be
        stuck in its import. From any thread."""
        if self._space is not None:
            self._space.yield_name()

    def owned_resources(self) -> tuple[list[str], list[ModuleType], object | None]:
        """Return the names of the instance's modules (the same str objects), the modules, and its Plugin object, as far
        as they were created."""
        if self._space is None:
            return [], [], None
        return self._space.names(), self._space.modules(), self._plugin

    def release(self) -> None:
        """Release everything of the plugin, and an event loop that a kill left open.

        Called when no code of the instance runs any more. A worker does not call it, because its process ends.
        """
        if self._loop is not None:
            _close(self._loop)
        if self._space is not None:
            self._space.unload()
        if hasattr(self, "_instance"):
            self._instance.forget()
        self._plugin = self._module = self._loop = None

    def _report_exit(self, error: BaseException) -> None:
        """Report an exception that ends this instance outside of any handler: raised by a signal handler between
        messages, for example, or because memory is exhausted."""
        if hasattr(self, "_instance"):
            with suppress(Exception):  # the original exception is raised again, and contains the information
                failure = self._failure_of(error)
                where = f" ({failure.where})" if failure.where else ""
                reason = f"{failure.type}{reason_suffix(failure.message)}{where}"
                self._instance.dispatcher.flush()
                self._channel.send(messages.SelfExit(reason, 1, failure.traceback))

    def _mark_stopped(self) -> None:
        if hasattr(self, "_instance"):
            self._instance.enter("stopped")

    def _run_guarded(self) -> None:
        """Run the instance. A forked copy of the process that returns here exits."""
        is_instance()
        try:
            self._run_instance()
        except BaseException as error:
            end_if_copy(error)
            raise
        end_if_copy()

    def _run_instance(self) -> None:
        self._instance = PluginInstance(self._channel, self._await(messages.Load).with_paths(path_from_text))
        if not (_finish(self._guard("load", self._import())) and _finish(self._guard("init", self._construct()))):
            return
        self._channel.send(self._loaded())
        start = self._await(messages.Start)
        if not self._wants_loop():
            self._serve(BlockingLoop(self._channel, self._instance, self._chores), _finish, start)
            return
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.set_exception_handler(self._on_loop_error)
            watch_loop(self._loop)
            context = copy_context()
            loop = AsyncioLoop(self._channel, self._instance, self._chores, self._loop, context)
            self._serve(loop, partial(runner.run, context=context), start)

    def _await(self, kind: type[messages.Message]) -> Any:
        """Return the first message of this kind."""
        while True:
            for message in self._channel.receive(None):
                if isinstance(message, kind):
                    return message
                if isinstance(message, messages.Stop):
                    raise ChannelClosed

    async def _guard(self, phase: str, step: Coroutine[Any, Any, None]) -> bool:
        """Run a phase of the life cycle; report an exception as Failed. Return whether it succeeded."""
        try:
            with IN_THIS_PROCESS:
                await step
        except PluginLoadError as error:
            self._channel.send(messages.Failed(phase, from_error(error)))
        except (*EXIT_EXCEPTIONS, GeneratorExit, ChannelClosed):
            raise
        except BaseException as error:
            self._channel.send(messages.Failed(phase, self._failure_of(error)))
        else:
            return True
        return False

    async def _import(self) -> None:
        load = self._instance.load
        self._keep(load)
        # At thread, and as a remote client, the process may have loaded another plugin of this name.
        names = self._names or ModuleNames(shared=load.isolation == "thread")
        self._space = PluginNamespace(load.name, load.root, load.entry, load.package, load.sources, load.peers, names)
        self._module = self._space.load()

    async def _construct(self) -> None:
        instance = self._instance
        config = read_configuration(self._module, instance.load.name, instance.load.config, instance.secrets)
        instance.config = mask(config, instance.secrets.values)
        instance.secrets.add(secret_values(instance.config))
        self._plugin = _plugin_class(self._module, instance.load)(PluginAPI(instance))
        for function, mark in marked_members(self._plugin):
            if isinstance(mark, ExposeSpec):
                instance.expose(function, mark.name)
            elif isinstance(mark, EverySpec):
                instance.add_timer(mark.seconds, function, repeat=True)
            else:
                instance.subscribe(mark.topic, function, mark.once, mark.overflow, board=False)
        if callable(getattr(self._plugin, "export_state", None)):
            instance.dispatcher.expect_export()

    def _loaded(self) -> messages.Loaded:
        return messages.Loaded(
            [registered.wire for registered in self._instance.handlers.by_number.values()],
            [exposed.wire for exposed in self._instance.handlers.methods.values()],
            codec.plain_text((type(self._plugin).__doc__ or self._module.__doc__ or "").strip()),
            sorted(self._instance.secrets.values.difference(self._instance.load.secrets)),
            self._instance.dispatcher.exports,
        )

    def _failure_of(self, error: BaseException) -> messages.Failure:
        return failure_of(error, self._instance.load.root, self._instance.secrets)

    def _wants_loop(self) -> bool:
        """Return whether the plugin needs an event loop: it does if it has an ``async def``."""
        written = map(bare, members(type(self._plugin)).values())
        handlers, methods = self._instance.handlers.by_number.values(), self._instance.handlers.methods.values()
        return any(h.is_async for h in handlers) or any(m.is_async for m in methods) or any(map(is_async, written))

    async def _start(self, start: messages.Start) -> None:
        self._instance.enter("starting")
        if self._space is not None:
            self._space.take_over()
        state = codec.decode(start.state)
        if state is not None and hasattr(self._plugin, "import_state"):
            await _resolved(self._plugin.import_state(state, start.from_version))
        try:
            await _resolved(self._plugin.start())
        except NotReady as early:
            reason = self._instance.secrets.redact(str(early.reason))[:_MAX_REASON]
            retry_after = early.retry_after
            raise PluginNotReady("MK0227", reason=codec.plain_text(reason), retry_after=retry_after) from None
        self._instance.enter("active")
        self._instance.timers.begin(time.monotonic())
        self._channel.send(messages.Started())

    async def _export_if_requested(self) -> bool:
        """Export the state if it is requested. Return False if that fails: the instance then continues as if it had not
        been asked to stop."""
        dispatcher = self._instance.dispatcher
        if dispatcher.stop is None or dispatcher.ending.is_set():
            return True
        if await self._guard("export_state", self._export(dispatcher.stop.within)):
            return True
        dispatcher.resume()
        return False

    async def _export(self, within: float) -> None:
        exporting = _resolved(self._plugin.export_state())
        state = await (asyncio.wait_for(exporting, within) if self._loop is not None and within else exporting)
        try:
            self._channel.send(messages.Exported(codec.Raw(codec.encode(state))))
        except KernelError as error:
            raise PluginLoadError("MK0312", reason=str(error)) from None

    async def _stop(self, deadline: float) -> None:
        """Stop and report it. An exception of ``stop`` is reported and still counts as stopped. Spawned coroutines that
        have not ended are waited for until ``deadline``."""
        self._instance.enter("stopping")

        async def stop_it() -> None:
            await _resolved(self._plugin.stop())

        await self._guard("stop", stop_it())
        if spawned := self._instance.spawned.tasks:
            await asyncio.wait(spawned, timeout=max(0.0, deadline - time.monotonic()))
        self._channel.send(messages.Stopped(self._instance.dispatcher.not_started()))

    def _serve(
        self, loop: MainLoop, run: Callable[[Coroutine[Any, Any, bool | None]], Any], start: messages.Start
    ) -> None:
        """Start, serve until a Stop, and stop. ``run`` runs a step of the life cycle to its end."""
        loop.prepare()
        if not run(self._guard("start", self._start(start))):
            return
        loop.serve()
        while not run(self._export_if_requested()):
            loop.prepare()
            loop.serve()
        run(self._stop(loop.clean_up()))


def _finish(step: Coroutine[Any, Any, bool | None]) -> Any:
    """Run a coroutine of the life cycle for a plugin without coroutines: it never actually waits."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a plugin without an async def of its own awaited something")


def _exit_message(leaving: SystemExit, secrets: Secrets) -> messages.SelfExit:
    """Return the SelfExit for a ``SystemExit``, with the status that a process would have."""
    said = "" if leaving.code is None else leaving.code
    return messages.SelfExit(secrets.redact(f"sys.exit({said})"), said if isinstance(said, int) else int(bool(said)))


def _close(loop: asyncio.AbstractEventLoop) -> None:
    if loop.is_closed():
        return
    try:
        loop.close()
    except (AttributeError, ValueError):  # a kill interrupted an earlier close, which cannot be repeated
        _close_the_rest(loop)


async def _resolved(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value


def _close_the_rest(loop: Any) -> None:
    """Close the rest of an asyncio event loop that is half closed."""
    asyncio.BaseEventLoop.close(loop)
    for part in (loop._ssock, loop._csock, loop._selector):
        if part is not None:
            part.close()


def _plugin_class(module: Any, load: messages.Load) -> type[IPlugin]:
    path = f"{load.root}/{load.entry}"
    cls = getattr(module, "Plugin", None)
    if cls is None:
        raise PluginLoadError("MK0105", path=path)
    if not (isinstance(cls, type) and issubclass(cls, IPlugin)):
        line = getattr(getattr(cls, "__init__", None), "__code__", None)
        raise PluginLoadError("MK0106", path=path, line=line.co_firstlineno if line else 1)
    return cls
