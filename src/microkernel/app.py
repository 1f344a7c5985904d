"""The composition root: the public Kernel wires loader, hosts and kernel."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from microkernel.embedder.calls import FutureWaiter, Waiter, call_message, give_up, route, value_of
from microkernel.embedder.failures import HandlerFailures
from microkernel.embedder.handlers import Embedder
from microkernel.errors import (
    CallTimeout,
    IsolationUnavailable,
    KernelClosed,
    KernelError,
    shortage_in,
    valid_text,
)
from microkernel.hosts.worker.environment import starts_itself
from microkernel.kernel import manifest
from microkernel.kernel.admission.effective_config import check_kernel_name, state_home
from microkernel.kernel.admission.permissions import Review
from microkernel.kernel.kernel import Core
from microkernel.kernel.manifest import LEVELS, Level
from microkernel.kernel.operations.reload import ReloadReport
from microkernel.kernel.ports import Availability, Host
from microkernel.kernel.reporting.plugin_info import PluginInfo
from microkernel.kernel.runtime.clock import SystemClock
from microkernel.loader import FileLoader, LockFile, check_places, may_have_plugins, read_config
from microkernel.loader.config_in_code import KernelConfig, config_of
from microkernel.loader.embedding_args import Grants, Places, list_places, read_grants, read_level
from microkernel.loader.overlap import check_data_folder
from microkernel.loader.parsers import Deferred, InProcess, Parser
from microkernel.loader.project import name_after, project_of
from microkernel.sdk.buffer import Buffer, attachment_of
from microkernel.sdk.event import Reply, Subscription
from microkernel.wire import codec, messages
from microkernel.wire.data_folder import claim, close_to_others
from microkernel.wire.failures import to_error
from microkernel.wire.topics import check_pattern, check_topic

__all__ = ["Kernel", "KernelConfig"]

logging.getLogger("microkernel").addHandler(logging.NullHandler())  # silent, unless the program wants to hear

_EXTRAS = {"wasm": "wasm"}
_REFUSED_FOR = 1.0
Configured = manifest.KernelConfig | Mapping[str, Any] | str | os.PathLike[str]


class Kernel:
    """Runs the plugins of some folders. Use it as a context manager, ``with`` or ``async with``.

    ``plugins``: a folder, a file, or several. ``config``: a ``KernelConfig``, a dict with the keys of a
    ``microkernel.toml``, or the path of one, which is read again when a plugin is started or reloaded; by default
    nothing is read. ``isolation`` overrides what manifests and config say. ``python`` is the interpreter that workers
    run. ``lock`` is the path of a ``microkernel.lock``, in which approvals are remembered; without it they last as long
    as the kernel. It prints nothing (its logger is ``microkernel``) but errors of your own handlers, where no
    logging is configured. ``raise_handler_errors``, for tests, raises these instead: out of ``emit``, or out of the
    next method that is used, ``close`` at the latest. It opens no socket, watches no file, installs no signal handler.
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
        self._reread: Callable[[], manifest.KernelConfig] | None = None
        self._config_file = ""
        if isinstance(config, str | os.PathLike):
            self._config_file = os.path.abspath(config)  # the working folder may be another by then
            self._reread = partial(_read, self._config_file)
        self._places = [*list_places(plugins), *self._config.plugins]
        check_places(self._places)
        self._project = project_of(self._config.source, self._places)
        self.name = check_kernel_name(name or self._config.name or name_after(self._project))
        self._isolation = read_level(isolation)
        self._grants = read_grants(grants or {})
        self._python = os.fspath(python)
        self._lock = LockFile(os.fspath(lock)) if lock is not None else None
        self._hosts: dict[Level, Host] = {}
        self._refused: dict[Level, tuple[float, IsolationUnavailable]] = {}
        self._hosts_lock = threading.Lock()
        # What runs in this process may as well be parsed in it.
        is_apart = isolation != "thread" and not starts_itself()
        self._parser: Parser = Deferred(partial(_make_inspector, self._python)) if is_apart else InProcess()
        self._core: Core | None = None
        self._forked = False
        self._failures = HandlerFailures(raises=raise_handler_errors)
        _kernels.add(self)

    # Its life

    def __enter__(self) -> Kernel:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    async def __aenter__(self) -> Kernel:
        from asyncio import to_thread  # who has no loop does not pay for one: a third of the start

        await to_thread(self.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from asyncio import to_thread

        await to_thread(self._leave, error)

    def _leave(self, error: BaseException | None) -> None:
        """Close; an error that is on its way is not replaced by one of a handler."""
        if error is None:
            self.close()
            return
        self._failures.log_pending()
        self.close()

    def open(self, ready: Callable[[Kernel], object] | None = None) -> None:
        """Start; returns when every plugin is active or not going to be, and after at most 30 s of restarts. ``ready``
        is called before the first starts.

        Close it also when this raises. Raises ConfigError: MK0414 for a lock that cannot be read, MK0101 for a place
        that has gone, MK0722 if another project has its data where this kernel would have its own.
        """
        check_places(self._places)
        project = self._check_data()
        if self._lock is not None:
            self._lock.read()
        if may_have_plugins(self._places):
            self._parser.prepare()  # it starts while the rest is made
        core = self._core = self._make_core(project)
        core.places, core.reread = self._places, self._reread
        core.own_files = [each for each in (self._lock.path if self._lock else "", self._config_file) if each]
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
            return Core(
                self.name,
                FileLoader(self._parser),
                lambda core: partial(self._host, core),
                SystemClock(),
                self._config,
                self._data_dir(),
                self._isolation,
                self._grants,
                self._lock,
                project,
            )
        except (OSError, RuntimeError) as error:
            if shortage := shortage_in(error):
                raise KernelError("MK0515", reason=shortage) from None
            raise

    def close(self, *, now: bool = False) -> None:
        """Stop all plugins, in reverse order of requirement, each when it has handled what waits for it; ``now``:
        without that. Idempotent. With ``raise_handler_errors`` it raises, at the end, what handlers have raised since.
        """
        core = self._core
        if core is None or self._forked:
            return
        core.close(now)
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()
        self._parser.close()
        self._embedder.close()
        core.reactor.run(core.buffers.close)
        core.reactor.close()
        self._core = None
        self._failures.raise_pending()

    @property
    def core(self) -> Core:
        """The parts, for what is wired to them. Raises KernelClosed when it is not running, or in a forked copy."""
        if self._forked:
            raise KernelClosed("MK0612", reason="this process is a forked copy of the kernel's")
        if self._core is None:
            raise KernelClosed("MK0612", reason="it is not running; use it in a with block")
        if self._failures.pending:
            self._failures.raise_pending()
        return self._core

    # Events

    def emit(self, topic: str, /, **data: Any) -> None:
        """Send an event to all who listen. Waits for no handler. Raises BadTopic, NotPlainData, PayloadTooLarge."""
        check_topic(topic)
        core = self.core
        payload, shares = codec.encode_with(data, attachment_of)
        if shares:
            shares = self._embedder.shared.sent(shares)
        core.bus.emit("kernel", topic, codec.Raw(payload), shares, direct=True)
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
        """Handle events in this program: one at a time on a thread of the kernel's, or ``inline`` on the emitter's,
        where it must not block. An ``async`` handler runs on the event loop that runs where this is called.

        Raises BadTopic; ValueError for an unknown ``overflow``; PluginLoadError for hints that cannot be read and for
        generator functions; ConfigError MK0628 for an ``async`` handler where no event loop runs, or inline.
        """
        self.core  # noqa: B018 - raises where there is none
        return self._embedder.on(check_pattern(pattern), handler, once=once, overflow=overflow, inline=inline)

    def ask(self, topic: str, /, *, timeout: float = 5.0, **data: Any) -> list[Reply]:
        """Send an event and collect one Reply a handler; late ones carry CallTimeout."""
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

    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """Call ``plugin.method`` and wait for its value, converted to ``returns`` if that is given.

        Raises CallTimeout, CallFailed, PluginDied, PluginNotFound, MethodNotFound, PluginNotActive, InvalidArguments,
        NotPlainData, PayloadTooLarge, MailboxFull.
        """
        core = self.core
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
            give_up(core, pending)
            raise
        if reply is None:
            give_up(core, pending)
            raise CallTimeout("MK0606", target=target, timeout=timeout)
        core.router.collect(pending)
        return value_of(reply, message, timeout, returns, self._embedder.shared)

    async def acall(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """The same in an asyncio program."""
        import asyncio

        core, loop = self.core, asyncio.get_running_loop()
        answered: asyncio.Future[messages.Reply] = loop.create_future()
        message = call_message(target, timeout, args, kwargs, self._embedder.shared)
        pending = route(core, message, FutureWaiter(loop, answered))
        try:
            async with asyncio.timeout(timeout):
                reply = await answered
        except TimeoutError:
            raise CallTimeout("MK0606", target=target, timeout=timeout) from None
        finally:
            if not answered.done() or answered.cancelled():
                give_up(core, pending)
        return value_of(reply, message, timeout, returns, self._embedder.shared)

    def share(self, data: Any) -> Buffer:
        """Copy bytes, once, to where plugins can read them: ``kernel.call("resize.run", kernel.share(image))``. As
        ``PluginAPI.share``. Raises PayloadTooLarge, TypeError for what is not bytes-like."""
        self.core  # noqa: B018 - raises where there is none
        return self._embedder.shared.share(data)

    # Context

    def get_data(self, key: str, default: Any = None) -> Any:
        value = self.core.context.get(check_topic(key))
        return codec.decode(value.data) if value is not None else default

    def set_data(self, key: str, value: Any, *, expect: int | None = None) -> int:
        """Write a key; returns its new revision. Raises RevisionConflict if it is not at ``expect`` (0: not there)."""
        core, data = self.core, codec.Raw(codec.encode(value))
        return core.reactor.run(partial(core.context.set, "kernel", check_topic(key), data, expect))

    def delete_data(self, key: str) -> None:
        core = self.core
        core.reactor.run(partial(core.context.delete, check_topic(key)))

    # Plugins

    def list(self) -> list[PluginInfo]:
        return self.core.list()

    def info(self, name: str) -> PluginInfo:
        return self.core.info(name)

    def load(self, path: str | os.PathLike[str]) -> PluginInfo:
        """Add and start one plugin. Raises PluginLoadError and its kin."""
        return self.core.load(os.fspath(path))

    def start(self, name: str, *, reset: bool = False) -> PluginInfo:
        """Start a plugin that does not run; ``reset`` takes it out of quarantine."""
        return self.core.start(name, reset)

    def stop(self, name: str, *, cascade: bool = False, now: bool = False) -> PluginInfo:
        """Stop a plugin when it has handled what waits for it now: drain, ask, insist, kill, each with its deadline.

        ``now``: do not drain; what waits becomes dead letters. Ends also the draining of a stop that is under way.
        Raises RequirementError if others require it, unless ``cascade``.
        """
        return self.core.stop(name, cascade, now)

    def reload(self, name: str) -> ReloadReport:
        """Take the source as it is now. Raises ReloadFailed, with ``.report``, when the old source goes on."""
        return self.core.reload(name)

    def kill(self, name: str) -> PluginInfo:
        """End it now. No restart."""
        return self.core.kill(name)

    def unload(self, name: str) -> Leftovers:
        """Stop and forget it; returns what, if anything, still holds its objects."""
        return self.core.unload(name)

    def review(self, name: str) -> Review:
        """What a plugin asks for, as it is on the disk now, beside what was approved."""
        return self.core.review(name)

    def approve(self, name: str, *, remember: bool = True) -> PluginInfo:
        """Approve all that it asks for and have it run; with a ``lock``, ``remember`` it there."""
        return self.core.approve(name, remember=remember)

    def dead_letters(self, name: str = "") -> Letters:
        """Events that could not be handled: id, plugin, handler, topic, source, time, delivery, reason, data."""
        return self.core.dead(name)

    def replay(self, letter: int) -> bool:
        """Give a dead letter to its handler again."""
        return self.core.replay(letter)

    def available(self) -> dict[str, Availability]:
        """What this machine can give, by level."""
        core = self.core
        result: dict[str, Availability] = {}
        for level in LEVELS:
            try:
                result[level] = self._host(core, level).available()
            except IsolationUnavailable as error:
                result[level] = Availability("", error)
        return result

    def _host(self, core: Core, level: Level) -> Host:
        with self._hosts_lock:
            if level not in self._hosts:
                self._hosts[level] = self._new_host(core, level)
            return self._hosts[level]

    def _new_host(self, core: Core, level: Level) -> Host:
        """A refusal counts for all plugins that ask at that time: an interpreter that hangs takes long to refuse."""
        until, refusal = self._refused.get(level, (0.0, None))
        if refusal is not None and time.monotonic() < until:
            raise refusal.with_traceback(None)
        try:
            return _make_host(core, level, self._python)
        except IsolationUnavailable as error:
            self._refused[level] = (time.monotonic() + _REFUSED_FOR, error)
            raise

    def _check_data(self) -> str:
        """The project that the data is to belong to; none for a folder that the operator named. What is there already
        is taken over if it belongs to no project. Raises ConfigError MK0722, MK0724."""
        if (place := self._data_dir()) is not None:
            check_data_folder(str(place), self._places, is_named=bool(self._config.data_dir))
        if self._config.data_dir:
            return ""
        project, folder = valid_text(self._project), self._data_dir()
        with suppress(OSError):  # whoever wants to keep data there is refused then
            if folder is not None and folder.is_dir():
                claim(str(folder), project)
                close_to_others(str(folder))
        return project

    def _data_dir(self) -> Path | None:
        """Absolute: the working folder of a worker is another. None where this user has no place for it."""
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
        kernel._forked = True


os.register_at_fork(after_in_child=_mark_forked)


def _make_host(core: Core, level: Level, python: str) -> Host:
    try:
        module = import_module(f"microkernel.hosts.{level}")
    except ModuleNotFoundError as missing:
        if missing.name != f"microkernel.hosts.{level}":
            raise IsolationUnavailable("MK0510", extra=_EXTRAS.get(level, level)) from None
        raise IsolationUnavailable("MK0501", level=level, reason="it is not built yet") from None
    host: Host = getattr(module, f"{level.title()}Host")(
        core.reactor, name=core.name, python=python, announce=core.announce
    )
    if (error := host.available().error) is not None:
        host.close()
        raise error
    return host


def _make_inspector(python: str) -> Parser:
    from microkernel.hosts.inspector_process import Inspector  # a kernel without plugins does not pay for it

    return Inspector(python)


def configuration(config: Configured | None) -> manifest.KernelConfig:
    """From any of the forms in which a Kernel takes it. Raises ConfigError."""
    if config is None:
        return manifest.KernelConfig()
    return _read(config) if isinstance(config, str | os.PathLike) else config_of(config)


def _read(path: str | os.PathLike[str]) -> manifest.KernelConfig:
    """Paths in a configuration file are relative to its folder."""
    config, folder = read_config(os.fspath(path)), Path(path).resolve().parent
    return replace(
        config,
        plugins=tuple(p if p.startswith("entry-point") else str(folder / p) for p in config.plugins),
        data_dir=str(folder / config.data_dir) if config.data_dir else "",
    )
