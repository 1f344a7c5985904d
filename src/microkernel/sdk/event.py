"""Event, Reply and Subscription: what handlers get and what registering gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from microkernel.errors import KernelError


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a handler sees it. ``time`` is seconds since the epoch; ``delivery`` is 1 at the first try, and
    higher when an instance died over it."""

    topic: str
    source: str
    time: float
    id: int
    delivery: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One handler's answer to an ``ask``: a ``value``, or an ``error`` and no value."""

    plugin: str
    value: Any = None
    error: KernelError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """A registered handler. ``cancel()`` takes it away; a second time does nothing."""

    pattern: str
    handler: str
    cancel: Callable[[], None] = field(repr=False)
