"""Event, Reply and Subscription: the objects that handlers receive and that registration returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

from microkernel.errors import KernelError
from microkernel.wire.light_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """An event as its handler receives it.

    ``source`` is the name of the emitting plugin, ``"kernel"`` for the kernel and the embedding program. ``time`` is in
    seconds since the epoch. ``delivery`` is 1 at the first attempt, and higher if an instance died while it handled the
    event.
    """

    topic: str
    source: str
    time: float
    id: int
    delivery: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One handler's answer to an ``ask``: the handler's ``value``, or the ``error`` why there is none."""

    plugin: str
    value: Any = None
    error: KernelError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """A registered handler or timer. ``cancel()`` removes it; it is idempotent and may be called from any thread."""

    pattern: str
    handler: str
    cancel: Callable[[], None] = field(repr=False)
