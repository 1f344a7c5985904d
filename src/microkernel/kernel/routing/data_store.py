"""The shared data board: keys, values, revisions, watchers. Changed on the reactor's thread, read on any.

A key belongs to the plugin that made it, and goes when its owner is unloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

from microkernel.errors import PayloadTooLarge, RevisionConflict
from microkernel.kernel.manifest import Limits
from microkernel.kernel.messaging.quota import ITEM_OVERHEAD, Quota
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.routing.sorted_keys import SortedKeys
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.messages import NOTHING
from microkernel.wire.topics import covers


@dataclass(frozen=True, slots=True)
class Value:
    """``revision`` counts the writes of a key, from 1. It continues where the key was deleted and is written again, so
    that no revision ever stands for two values."""

    data: Raw
    revision: int
    owner: str


# Keys that were deleted and whose last revisions are kept one by one.
_REMEMBERED = 4096

# Values that a new watcher is sent at once, and keys that are looked at for it; the others follow in further turns.
_AT_ONCE = 32
_LOOKED_AT = 512

Notify = Callable[[Sequence[TopicSubscription], str, Raw], object]
"""Tells watchers: (their subscriptions, the key, the encoded {key, value, revision})."""
Work = Callable[[], object]


@dataclass(slots=True)
class _Greeting:
    """A new watcher on its way through the present keys. ``reported``: those that were written meanwhile, of which it
    has been notified."""

    last: str
    reported: set[str] = field(default_factory=set)


def _now(work: Work) -> object:
    return work()


class DataStore:
    """``get`` and ``keys`` on any thread, the rest on the reactor's. ``post`` brings a further turn."""

    def __init__(
        self,
        watchers: TopicIndex,
        notify: Notify,
        limits_of: Callable[[str], Limits],
        post: Callable[[Work], object] = _now,
    ) -> None:
        self._values: dict[str, Value] = {}
        self._order = SortedKeys()
        self._greetings: OrderedDict[str, OrderedDict[TopicSubscription, _Greeting]] = OrderedDict()
        """By owner, so that one with many new watchers does not delay those of others."""
        self._post = post
        self._quotas: dict[str, Quota] = {}
        self._limits_of = limits_of
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
        owner = present.owner if present else owner
        self._charge(owner, key, len(data))
        value = Value(data.copy(), last + 1, owner)  # by itself: the frame that it came in may be far larger
        self._deleted.pop(key, None)
        self._values[key] = value
        if present is None:
            self._order.add(key)
        self._tell(key, value)
        return value.revision

    def delete(self, key: str) -> None:
        """Watchers get value None and revision 0. Nothing happens where there is no such key."""
        value = self._values.pop(key, None)
        if value is not None:
            self._order.remove(key)
            self._quotas[value.owner].release(key)
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
        self._quotas.pop(owner, None)
        return keys

    def used(self, owner: str) -> int:
        """Bytes that its keys and values are charged."""
        return self._quotas[owner].used if owner in self._quotas else 0

    def _charge(self, owner: str, key: str, size: int) -> None:
        quota, limits = self._quotas.setdefault(owner, Quota()), self._limits_of(owner)
        if limits.keys and len(quota) >= limits.keys and key not in quota:
            raise PayloadTooLarge("MK0629", name=owner, key=key, limit=limits.keys)
        if not quota.take(key, ITEM_OVERHEAD + len(key) + size, limits.kernel_memory):
            raise PayloadTooLarge(
                "MK0620", name=owner, key=key, size=size, used=quota.used, limit=int(limits.kernel_memory)
            )

    def send_current(self, watcher: TopicSubscription) -> None:
        """Notify a new watcher of the present values, in the order of their keys: of the first ones at once, of the
        others in further turns, a few at a time."""
        if "*" not in watcher.pattern:
            if value := self._values.get(watcher.pattern):
                self._notify([watcher], watcher.pattern, _news(watcher.pattern, value))
            return
        greeting = _Greeting(_before(watcher.pattern))
        if self._advance(watcher, greeting):
            return
        if not self._greetings:
            self._post(self._continue)
        self._greetings.setdefault(watcher.owner, OrderedDict())[watcher] = greeting

    def _continue(self) -> None:
        """A turn of one owner's oldest watcher."""
        owner, waiting = self._greetings.popitem(last=False)
        watcher, greeting = next(iter(waiting.items()))
        if not watcher.number or self._advance(watcher, greeting):  # it has gone, or has all
            waiting.pop(watcher, None)
        if waiting:
            self._greetings[owner] = waiting
        if self._greetings:
            self._post(self._continue)

    def _advance(self, watcher: TopicSubscription, greeting: _Greeting) -> bool:
        """Notify it of the next few. Return whether it has been notified of all."""
        prefix = _before(watcher.pattern)
        keys = takewhile(lambda key: key.startswith(prefix), self._order.after(greeting.last))
        looked_at = list(islice(keys, _LOOKED_AT))
        covered = [key for key in looked_at if key not in greeting.reported and covers(watcher.pattern, key)]
        chosen = covered[:_AT_ONCE]
        for key in chosen:
            self._notify([watcher], key, _news(key, self._values[key]))
        if len(looked_at) < _LOOKED_AT and len(chosen) == len(covered):
            return True
        greeting.last = chosen[-1] if len(chosen) < len(covered) else looked_at[-1]
        return False

    def _tell(self, key: str, value: Value) -> None:
        watchers = self._watchers.matches[key]
        for watcher in watchers if self._greetings else ():
            self._note_reported(watcher, key)
        if watchers:
            self._notify(watchers, key, _news(key, value))

    def _note_reported(self, watcher: TopicSubscription, key: str) -> None:
        waiting = self._greetings.get(watcher.owner)
        greeting = waiting.get(watcher) if waiting else None
        if greeting is not None:
            greeting.reported.add(key)


def _before(pattern: str) -> str:
    """What the keys begin with that a pattern covers: its words before the first ``*``."""
    return pattern[: pattern.index("*")]


def _news(key: str, value: Value) -> Raw:
    return Raw(encode_message({"key": key, "value": value.data, "revision": value.revision}))
