"""The client with which the ``mk`` commands talk to a running kernel."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from microkernel.control.paths import find_kernel
from microkernel.control.stream_channel import StreamChannel
from microkernel.errors import PermissionDenied
from microkernel.sdk.binding.signature import read_event
from microkernel.sdk.client.channel import ChannelClosed
from microkernel.sdk.client.client import Client
from microkernel.sdk.event import Event
from microkernel.wire import messages

# Seconds for the kernel to process the messages that were sent.
_SETTLE_TIMEOUT = 5.0


class ControlClient:
    """A client for requests and events. For one thread; close it, or use it in a ``with`` block.

    ``name`` is the name of the kernel; empty for the only one that runs. Raises KernelError: MK0701 if none answers,
    MK0707 if several do.
    """

    def __init__(self, name: str = "", path: Path | None = None) -> None:
        self._channel = StreamChannel(path or find_kernel(name), "mk")
        self._client = Client(self._channel, _client_load())
        self._handlers: dict[int, Callable[[Event], object]] = {}
        self._numbers = count(1)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return self._channel.kernel

    def close(self) -> None:
        self._channel.close()

    def call(self, target: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any) -> Any:
        """As ``PluginAPI.call``."""
        return self._client.call(target, timeout, args, kwargs, returns)

    def get_data(self, key: str, default: Any = None) -> Any:
        """As ``PluginAPI.get_data``."""
        return self._client.get_data(key, default)

    def delete_data(self, key: str) -> None:
        """As ``PluginAPI.delete_data``."""
        self._client.delete_data(key)

    def set_data(self, key: str, value: Any, *, expect: int | None = None) -> int:
        """As ``PluginAPI.set_data``."""
        return self._client.set_data(key, value, expect)

    def emit(self, topic: str, /, **data: Any) -> None:
        """As ``PluginAPI.emit``, but returns after the kernel has processed the event."""
        if topic.startswith("kernel."):
            line = "nothing: only the kernel emits these"
            raise PermissionDenied("MK0401", name="mk", action="emit", what=topic, line=line)
        self._client.emit(topic, data)
        self.settle()

    def settle(self) -> None:
        """Return when the kernel has processed all messages that were sent, because it answers in order.

        Raises CallTimeout, KernelClosed.
        """
        self._client.get_data("mk", None)

    def subscribe(self, pattern: str, handler: Callable[[Event], object]) -> None:
        """Subscribe to a pattern; ``listen`` calls ``handler``. Raises BadTopic."""
        number = next(self._numbers)
        self._handlers[number] = handler
        self._client.subscribe(messages.Handler(number, pattern, f"mk-{number}"))

    def listen(self, timeout: float | None = None) -> bool:
        """Handle the events that have arrived. Return False when the kernel is gone.

        Waits for one at most ``timeout`` seconds; 0 does not wait, None waits forever.
        """
        try:
            for message in self._channel.receive(timeout):
                if isinstance(message, messages.Deliver):
                    self._deliver(message)
        except ChannelClosed:
            return False
        return True

    def _deliver(self, message: messages.Deliver) -> None:
        self._channel.send(messages.Done([message.seq]))
        self._handlers[message.handler](read_event(message.event, message.delivery))


def _client_load() -> messages.Load:
    """Return the Load that the SDK's client needs. It has no grants, because the kernel's gate decides."""
    return messages.Load("mk", "", 1, "process", "", "", {})
