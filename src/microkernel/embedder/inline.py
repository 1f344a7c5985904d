"""Handlers of the embedding program that run inline, on the emitter's own thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

from microkernel.embedder.buffers import EmbedderBuffers
from microkernel.kernel.messaging.topic_index import TopicSubscription
from microkernel.sdk.binding.signature import EventBinder, name_of
from microkernel.sdk.buffer import Buffer
from microkernel.wire import codec
from microkernel.wire.messages import Attachment, Envelope

Report = Callable[[str, str, BaseException], object]
"""Takes what a handler raised: (its name, the topic, the error)."""


def run_isolated(
    function: Callable[..., Any],
    binder: EventBinder,
    topic: str,
    envelope: bytes,
    attached: Sequence[Buffer],
    report: Report,
) -> None:
    try:
        args, kwargs = binder.bind(envelope, 1, attached)
        function(*args, **kwargs)
    except Exception as error:
        report(name_of(function), topic, error)


Entry = list[Callable[..., Any]]
"""One handler. A list, for its identity: the same function may be registered twice."""


class InlineGroup:
    """Handlers of one pattern that make the same of an event, one after the other: it is decoded once for all of them,
    as long as none can change for the others what it is given."""

    registered: TopicSubscription

    def __init__(self, pattern: str, binder: EventBinder, shared: EmbedderBuffers, report: Report) -> None:
        self._report = report
        self._attached_in = shared.received
        self._pattern = pattern
        self._binder = binder
        self.entries: list[Entry] = []
        self._functions: tuple[Callable[..., Any], ...] = ()

    def matches(self, pattern: str, binder: EventBinder) -> bool:
        return pattern == self._pattern and binder.binds_like(self._binder)

    def add(self, function: Callable[..., Any]) -> Entry:
        entry = [function]
        self.entries.append(entry)
        self._settle()
        return entry

    def remove(self, entry: Entry) -> None:
        """A second time does nothing."""
        self.entries = [each for each in self.entries if each is not entry]
        self._settle()

    def _settle(self) -> None:
        self._functions = tuple(function for [function] in self.entries)

    def run(self, event: Envelope, shares: tuple[Attachment, ...]) -> None:
        attached = self._attached_in(shares) if shares else ()
        args = self._binder.values(event.data, attached)
        if args is None:
            self._run_each_isolated(event, attached)
        elif len(args) == 1 and type(value := args[0]) in _UNCHANGING:
            # Without a star, as most have one argument: CPython enters such a function by itself, not from C: 11 % of
            # the loop on 3.11, 25 % on 3.13 (P1).
            for function in self._functions:
                try:
                    function(value)
                except Exception as error:
                    self._report(name_of(function), event.topic, error)
        elif _UNCHANGING.issuperset(map(type, args)):
            self._call_each(args, event.topic)
        else:
            self._run_each_isolated(event, attached)

    def _run_each_isolated(self, event: Envelope, attached: Sequence[Buffer]) -> None:
        """With values of its own, or to be told why it gets none."""
        envelope = codec.encode_message(event)
        for function in self._functions:
            run_isolated(function, self._binder, event.topic, envelope, attached, self._report)

    def _call_each(self, args: tuple[Any, ...], topic: str) -> None:
        for function in self._functions:
            try:
                function(*args)
            except Exception as error:
                self._report(name_of(function), topic, error)


_UNCHANGING = frozenset({NoneType, bool, int, float, str, bytes, datetime, Decimal, UUID, Buffer})
