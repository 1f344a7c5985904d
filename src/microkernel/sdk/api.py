"""The API that each plugin instance receives as ``self.api``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_type_hints, overload

from microkernel.sdk.buffer import Buffer
from microkernel.sdk.decorators import Overflow
from microkernel.sdk.event import Reply, Subscription

if TYPE_CHECKING:
    from microkernel.sdk.runtime.instance import PluginInstance

P = TypeVar("P")
T = TypeVar("T")


class PluginAPI:
    """A plugin's only access to the kernel, the same at every isolation level.

    Payloads are values (see "Payloads" in ``docs/plugins.md``), never references. Every call has a deadline. Methods
    may be called from any thread of the plugin.

    Until ``start`` is called only registration is allowed: ``on``, ``expose``, ``every``, ``after`` and ``watch_data``.
    Methods that send (``emit``, ``ask``, ``call``, ``get_data``, ``set_data``, ``delete_data``, ``share``, ``spawn``)
    raise PluginNotActive in ``__init__`` and after the instance has stopped. In a forked copy of the process, methods
    that register or send raise KernelClosed.
    """

    __slots__ = ("_instance", "say")

    def __init__(self, instance: PluginInstance) -> None:
        self._instance = instance
        self.say = UserMessages(instance)

    # Identity and configuration

    @property
    def name(self) -> str:
        """The plugin's name, as its manifest or its file gives it."""
        return self._instance.load.name

    @property
    def log(self) -> logging.Logger:
        """The plugin's logger, a standard ``logging.Logger``. The kernel stores its records; `mk logs` shows them."""
        return self._instance.log

    @property
    def version(self) -> str:
        """The plugin's version from its manifest, ``"0.0.0"`` by default."""
        return self._instance.load.version

    @property
    def generation(self) -> int:
        """The number of this instance, from 1. Each reload or restart creates the next generation."""
        return self._instance.load.generation

    @property
    def isolation(self) -> str:
        """The level this instance runs at: ``"thread"``, ``"process"``, ``"sandbox"`` or ``"wasm"``."""
        return self._instance.load.isolation

    @property
    def config(self) -> Any:
        """The operator's configuration: the module's ``class Config``, or a dict if the module has none."""
        return self._instance.config

    @property
    def data_dir(self) -> Path:
        """The plugin's own data folder, created at first use. It outlives restarts, reloads and the kernel.

        Raises FileNotFoundError if no location for data is known, OSError if the folder cannot be created, and
        ConfigError if it belongs to another project (MK0722) or to another plugin (MK0725).
        """
        return self._instance.data_dir()

    @property
    def is_active(self) -> bool:
        """True from the call of ``start`` until a stop is requested: the condition for loops in spawned work."""
        return self._instance.is_active()

    @property
    def cancelled(self) -> bool:
        """True when the result of the current handler or method is no longer needed.

        Its deadline has passed, its caller has cancelled the call, or a stop was requested.
        """
        return self._instance.is_cancelled()

    # Events

    def on(
        self, topic: str, handler: Callable[..., Any], *, once: bool = False, overflow: Overflow = "block"
    ) -> Subscription:
        """Call ``handler`` for each event that matches ``topic``, a topic or a pattern.

        In a pattern ``*`` is one word and a final ``**`` is any tail of at least one word. Parameters are filled by
        name from the event's data, and checked and converted by their type hints. A parameter named ``event`` receives
        the Event. An event that does not fit becomes a dead letter; the emitter gets no error.

        ``once`` removes the handler after one event. ``overflow`` applies when the plugin's mailbox is full:
        ``"block"`` (the emitter waits), ``"drop_oldest"``, ``"drop_newest"`` or ``"reject"`` (the event becomes a dead
        letter).

        Raises BadTopic, PermissionDenied; ValueError for an unknown ``overflow``; PluginLoadError for type hints that
        cannot be resolved and for generator functions.
        """
        return self._instance.subscribe(topic, handler, once, overflow, board=False)

    def off(self, subscription: Subscription) -> None:
        """Remove a handler or timer. Idempotent."""
        subscription.cancel()

    def emit(self, topic: str, /, **data: Any) -> None:
        """Send an event to every handler whose topic matches. Returns without waiting for any handler.

        ``data`` is passed to the handlers by name. If a receiver's mailbox is full and its policy is ``"block"``, this
        waits for space, by default at most 1 s. It does not raise because a handler fails or a receiver has no space:
        the event then becomes a dead letter of the receiver, unless the receiver's policy drops it.

        Raises BadTopic, PermissionDenied, NotPlainData, PayloadTooLarge.
        """
        self._instance.require_client("emit").emit(topic, data)

    def ask(self, topic: str, /, *, timeout: float = 5.0, **data: Any) -> list[Reply]:
        """Send an event and return one Reply per matching handler of other plugins, after at most ``timeout`` seconds.

        The Reply of a handler that did not answer in time has the ``error`` CallTimeout; that of a handler that raised
        has CallFailed. Returns an empty list if no handler matches.

        Raises BadTopic, PermissionDenied, NotPlainData, PayloadTooLarge.
        """
        return self._instance.require_client("ask").ask(topic, timeout, data)

    async def aask(self, topic: str, /, *, timeout: float = 5.0, **data: Any) -> list[Reply]:
        """Like ``ask``, from ``async`` code: the event loop keeps running other handlers."""
        return await self._instance.require_client("aask").aask(topic, timeout, data)

    # Services

    def expose(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Make ``function`` callable by other plugins as ``<plugin>.<name>``.

        ``name`` defaults to the function's own name. Arguments are checked and converted by its type hints before it is
        called. Raises PluginLoadError for type hints that cannot be resolved and for generator functions.
        """
        self._instance.expose(function, name)

    @overload
    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: type[T], **kwargs: Any) -> T: ...

    @overload
    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any: ...

    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """Call ``target``, a ``"plugin.method"``, and return its value, converted to the type ``returns`` if given.

        Waits at most ``timeout`` seconds, and never past the deadline of the call or handler this runs in. A plugin
        that is starting or in backoff is waited for until the deadline.

        Raises CallTimeout (the method may still have run), CallFailed if the method raised, PluginDied if the callee
        died before it answered, InvalidArguments for arguments or a value that do not fit the type hints. Raises
        without calling the method: PluginNotFound, MethodNotFound, PluginNotActive, PermissionDenied, CallDeadlock,
        MailboxFull, NotPlainData, PayloadTooLarge.
        """
        return self._instance.require_client("call").call(target, timeout, args, kwargs, returns)

    @overload
    async def acall(self, target: str, /, *args: Any, timeout: float = 5.0, returns: type[T], **kwargs: Any) -> T: ...

    @overload
    async def acall(
        self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any
    ) -> Any: ...

    async def acall(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """Like ``call``, from ``async`` code.

        The event loop keeps running other handlers, so this cannot cause a CallDeadlock. Cancelling the awaiting task
        also cancels the call.
        """
        return await self._instance.require_client("acall").acall(target, timeout, args, kwargs, returns)

    def service(self, name: str, protocol: type[P] | None = None, timeout: float = 5.0) -> P:
        """Return a proxy for another plugin's methods: ``api.service("billing").total(currency="CNY")``.

        Each method of the proxy is a ``call`` with this ``timeout`` in seconds. ``protocol`` is a class (such as a
        ``typing.Protocol``) whose return type hints convert the values. Nothing is checked until a method is called.
        """
        return cast("P", Service(self, name, protocol, timeout))

    # Shared data

    def get_data(self, key: str, default: Any = None) -> Any:
        """Return the shared value at ``key``, or ``default`` if the key does not exist.

        Raises BadTopic, PermissionDenied.
        """
        return self._instance.require_client("get_data").get_data(key, default)

    def set_data(self, key: str, value: Any, *, expect: int | None = None) -> int:
        """Write the shared value at ``key`` and return its new revision, an int that grows with each write.

        With ``expect``, write only if the key is at that revision; 0 means that it does not exist. The first plugin to
        write a key owns it. It is kept until that plugin is unloaded, also while that plugin is stopped.

        Raises RevisionConflict, whose ``revision`` is the current one; BadTopic, PermissionDenied, NotPlainData,
        PayloadTooLarge.
        """
        return self._instance.require_client("set_data").set_data(key, value, expect)

    def delete_data(self, key: str) -> None:
        """Delete ``key`` from the shared data. Does nothing if it does not exist. Raises BadTopic, PermissionDenied."""
        self._instance.require_client("delete_data").delete_data(key)

    def watch_data(self, pattern: str, handler: Callable[..., Any]) -> Subscription:
        """Call ``handler(key, value, revision)`` for each change of a key that matches ``pattern``.

        The current values come first. A deleted key is reported with value None and revision 0. Raises BadTopic,
        PermissionDenied.
        """
        return self._instance.subscribe(pattern, handler, False, "block", board=True)

    # Buffers

    def share(self, data: Any) -> Buffer:
        """Copy bytes once to memory that other plugins can read: ``api.emit("frame", pixels=api.share(array))``.

        ``data`` is any bytes-like object: ``bytes``, ``bytearray``, ``memoryview``, a numpy array; a Buffer is returned
        unchanged. Put the Buffer into the payload of events, calls and results, as often as needed; it is not accepted
        in shared data or in the answer to an ``ask``. Between ``thread`` and ``process`` plugins a Buffer may have any
        size, and all that one plugin has in use may have 1 GiB (``limits.shared_memory``). A payload to or from a
        plugin at another level may have 16 MiB.

        Raises PayloadTooLarge, and TypeError if ``data`` is not bytes-like.
        """
        return self._instance.require_client("share").sharing.share(data)

    # Time

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(*args)`` in the background: an ``async def`` as a task, another function in a new thread.

        An exception it raises is logged. At a stop the task is cancelled; a thread is not, so a loop in it has to check
        ``api.is_active``.
        """
        self._instance.spawn(function, args)

    def every(self, seconds: float, function: Callable[[], Any]) -> Subscription:
        """Run ``function`` every ``seconds`` seconds, one at a time with the handlers.

        The first run is after ``start`` has returned. A run that is due while the previous one still runs is skipped,
        not made up for. Raises ValueError unless ``seconds`` is more than 0.
        """
        return self._instance.add_timer(seconds, function, repeat=True)

    def after(self, seconds: float, function: Callable[[], Any]) -> Subscription:
        """Run ``function`` once, ``seconds`` seconds from now, one at a time with the handlers.

        If called before ``start`` has returned, the time counts from then. Raises ValueError if ``seconds`` is
        negative.
        """
        return self._instance.add_timer(seconds, function, repeat=False)

    def sleep(self, seconds: float) -> bool:
        """Wait for ``seconds`` seconds, and return True.

        Return False early if the plugin is to stop or the current work is cancelled. Use it instead of ``time.sleep``.
        """
        return self._instance.sleep(seconds)

    def __repr__(self) -> str:
        return f"<PluginAPI of {self.name}, generation {self.generation}, {self.isolation}>"


class UserMessages:
    """Messages to the person at the console, in six kinds: ``api.say.notice("{count} files skipped", count=3)``.

    ``text`` is a template whose ``{name}`` placeholders are filled from ``fields``.
    """

    __slots__ = ("_instance",)

    def __init__(self, instance: PluginInstance) -> None:
        self._instance = instance

    def explain(self, text: str, /, **fields: Any) -> None:
        """Say why something is as it is."""
        self._instance.say("explain", text, fields)

    def direct(self, text: str, /, **fields: Any) -> None:
        """Say what the person can do next."""
        self._instance.say("direct", text, fields)

    def success(self, text: str, /, **fields: Any) -> None:
        """Report that something succeeded."""
        self._instance.say("success", text, fields)

    def notice(self, text: str, /, **fields: Any) -> None:
        """Report something worth knowing that needs no action."""
        self._instance.say("notice", text, fields)

    def warn(self, text: str, /, **fields: Any) -> None:
        """Report something that may become a problem."""
        self._instance.say("warn", text, fields)

    def error(self, text: str, /, **fields: Any) -> None:
        """Report something that failed."""
        self._instance.say("error", text, fields)


class CallsByName(Protocol):
    """An object with ``call``: a PluginAPI, or the Kernel."""

    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any: ...


class Service:
    """Proxy for another plugin's methods: each attribute is a function that calls the method of that name."""

    __slots__ = ("_api", "_name", "_protocol", "_timeout")

    def __init__(self, api: CallsByName, name: str, protocol: type | None, timeout: float) -> None:
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
