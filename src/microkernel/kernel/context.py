"""The shared data board: keys, values, revisions, watchers. Changed on the reactor's thread, read on any.

A key belongs to the plugin that made it, and goes when its owner is unloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from microkernel.errors import PayloadTooLarge, RevisionConflict
from microkernel.kernel.kept import EACH, Budget
from microkernel.kernel.subscriptions import Subscription, Subscriptions
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.messages import NOTHING
from microkernel.wire.topics import covers


@dataclass(frozen=True, slots=True)
class Value:
    """``revision`` counts the writes of a key, from 1. It goes on where the key was deleted and is written again, so
    that no revision ever stands for two values."""

    data: Raw
    revision: int
    owner: str


# Keys that were deleted and whose last revisions are kept one by one.
_REMEMBERED = 4096

Notify = Callable[[Subscription, str, Raw], object]
"""Tells a watcher: (its subscription, the key, the encoded {key, value, revision})."""


class Context:
    """``get`` and ``keys`` on any thread, the rest on the reactor's."""

    def __init__(self, watchers: Subscriptions, notify: Notify, limit_of: Callable[[str], float]) -> None:
        self._values: dict[str, Value] = {}
        self._budgets: dict[str, Budget] = {}
        self._limit_of = limit_of
        self._deleted: OrderedDict[str, int] = OrderedDict()
        """The last revisions of keys that were deleted, the oldest first."""
        self._floor = 0
        """The highest revision of those that are not remembered any more: a new key starts above it."""
        self._watchers = watchers
        self._notify = notify

    def get(self, key: str) -> Value | None:
        return self._values.get(key)

    def names(self) -> list[str]:
        return sorted(self._values)

    def set(self, owner: str, key: str, data: Raw, expect: int | None = None) -> int:
        """Write, and return the new revision. Raises RevisionConflict if it is not at ``expect`` (0: not there),
        PayloadTooLarge if its owner had more on the board than the kernel keeps for it."""
        present = self._values.get(key)
        revision = present.revision if present else 0
        if expect is not None and expect != revision:
            raise RevisionConflict("MK0610", key=key, revision=revision, expect=expect)
        last = revision or max(self._floor, self._deleted.get(key, 0))
        value = Value(data, last + 1, present.owner if present else owner)
        self._charge(value.owner, key, len(data))
        self._deleted.pop(key, None)
        self._values[key] = value
        self._tell(key, value)
        return value.revision

    def delete(self, key: str) -> None:
        """Watchers get value None and revision 0. Nothing happens where there is no such key."""
        value = self._values.pop(key, None)
        if value is not None:
            self._budgets[value.owner].give_back(key)
            self._remember(key, value.revision)
            self._tell(key, Value(NOTHING, 0, ""))

    def _remember(self, key: str, revision: int) -> None:
        self._deleted[key] = revision
        if len(self._deleted) > _REMEMBERED:
            self._floor = max(self._floor, self._deleted.popitem(last=False)[1])

    def forget(self, owner: str) -> list[str]:
        """Take away all keys of an owner; returns them."""
        keys = [key for key, value in self._values.items() if value.owner == owner]
        for key in keys:
            self.delete(key)
        self._budgets.pop(owner, None)
        return keys

    def used(self, owner: str) -> int:
        """Bytes that its keys and values are charged."""
        return self._budgets[owner].used if owner in self._budgets else 0

    def _charge(self, owner: str, key: str, size: int) -> None:
        budget, limit = self._budgets.setdefault(owner, Budget()), self._limit_of(owner)
        if not budget.take(key, EACH + len(key) + size, limit):
            raise PayloadTooLarge("MK0620", name=owner, key=key, size=size, used=budget.used, limit=int(limit))

    def greet(self, watcher: Subscription) -> None:
        """Tell a new watcher the present values."""
        for key, value in sorted(self._values.items()):
            if covers(watcher.pattern, key):
                self._notify(watcher, key, _news(key, value))

    def _tell(self, key: str, value: Value) -> None:
        news = _news(key, value)
        for watcher in self._watchers.matches[key]:
            self._notify(watcher, key, news)


def _news(key: str, value: Value) -> Raw:
    return Raw(encode_message({"key": key, "value": value.data, "revision": value.revision}))
