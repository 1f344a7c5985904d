"""The public ``Kernel``: the composition root that wires loader, hosts and kernel."""

from __future__ import annotations

import logging
import os
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from microkernel.embedder.calls import NATIVE_CALLS, FutureWaiter, Waiter, call_message, route, value_of
from microkernel.embedder.event_stream import EventStream
from microkernel.embedder.failures import HandlerFailures
from microkernel.embedder.handlers import Embedder
from microkernel.embedder.hosts_by_level import HostsByLevel
from microkernel.errors import (
    CallTimeout,
    KernelClosed,
    KernelError,
    shortage_in,
    valid_text,
)
from microkernel.hosts.worker.environment import interpreter_defect
from microkernel.kernel import config as kernel_config
from microkernel.kernel.admission.effective_config import check_kernel_name, state_home
from microkernel.kernel.admission.permissions import Review
from microkernel.kernel.assembly import KernelOptions, make_core
from microkernel.kernel.kernel import Core
from microkernel.kernel.manifest import Level
from microkernel.kernel.messaging.event_bus import ON_EMBEDDER_THREAD
from microkernel.kernel.operations.reload import ReloadReport
from microkernel.kernel.ports import Availability, ReplyLane
from microkernel.kernel.reporting.plugin_info import PluginInfo
from microkernel.kernel.routing.call_table import COLLECTED
from microkernel.kernel.runtime.clock import SystemClock
from microkernel.kernel.service.dead_letter_service import Replayed
from microkernel.loader import FileLoader, LockFile, check_places, may_have_plugins
from microkernel.loader.config_in_code import Configured, KernelConfig, configuration, read_with_paths
from microkernel.loader.embedding_args import Grants, Places, list_places, read_grants, read_level
from microkernel.loader.overlap import check_data_folder
from microkernel.loader.parsers import Deferred, InProcess, Parser
from microkernel.loader.project import name_after, project_of
from microkernel.sdk.api import Service
from microkernel.sdk.buffer import Buffer, attachment_of
from microkernel.sdk.event import Reply, Subscription
from microkernel.wire import codec, messages
from microkernel.wire.data_folder import claim, close_to_others
from microkernel.wire.failures import to_error
from microkernel.wire.topics import check_pattern, check_topic

__all__ = ["Kernel", "KernelConfig"]

P = TypeVar("P")
T = TypeVar("T")

logging.getLogger("microkernel").addHandler(logging.NullHandler())  # silent unless the program configures logging


