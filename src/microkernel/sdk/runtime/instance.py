"""One running instance: its load, its registrations, and the implementation of its PluginAPI."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from errno import ENOENT
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from microkernel.errors import PluginNotActive
from microkernel.sdk.binding.handlers import Handlers, check_runs, is_async
from microkernel.sdk.binding.signature import name_of
from microkernel.sdk.client.channel import Channel
from microkernel.sdk.client.client import Client
from microkernel.sdk.decorators import Overflow
from microkernel.sdk.event import Subscription
from microkernel.sdk.failures import failure_of
from microkernel.sdk.logging import plugin_logger
from microkernel.sdk.process_copies import is_forked_copy, page, refuse_copy
from microkernel.sdk.request_context import IDLE, current
from microkernel.sdk.runtime.background import BackgroundTasks
from microkernel.sdk.runtime.dispatcher import Dispatcher
from microkernel.sdk.runtime.executor import Tasks
from microkernel.sdk.runtime.threads import KillableThread
from microkernel.sdk.runtime.timers import Timer, TimerQueue
from microkernel.wire import codec, messages
from microkernel.wire.data_folder import claim_around, close_to_others
from microkernel.wire.failures import reason_suffix
from microkernel.wire.folders import make_private
from microkernel.wire.secrets import Secrets
from microkernel.wire.texts import valid_texts

# Seconds between two reads of the channel by code that polls whether it is still wanted.
_POLL_EVERY = 0.0005

Phase = Literal["loading", "starting", "active", "stopping", "stopped"]


class PluginInstance:
    """One generation of a plugin, on the plugin's side. Created on the instance's main thread. Registering and sending
    may be done on any thread, everything else on the main thread."""

    def __init__(self, channel: Channel, load: messages.Load) -> None:
        self.load = load
        self.phase: Phase = "loading"
        self.config: Any = {}
        self.handlers = Handlers()
        self.timers = TimerQueue()
        self.secrets = Secrets(load.secrets)
        self.client = Client(channel, load)
        self.sharing = self.client.sharing
        self.dispatcher = Dispatcher(channel, self.handlers, self.sharing, load.name, load.root, self.secrets)
        self.spawned = BackgroundTasks(self.report)
        self.ending = self.dispatcher.ending
        self._channel = channel
        self._main = threading.get_ident()
        self._polled = 0.0
        self._has_data_folder = False

    @cached_property
    def log(self) -> logging.Logger:
        """The plugin's logger, created at first use because many plugins never log."""
        return plugin_logger(self.load.name, self.load.log_level, self._channel.send, self.secrets)

    def threads(self) -> list[KillableThread]:
        """Return the running threads of the instance, except the main one."""
        pool = [thread for thread in self.dispatcher.executor.threads if thread.is_alive()]
        return [*pool, *self.spawned.threads]

    def enter(self, phase: Phase) -> None:
        """Enter a phase of the life cycle. From ``stopping`` on the instance is sure to end."""
        self.phase = phase
        if phase in ("stopping", "stopped"):
            self.ending.set()

    def require_client(self, what: str) -> Client:
        """Return the client for requests. Raises PluginNotActive before ``start`` and after the stop, with ``what`` was
        attempted."""
        if self.phase in ("starting", "active", "stopping"):
            if not page[0]:
                refuse_copy()
            return self.client
        reason = f"{what} in __init__; move it to start()" if self.phase == "loading" else what
        raise PluginNotActive("MK0213", name=self.load.name, state=self.phase, what=reason)

    def subscribe(
        self, pattern: str, function: Callable[..., Any], once: bool, overflow: Overflow, *, board: bool
    ) -> Subscription:
        refuse_copy()
        registered = self.handlers.add(pattern, function, once, overflow, board)
        number = registered.wire.number
        try:
            self.client.check_handler(registered.wire)
            if self.phase != "loading":
                self.client.subscribe(registered.wire)
        except BaseException:
            self.handlers.remove(number)
            raise
        return Subscription(pattern, registered.wire.name, partial(self._unsubscribe, number))

    def _unsubscribe(self, number: int) -> None:
        if self.handlers.remove(number) and self.phase in ("starting", "active"):
            self.client.unsubscribe(number)

    def expose(self, function: Callable[..., Any], name: str | None) -> None:
        refuse_copy()
        exposed = self.handlers.expose(function, name)
        if self.phase != "loading":
            self.client.expose(exposed.wire)

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.require_client("spawn")
        self.spawned.start(function, args)

    def add_timer(self, seconds: float, function: Callable[[], Any], *, repeat: bool) -> Subscription:
        if not (seconds > 0 or (seconds == 0 and not repeat)):
            raise ValueError(f"a timer needs more than 0 seconds, got {seconds}")
        check_runs(function)
        refuse_copy()
        timer = Timer(seconds, function, repeat=repeat, is_async=is_async(function))
        if self.phase == "loading" or threading.get_ident() == self._main:
            self.timers.add(timer, time.monotonic())
        else:
            self.dispatcher.post(lambda: self.timers.add(timer, time.monotonic()))
        return Subscription(f"{'every' if repeat else 'after'} {seconds} s", name_of(function), timer.cancel)

    def forget(self) -> None:
        """Drop all registrations, because nothing of the instance runs any more, but its PluginAPI may still be
        referenced."""
        self.config = {}
        self.handlers, self.timers = Handlers(), TimerQueue()
        self.dispatcher.forget(self.handlers)

    def is_active(self) -> bool:
        self._poll()
        return self.phase in ("starting", "active") and not self._is_stopping()

    def is_cancelled(self) -> bool:
        self._poll()
        return current.get().cancelled or self._is_stopping()

    def _is_stopping(self) -> bool:
        """Return whether this thread's work is to end.

        A handler's is when a stop is requested; other work only when the instance is sure to end, because it continues
        if its state cannot be exported.
        """
        return (
            is_forked_copy() or self.ending.is_set() or (self.dispatcher.stop is not None and current.get() is not IDLE)
        )

    def sleep(self, seconds: float) -> bool:
        end, work = time.monotonic() + seconds, current.get()
        while (left := end - time.monotonic()) > 0:
            if work.deadline:
                left = min(left, max(0.0, work.deadline - time.monotonic()))
            if self._on_sync_main():
                self.dispatcher.poll_control(left)
            else:
                (self.ending if work is IDLE else self.dispatcher.stopping).wait(left)
            if work.cancelled or self._is_stopping():
                return False
        return True

    def say(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        refuse_copy()
        cut = self.secrets.redact
        values = codec.decode(codec.encode(valid_texts(fields)))
        named = {key: value for key, value in values.items() if f"{{{key}}}" in text}
        few = islice(named.items(), messages.MAX_FIELDS)
        plain: messages.Fields = {key: _shallow(value, cut) for key, value in few}
        self._channel.send(messages.Log(20, codec.plain_text(cut(text)), time.time(), kind, plain))

    def report(self, who: str, error: BaseException) -> None:
        """Log an exception of plugin code that has no caller, with its traceback reduced to the plugin's files."""
        failure = failure_of(error, self.load.root, self.secrets)
        text = f"{who} raised {failure.type}{reason_suffix(failure.message)}\n{failure.traceback}"
        self._channel.send(messages.Log(logging.ERROR, text, time.time()))

    def data_dir(self) -> Path:
        if not self.load.data_dir:
            raise FileNotFoundError(ENOENT, "no place for data: set HOME or XDG_STATE_HOME, or name a data_dir")
        folder = Path(self.load.data_dir)
        if not (self._has_data_folder and folder.is_dir()):
            claim_around(self.load.data_dir, self.load.project, f"{self.load.root}/{self.load.entry}")
            make_private(folder)
            close_to_others(self.load.data_dir)
            self._has_data_folder = True
        return folder

    def _poll(self) -> None:
        """Poll the channel, so that code that runs on the main thread for long sees a Cancel or a Stop."""
        now = time.monotonic()
        if now - self._polled > _POLL_EVERY and self._on_sync_main() and self.phase in ("starting", "active"):
            self._polled = now
            self.dispatcher.poll_control(0.0)

    def _on_sync_main(self) -> bool:
        is_main = threading.get_ident() == self._main and not is_forked_copy()
        return is_main and not isinstance(self.dispatcher.executor, Tasks)


def _shallow(value: Any, cut: Callable[[str], str]) -> messages.Scalar:
    """Return a field of a message to people: a single value as it is, anything else as text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return codec.plain_text(cut(str(value)))
