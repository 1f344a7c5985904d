"""The shared data board: keys, values, revisions, watchers. Changed on the reactor's thread, read on any.

A key belongs to the plugin that made it, and goes when its owner is unloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from microkernel.errors import RevisionConflict
from microkernel.kernel.subscriptions import Subscription, Subscriptions
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.messages import NOTHING


@dataclass(frozen=True, slots=True)
class Value:
    """``revision`` counts the writes of a key, from 1."""

    data: Raw
    revision: int
    owner: str


Notify = Callable[[Subscription, str, Raw], object]
"""Tells a watcher: (its subscription, the key, the encoded {key, value, revision})."""


class Context:
    """``get`` and ``keys`` on any thread, the rest on the reactor's."""

    def __init__(self, watchers: Subscriptions, notify: Notify) -> None:
        self._values: dict[str, Value] = {}
        self._watchers = watchers
        self._notify = notify

    def get(self, key: str) -> Value | None:
        return self._values.get(key)

    def names(self) -> list[str]:
        return sorted(self._values)

    def set(self, owner: str, key: str, data: Raw, expect: int | None = None) -> int:
        """Write, and return the new revision. Raises RevisionConflict if it is not at ``expect`` (0: not there)."""
        present = self._values.get(key)
        revision = present.revision if present else 0
        if expect is not None and expect != revision:
            raise RevisionConflict("MK0610", key=key, revision=revision, expect=expect)
        value = Value(data, revision + 1, present.owner if present else owner)
        self._values[key] = value
        self._tell(key, value)
        return value.revision

    def delete(self, key: str) -> None:
        """Watchers get value None and revision 0. Nothing happens where there is no such key."""
        if self._values.pop(key, None) is not None:
            self._tell(key, Value(NOTHING, 0, ""))

    def forget(self, owner: str) -> list[str]:
        """Take away all keys of an owner; returns them."""
        keys = [key for key, value in self._values.items() if value.owner == owner]
        for key in keys:
            self.delete(key)
        return keys

    def greet(self, watcher: Subscription) -> None:
        """Tell a new watcher the present values."""
        for key, value in sorted(self._values.items()):
            if any(found is watcher for found in self._watchers.match(key)):
                self._notify(watcher, key, _news(key, value))

    def _tell(self, key: str, value: Value) -> None:
        news = _news(key, value)
        for watcher in self._watchers.match(key):
            self._notify(watcher, key, news)


def _news(key: str, value: Value) -> Raw:
    return Raw(encode_message({"key": key, "value": value.data, "revision": value.revision}))