class Kernel:
    """Runs plugins. Use it as a context manager, ``with`` or ``async with``.

    ``plugins`` is a folder, a file, or a sequence of them. ``config`` is a ``KernelConfig``, a dict with the keys of
    ``microkernel.toml``, or the path of such a file, which is read again whenever a plugin is started or reloaded. By
    default no file is read. ``name`` distinguishes kernels of one user; it defaults to the configuration's or the
    project's. ``isolation`` overrides the level of manifests and configuration. ``grants`` maps plugin names to
    approved Permissions. ``python`` is the interpreter that workers run. ``lock`` is the path of a ``microkernel.lock``
    that stores approvals; without it they last as long as the kernel.

    The kernel opens no socket, watches no file and installs no signal handler. It logs to the logger ``microkernel``
    and prints nothing, except errors of this program's own handlers if logging is not configured. With
    ``raise_handler_errors``, meant for tests, these errors are raised instead: by ``emit`` or by the next method that
    is used, at the latest by ``close``.

    Methods may be called from any thread. Except for ``open`` and ``close`` they raise KernelClosed if the kernel is
    not running, and in a forked copy of its process.

    The constructor raises ConfigError for options and configuration that are not valid.
    """

    def __init__(
        self,
        plugins: Places = (),
        config: Configured | None = None,
        name: str = "",
        isolation: Level | None = None,
        grants: Grants | None = None,
        python: str | os.PathLike[str] = sys.executable,
        lock: str | os.PathLike[str] | None = None,
        *,
        raise_handler_errors: bool = False,
    ) -> None:
        self._config = configuration(config)
        self._reread: Callable[[], kernel_config.KernelConfig] | None = None
        self._config_file = ""
        if isinstance(config, str | os.PathLike):
            self._config_file = os.path.abspath(config)  # the working folder may have changed by then
            self._reread = partial(read_with_paths, self._config_file)
        self._places = [*list_places(plugins), *self._config.plugins]
        check_places(self._places)
        self._project = project_of(self._config.source, self._places)
        self.name = check_kernel_name(name or self._config.name or name_after(self._project))
        self._isolation = read_level(isolation)
        self._grants = read_grants(grants or {})
        self._python = os.fspath(python)
        self._lock = LockFile(os.fspath(lock)) if lock is not None else None
        self._hosts = HostsByLevel(self.name, self._python)
        # Sources of plugins that run in this process may be parsed in it too.
        is_apart = isolation != "thread" and not interpreter_defect()
        self._parser: Parser = Deferred(partial(_make_inspector, self._python)) if is_apart else InProcess()
        self._core: Core | None = None
        self._forked = False
        self._failures = HandlerFailures(raises=raise_handler_errors)
        _kernels.add(self)

    def _mark_forked(self) -> None:
        self._forked = True

    # Life cycle

    def __enter__(self) -> Kernel:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    async def __aenter__(self) -> Kernel:
        from asyncio import to_thread  # loading asyncio takes a third of the start, so only programs with a loop do it

        await to_thread(self.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from asyncio import to_thread

        await to_thread(self._leave, error)

    def _leave(self, error: BaseException | None) -> None:
        """Close. If ``error`` is being raised, pending errors of handlers are logged instead of raised."""
        if error is None:
            self.close()
            return
        self._failures.log_pending()
        self.close()

    def open(self, ready: Callable[[Kernel], object] | None = None) -> None:
        """Start the kernel and its plugins.

        Returns when each plugin is active or has failed, after at most 30 s of restarts. A plugin that fails to start
        does not raise; see ``list``. ``ready(kernel)`` is called before the first plugin starts. Call ``close`` even if
        this raises.

        Raises ConfigError: MK0414 if the lock cannot be read, MK0101 if a folder of plugins no longer exists, MK0722 if
        the data folder belongs to another project.
        """
        check_places(self._places)
        project = self._check_data()
        if self._lock is not None:
            self._lock.read()
        if may_have_plugins(self._places):
            self._parser.prepare()  # it starts in the background
        core = self._core = self._make_core(project)
        self._embedder = Embedder(core, self._failures)
        if ready is not None:
            ready(self)
        try:
            core.run()
        except BaseException:
            self.close()
            raise

    def _make_core(self, project: str) -> Core:
        try:
            own_files = [each for each in (self._lock.path if self._lock else "", self._config_file) if each]
            options = KernelOptions(
                self.name, self._config, self._data_dir(), project, self._isolation, self._grants, self._places,
                own_files, self._reread,
            )  # fmt: skip
            return make_core(options, FileLoader(self._parser), self._hosts.bind, SystemClock(), self._lock)
        except (OSError, RuntimeError) as error:
            if shortage := shortage_in(error):
                raise KernelError("MK0515", reason=shortage) from None
            raise

    def close(self, *, now: bool = False) -> None:
        """Stop all plugins in reverse order of their requirements, and the kernel. Idempotent.

        Each plugin first handles the messages that are queued for it; with ``now`` these become dead letters. With
        ``raise_handler_errors``, raises at the end what handlers have raised.
        """
        core = self._core
        if core is None or self._forked:
            return
        core.close(now)
        self._hosts.close()
        self._parser.close()
        self._embedder.close()
        core.reactor.run(core.buffers.close)
        core.reactor.close()
        self._core = None
        self._failures.raise_pending()

    @property
    def core(self) -> Core:
        """The kernel's parts, for code that is wired to them, such as ``ControlServer(kernel.core)``.

        Raises KernelClosed if the kernel is not running, and in a forked copy of its process.
        """
        if self._forked:
            raise KernelClosed("MK0612", reason="this process is a forked copy of the kernel's")
        if self._core is None:
            raise KernelClosed("MK0612", reason="it is not running; use it in a with block")
        if self._failures.pending:
            self._failures.raise_pending()
        return self._core

    # Events

    def emit(self, topic: str, /, **data: Any) -> None:
        """Send an event to every handler whose topic matches. Returns without waiting for any handler.

        ``data`` is passed to the handlers by name. As ``PluginAPI.emit``, without permissions. Raises BadTopic,
        NotPlainData, PayloadTooLarge.
        """
        check_topic(topic)
        core = self.core
        payload, shares = codec.encode_with(data, attachment_of)
        if shares:
            shares = self._embedder.shared.sent(shares)
        core.bus.emit("kernel", topic, codec.Raw(payload), shares, mode=ON_EMBEDDER_THREAD)
        if self._failures.pending:
            self._failures.raise_pending()

    def on(
        self,
        pattern: str,
        handler: Callable[..., Any],
        *,
        once: bool = False,
        overflow: str = "block",
        inline: bool = False,
    ) -> Subscription:
        """Call ``handler`` for each event whose topic matches ``pattern``, as ``PluginAPI.on`` does, in this program.

        Handlers run one at a time on one thread of the kernel. An ``inline`` handler runs on the thread that emits, and
        must not block. An ``async`` handler runs on the event loop that is running when this is called.

        Raises BadTopic; ValueError for an unknown ``overflow``; PluginLoadError for type hints that cannot be resolved
        and for generator functions; ConfigError MK0628 for an ``async`` handler without a running event loop, or with
        ``inline``.
        """
        self.core  # noqa: B018 - raises if the kernel is not running
        return self._embedder.on(check_pattern(pattern), handler, once=once, overflow=overflow, inline=inline)

    def events(self, pattern: str, *, size: int = 1000) -> EventStream:
        """Return the events that match ``pattern`` from now on: ``async for event in kernel.events("order.**")``.

        At most ``size`` events wait to be read; then each new one replaces the oldest, and the stream counts it in
        ``dropped``. The stream ends when the kernel closes, and is cancelled by ``aclose``, by leaving ``async with``,
        or when it is deleted. Raises BadTopic; ConfigError MK0628 without a running event loop.
        """
        stream = EventStream(pattern, size)
        self._embedder.add_stream(stream, self.on(pattern, stream.handler(), overflow="drop_oldest"))
        return stream

    def ask(self, topic: str, /, *, timeout: float = 5.0, **data: Any) -> list[Reply]:
        """Send an event and return one Reply per matching handler, after at most ``timeout`` seconds.

        The Reply of a handler that did not answer in time has the ``error`` CallTimeout; that of a handler that raised
        has CallFailed. Raises BadTopic, NotPlainData, PayloadTooLarge.
        """
        core, deadline = self.core, time.monotonic() + timeout
        payload, shares = codec.encode_with(data, attachment_of)
        sent = self._embedder.shared.sent(shares)
        message = messages.Ask(0, check_topic(topic), codec.Raw(payload), deadline, shares=sent)
        waiter = Waiter()
        core.reactor.run(partial(core.router.ask, None, "kernel", message, waiter.answer))
        reply = waiter.wait(0, deadline + 1.0)
        answers = codec.decode(reply.value, _ANSWERS) if reply else []
        return [Reply(who, value, to_error(failure, who) if failure else None) for who, value, failure in answers]

    # Calls

    @overload
    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: type[T], **kwargs: Any) -> T: ...

    @overload
    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any: ...

    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """Call ``target``, a ``"plugin.method"``, and return its value, converted to the type ``returns`` if given.

        Waits at most ``timeout`` seconds. A plugin that is starting or in backoff is waited for until then.

        Raises CallTimeout (the method may still have run), CallFailed if the method raised, PluginDied if the callee
        died before it answered, InvalidArguments for arguments or a value that do not fit the type hints. Raises
        without calling the method: PluginNotFound, MethodNotFound, PluginNotActive, MailboxFull, NotPlainData,
        PayloadTooLarge.
        """
        core = self.core
        waiter: Waiter | ReplyLane
        if NATIVE_CALLS is not None and (sent := NATIVE_CALLS.send(core, target, timeout, args, kwargs)):
            message, pending, waiter = sent
        else:
            message = call_message(target, timeout, args, kwargs, self._embedder.shared)
            waiter = core.router.lane_to(target) or Waiter()
            try:
                pending = route(core, message, waiter)
            except BaseException:
                waiter.release()
                raise
        try:
            reply = waiter.wait(pending, message.deadline)
        except BaseException:
            core.calls.abandon(pending)
            raise
        if reply is None:
            core.calls.abandon(pending)
            raise CallTimeout("MK0606", target=target, timeout=timeout)
        if NATIVE_CALLS is None or not NATIVE_CALLS.collect(core.calls, pending):
            core.calls.complete(pending, COLLECTED)
        return value_of(reply, message, timeout, returns, self._embedder.shared)

    @overload
    async def acall(self, target: str, /, *args: Any, timeout: float = 5.0, returns: type[T], **kwargs: Any) -> T: ...

    @overload
    async def acall(
        self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any
    ) -> Any: ...

    async def acall(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """Like ``call``, for asyncio programs. Cancelling the awaiting task also cancels the call."""
        import asyncio

        core, loop = self.core, asyncio.get_running_loop()
        answered: asyncio.Future[messages.Response] = loop.create_future()
        message = call_message(target, timeout, args, kwargs, self._embedder.shared)
        pending = route(core, message, FutureWaiter(loop, answered))
        try:
            async with asyncio.timeout(timeout):
                reply = await answered
        except TimeoutError:
            raise CallTimeout("MK0606", target=target, timeout=timeout) from None
        finally:
            if not answered.done() or answered.cancelled():
                core.calls.abandon(pending)
        return value_of(reply, message, timeout, returns, self._embedder.shared)

    def service(self, name: str, protocol: type[P] | None = None, timeout: float = 5.0) -> P:
        """Return a proxy for a plugin's methods, as ``PluginAPI.service``: ``kernel.service("billing").total()``."""
        return cast("P", Service(self, name, protocol, timeout))

    def share(self, data: Any) -> Buffer:
        """Copy bytes once to memory that plugins can read: ``kernel.call("resize.run", kernel.share(image))``.

        As ``PluginAPI.share``. Raises PayloadTooLarge, and TypeError if ``data`` is not bytes-like.
        """
        self.core  # noqa: B018 - raises if the kernel is not running
        return self._embedder.shared.share(data)

    # Shared data

    def get_data(self, key: str, default: Any = None) -> Any:
        """Return the shared value at ``key``, or ``default`` if the key does not exist. Raises BadTopic."""
        value = self.core.data.get(check_topic(key))
        return codec.decode(value.data) if value is not None else default

    def set_data(self, key: str, value: Any, *, expect: int | None = None) -> int:
        """Write the shared value at ``key`` and return its new revision.

        With ``expect``, write only if the key is at that revision; 0 means that it does not exist. Raises
        RevisionConflict, whose ``revision`` is the current one; BadTopic, NotPlainData, PayloadTooLarge.
        """
        core, data = self.core, codec.Raw(codec.encode(value))
        return core.reactor.run(partial(core.data.set, "kernel", check_topic(key), data, expect))

    def delete_data(self, key: str) -> None:
        """Delete ``key`` from the shared data. Does nothing if it does not exist. Raises BadTopic."""
        core = self.core
        core.reactor.run(partial(core.data.delete, check_topic(key)))

    # Plugins

    def list(self) -> list[PluginInfo]:
        """Return a snapshot of each plugin."""
        return self.core.plugins.list()

    def info(self, name: str) -> PluginInfo:
        """Return a snapshot of one plugin. Raises PluginNotFound."""
        return self.core.plugins.info(name)

    def load(self, path: str | os.PathLike[str]) -> PluginInfo:
        """Add a plugin's file or folder and start it.

        Raises PluginLoadError or a subclass. A plugin that was refused before its code ran is not added.
        """
        return self.core.plugins.load(os.fspath(path))

    def start(self, name: str, *, reset: bool = False) -> PluginInfo:
        """Start a plugin from its current source. Does nothing if it is running.

        ``reset`` releases it from quarantine. Raises PluginNotFound, PluginLoadError or a subclass if it does not
        become active, and PluginNotActive if it is quarantined and ``reset`` is not given.
        """
        return self.core.plugins.start(name, reset)

    def stop(self, name: str, *, cascade: bool = False, now: bool = False) -> PluginInfo:
        """Stop a plugin after it has handled the messages queued so far.

        Draining takes at most ``limits.drain`` seconds, its ``stop`` at most ``limits.stop``; an instance that does not
        stop in time is killed. ``now`` skips draining, also of a stop in progress; queued messages become dead letters.
        ``cascade`` first stops the plugins that require this one.

        Raises PluginNotFound; RequirementError without ``cascade`` if running plugins require this one.
        """
        return self.core.plugins.stop(name, cascade, now)

    def reload(self, name: str) -> ReloadReport:
        """Replace a plugin by its current source on disk, keeping its queued messages and exported state.

        Raises ReloadFailed, with ``.report``, if the new source fails; the old source then keeps running. Raises
        PluginNotFound.
        """
        return self.core.plugins.reload(name)

    def kill(self, name: str) -> PluginInfo:
        """End a plugin immediately, without draining or calling ``stop``, and do not restart it.

        Raises PluginNotFound.
        """
        return self.core.plugins.kill(name)

    def unload(self, name: str) -> Leftovers:
        """Stop a plugin and remove it from the kernel. Return one line for each thing that still holds its objects."""
        return self.core.plugins.unload(name)

    def review(self, name: str) -> Review:
        """Return what a plugin on disk requests, compared with what was approved. Raises PluginNotFound."""
        return self.core.approvals.review(name)

    def approve(self, name: str, *, remember: bool = True) -> PluginInfo:
        """Approve everything that a plugin requests, and start it.

        ``remember`` also stores the approval in ``lock``, if the kernel has one.
        """
        return self.core.approvals.approve(name, remember=remember)

    def dead_letters(self, name: str = "") -> Letters:
        """Return the events that could not be handled, of one plugin or of all.

        Each is a dict with ``id``, ``plugin``, ``handler``, ``topic``, ``source``, ``time`` (seconds since the epoch),
        ``delivery``, ``reason`` and ``data``.
        """
        return self.core.dead_letters.dead(name)

    def replay(self, letter: int) -> bool:
        """Deliver a dead letter, by its ``id``, to its handler again.

        Raises KernelError MK0613 if either is gone, and MailboxFull; then the letter stays.
        """
        return self.core.dead_letters.replay(letter)

    def replay_all(self, plugin: str = "", *, topic: str = "", since: float = 0.0) -> Replayed:
        """Deliver all dead letters that match to their handlers again, oldest first; those that cannot be stay.

        ``topic`` is a pattern, ``since`` the time of the oldest in seconds since the epoch. Raises PluginNotFound,
        BadTopic.
        """
        return self.core.dead_letters.replay_all(plugin, topic, since)

    def available(self) -> dict[str, Availability]:
        """Return the availability of each level on this machine. ``error`` is None if the level can be used."""
        core = self.core
        return self._hosts.available(core.reactor, core.texts.announce)

    def _check_data(self) -> str:
        """Claim the data folder for this project, and return the project; empty if the operator named the folder.

        Data that belongs to no project is taken over. Raises ConfigError MK0722, MK0724.
        """
        if (place := self._data_dir()) is not None:
            check_data_folder(str(place), self._places, is_named=bool(self._config.data_dir))
        if self._config.data_dir:
            return ""
        project, folder = valid_text(self._project), self._data_dir()
        with suppress(OSError):  # a plugin that wants to keep data there is refused later
            if folder is not None and folder.is_dir():
                claim(str(folder), project)
                close_to_others(str(folder))
        return project

    def _data_dir(self) -> Path | None:
        """Return the path of the data folder; None if this user has no place for data.

        It is absolute, because workers have other working folders.
        """
        if self._config.data_dir:
            return Path(self._config.data_dir).absolute()
        state = state_home(os.environ)
        return state / "microkernel" / self.name if state else None


Leftovers = list[str]
Letters = list[dict[str, Any]]
_ANSWERS = list[tuple[str, Any, messages.Failure | None]]
_kernels: weakref.WeakSet[Kernel] = weakref.WeakSet()


def _mark_forked() -> None:
    for kernel in _kernels:
        kernel._mark_forked()


os.register_at_fork(after_in_child=_mark_forked)


def _make_inspector(python: str) -> Parser:
    from microkernel.hosts.inspector_process import Inspector  # a kernel without plugins does not load it

    return Inspector(python)
