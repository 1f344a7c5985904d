"""All that a plugin is given of the kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_type_hints

from microkernel.sdk.buffer import Buffer
from microkernel.sdk.decorators import Overflow
from microkernel.sdk.event import Reply, Subscription

if TYPE_CHECKING:
    from microkernel.sdk.runtime.instance import Instance

P = TypeVar("P")


class PluginAPI:
    """A narrow facade, the same at every isolation level. All payloads are values; all calls have a deadline.

    In ``__init__`` only registering is allowed (``on``, ``expose``, ``every``, ``after``, ``watch_data``); whatever
    sends raises PluginNotActive there.
    """

    __slots__ = ("_instance", "say")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.say = UserMessages(instance)

    # who

    @property
    def name(self) -> str:
        return self._instance.load.name

    @property
    def log(self) -> logging.Logger:
        """A logger of its own, whose records the kernel keeps."""
        return self._instance.log

    @property
    def version(self) -> str:
        return self._instance.load.version

    @property
    def generation(self) -> int:
        """1 at first; each reload or restart makes the next."""
        return self._instance.load.generation

    @property
    def isolation(self) -> str:
        """The level it runs at: ``thread``, ``process``, ``sandbox`` or ``wasm``."""
        return self._instance.load.isolation

    @property
    def config(self) -> Any:
        """The operator's configuration: an instance of the module's ``class Config`` if there is one, else a dict."""
        return self._instance.config

    @property
    def data_dir(self) -> Path:
        """A folder of its own that outlives it; made when first asked for."""
        return self._instance.data_dir()

    @property
    def is_active(self) -> bool:
        """True from ``start`` until it is asked to stop: the condition for loops in spawned work."""
        return self._instance.is_active()

    @property
    def cancelled(self) -> bool:
        """True when nobody waits any more for what this handler or method is doing."""
        return self._instance.is_cancelled()

    # events

    def on(
        self, topic: str, handler: Callable[..., Any], *, once: bool = False, overflow: Overflow = "block"
    ) -> Subscription:
        """Handle the events of a topic or pattern. Parameters are filled by name; one called ``event`` is the Event.

        Raises BadTopic, PermissionDenied.
        """
        return self._instance.subscribe(topic, handler, once, overflow, board=False)

    def off(self, subscription: Subscription) -> None:
        """Handle no more. A second time does nothing."""
        subscription.cancel()

    def emit(self, topic: str, /, **data: Any) -> None:
        """Send an event to all who listen. Waits for no handler.

        Raises BadTopic, PermissionDenied, NotPlainData, PayloadTooLarge.
        """
        self._instance.outgoing("emit").emit(topic, data)

    def ask(self, topic: str, /, *, timeout: float = 5.0, **data: Any) -> list[Reply]:
        """Send an event and collect one Reply a handler; late ones carry CallTimeout. One's own are skipped."""
        return self._instance.outgoing("ask").ask(topic, timeout, data)

    # services

    def expose(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Make a function callable by other plugins as ``<plugin>.<name>``."""
        self._instance.expose(function, name)

    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """Call ``plugin.method`` and wait for its value, converted to ``returns`` if that is given.

        Raises CallTimeout, CallFailed, CallDeadlock, PluginDied, PluginNotFound, MethodNotFound, PluginNotActive,
        InvalidArguments, PermissionDenied, NotPlainData, PayloadTooLarge, MailboxFull.
        """
        return self._instance.outgoing("call").call(target, timeout, args, kwargs, returns)

    async def acall(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """The same from ``async`` code: other handlers go on meanwhile, so it closes no cycle."""
        return await self._instance.outgoing("acall").acall(target, timeout, args, kwargs, returns)

    def service(self, name: str, protocol: type[P] | None = None, timeout: float = 5.0) -> P:
        """A proxy: ``api.service("billing").total(currency="CNY")``. A ``protocol``'s return hints convert results."""
        return cast("P", Service(self, name, protocol, timeout))

    # context

    def get_data(self, key: str, default: Any = None) -> Any:
        """The value at a key of the shared board."""
        return self._instance.outgoing("get_data").get_data(key, default)

    def set_data(self, key: str, value: Any, *, expect: int | None = None) -> int:
        """Write a key and return its new revision. With ``expect``, only if it is at that revision (0: not there).

        Raises RevisionConflict, which has the present ``revision``.
        """
        return self._instance.outgoing("set_data").set_data(key, value, expect)

    def delete_data(self, key: str) -> None:
        """Take a key away; nothing happens where there is none."""
        self._instance.outgoing("delete_data").delete_data(key)

    def watch_data(self, pattern: str, handler: Callable[..., Any]) -> Subscription:
        """Call ``handler(key, value, revision)`` for each change of matching keys, the present values first.

        A deleted key comes with value None and revision 0.
        """
        return self._instance.subscribe(pattern, handler, False, "block", board=True)

    # large

    def share(self, data: Any) -> Buffer:
        """Copy bytes, once, to where other plugins can read them: ``emit("frame", pixels=api.share(array))``.

        ``data`` is anything bytes-like: ``bytes``, ``bytearray``, ``memoryview``, a numpy array, another Buffer (which
        is given back as it is). Put the Buffer into the payload of an event, a call or an answer, as often as you like;
        not on the board, and not into the answer to an ``ask``. Between ``thread`` and ``process`` plugins it may have
        any size, and all that one has in use 1 GiB (``limits.shared``). To and from others a payload takes 16 MiB.

        Raises PayloadTooLarge, TypeError for what is not bytes-like.
        """
        return self._instance.outgoing("share").sharing.share(data)

    # time

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Run beside the handlers: a function in a thread of its own, an ``async def`` as a task."""
        self._instance.spawn(function, args)

    def every(self, seconds: float, function: Callable[[], Any]) -> Subscription:
        """Run again and again among the handlers; a beat that finds the one before still running is skipped."""
        return self._instance.add_timer(seconds, function, repeat=True)

    def after(self, seconds: float, function: Callable[[], Any]) -> Subscription:
        """Run once, among the handlers."""
        return self._instance.add_timer(seconds, function, repeat=False)

    def sleep(self, seconds: float) -> bool:
        """Wait, but no longer than the plugin is active and the work is wanted. True if the whole time has passed."""
        return self._instance.sleep(seconds)

    def __repr__(self) -> str:
        return f"<PluginAPI of {self.name}, generation {self.generation}, {self.isolation}>"


class UserMessages:
    """Messages to people, in six kinds."""

    __slots__ = ("_instance",)

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def explain(self, text: str, /, **fields: Any) -> None:
        self._instance.say("explain", text, fields)

    def direct(self, text: str, /, **fields: Any) -> None:
        self._instance.say("direct", text, fields)

    def success(self, text: str, /, **fields: Any) -> None:
        self._instance.say("success", text, fields)

    def notice(self, text: str, /, **fields: Any) -> None:
        self._instance.say("notice", text, fields)

    def warn(self, text: str, /, **fields: Any) -> None:
        self._instance.say("warn", text, fields)

    def error(self, text: str, /, **fields: Any) -> None:
        self._instance.say("error", text, fields)


class Service:
    """Another plugin's methods as attributes."""

    __slots__ = ("_api", "_name", "_protocol", "_timeout")

    def __init__(self, api: PluginAPI, name: str, protocol: type | None, timeout: float) -> None:
        self._api = api
        self._name = name
        self._protocol = protocol
        self._timeout = timeout

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        target, returns = f"{self._name}.{method}", self._returns(method)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._api.call(target, *args, timeout=self._timeout, returns=returns, **kwargs)

        return call

    def _returns(self, method: str) -> Any:
        function = getattr(self._protocol, method, None)
        return get_type_hints(function).get("return") if function is not None else None
