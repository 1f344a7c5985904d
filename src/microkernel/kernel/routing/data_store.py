"""Shared data board: keys, values, revisions and watchers. Written on the reactor's thread, read on any.

A key belongs to the plugin that created it, and is deleted when that plugin is unloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import field
from itertools import islice, takewhile

from microkernel.errors import PayloadTooLarge, RevisionConflict
from microkernel.kernel.manifest import Limits
from microkernel.kernel.messaging.quota import ITEM_OVERHEAD, Quota
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.routing.sorted_keys import SortedKeys
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.messages import NOTHING
from microkernel.wire.topics import covers


@dataclass(frozen=True, slots=True)
class Value:
    """A value on the board.

    ``revision`` counts the writes of a key, from 1. The count continues when a deleted key is written again, so that a
    revision never stands for two values.
    """

    data: Raw
    revision: int
    owner: str


# Deleted keys whose last revisions are kept individually.
_REMEMBERED = 4096

# Values sent to a new watcher in one turn of the reactor, and keys examined for them. The others follow in later turns.
_AT_ONCE = 32
_LOOKED_AT = 512

# Notifies watchers: (their subscriptions, the key, the encoded {key, value, revision}).
Notify = Callable[[Sequence[TopicSubscription], str, Raw], object]
Work = Callable[[], object]


@dataclass(slots=True)
class _Greeting:
    """Progress of a new watcher through the existing keys.

    ``last``: the last key handled. ``reported``: keys written meanwhile, of which the watcher was already notified.
    """

    last: str
    reported: set[str] = field(default_factory=set)


def _now(work: Work) -> object:
    return work()


class DataStore:
    """The keys and values of all plugins. ``get`` and ``names`` may be called on any thread, the rest on the reactor's.

    ``post`` runs work in a later turn of the reactor.
    """

    def __init__(
        self,
        watchers: TopicIndex,
        notify: Notify,
        limits_of: Callable[[str], Limits],
        post: Callable[[Work], object] = _now,
    ) -> None:
        self._values: dict[str, Value] = {}
        self._order = SortedKeys()
        # By owner, so that a plugin with many new watchers does not delay those of others.
        self._greetings: OrderedDict[str, OrderedDict[TopicSubscription, _Greeting]] = OrderedDict()
        self._post = post
        self._quotas: dict[str, Quota] = {}
        self._limits_of = limits_of
        # Last revisions of deleted keys, the oldest first.
        self._deleted: OrderedDict[str, int] = OrderedDict()
        # Highest revision of the deleted keys that are no longer remembered. A new key starts above it.
        self._floor = 0
        self._watchers = watchers
        self._notify = notify

    def get(self, key: str) -> Value | None:
        return self._values.get(key)

    def names(self) -> list[str]:
        return sorted(self._values)

    def set(self, owner: str, key: str, data: Raw, expect: int | None = None) -> int:
        """Write a key, and return its new revision.

        Raises RevisionConflict if the revision is not ``expect`` (0: the key does not exist), PayloadTooLarge if the
        owner would exceed its quota.
        """
        present = self._values.get(key)
        revision = present.revision if present else 0
        if expect is not None and expect != revision:
            raise RevisionConflict("MK0610", key=key, revision=revision, expect=expect)
        last = revision or max(self._floor, self._deleted.get(key, 0))
        owner = present.owner if present else owner
        self._charge(owner, key, len(data))
        value = Value(data.copy(), last + 1, owner)  # a copy, because the frame it came in may be far larger
        self._deleted.pop(key, None)
        self._values[key] = value
        if present is None:
            self._order.add(key)
        self._tell(key, value)
        return value.revision

    def delete(self, key: str) -> None:
        """Delete a key. Watchers get value None and revision 0. Does nothing if the key does not exist."""
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
        """Delete all keys of an owner, and return them."""
        keys = [key for key, value in self._values.items() if value.owner == owner]
        for key in keys:
            self.delete(key)
        self._quotas.pop(owner, None)
        return keys

    def used(self, owner: str) -> int:
        """Return the bytes charged for the keys and values of an owner."""
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
        """Notify a new watcher of the existing values, in the order of their keys.

        The first few are sent immediately, the others in later turns, a few at a time.
        """
        if "*" not in watcher.pattern:
            if value := self._values.get(watcher.pattern):
                self._notify([watcher], watcher.pattern, _change_event(watcher.pattern, value))
            return
        greeting = _Greeting(_before(watcher.pattern))
        if self._advance(watcher, greeting):
            return
        if not self._greetings:
            self._post(self._continue)
        self._greetings.setdefault(watcher.owner, OrderedDict())[watcher] = greeting

    def _continue(self) -> None:
        """Send the next values to one owner's oldest new watcher."""
        owner, waiting = self._greetings.popitem(last=False)
        watcher, greeting = next(iter(waiting.items()))
        if not watcher.number or self._advance(watcher, greeting):  # it has left, or has received all
            waiting.pop(watcher, None)
        if waiting:
            self._greetings[owner] = waiting
        if self._greetings:
            self._post(self._continue)

    def _advance(self, watcher: TopicSubscription, greeting: _Greeting) -> bool:
        """Notify a watcher of the next few values. Return whether it has received all."""
        prefix = _before(watcher.pattern)
        keys = takewhile(lambda key: key.startswith(prefix), self._order.after(greeting.last))
        looked_at = list(islice(keys, _LOOKED_AT))
        covered = [key for key in looked_at if key not in greeting.reported and covers(watcher.pattern, key)]
        chosen = covered[:_AT_ONCE]
        for key in chosen:
            self._notify([watcher], key, _change_event(key, self._values[key]))
        if len(looked_at) < _LOOKED_AT and len(chosen) == len(covered):
            return True
        greeting.last = chosen[-1] if len(chosen) < len(covered) else looked_at[-1]
        return False

    def _tell(self, key: str, value: Value) -> None:
        watchers = self._watchers.matches[key]
        for watcher in watchers if self._greetings else ():
            self._note_reported(watcher, key)
        if watchers:
            self._notify(watchers, key, _change_event(key, value))

    def _note_reported(self, watcher: TopicSubscription, key: str) -> None:
        waiting = self._greetings.get(watcher.owner)
        greeting = waiting.get(watcher) if waiting else None
        if greeting is not None:
            greeting.reported.add(key)


def _before(pattern: str) -> str:
    """Return the common prefix of all keys that a pattern covers: its text before the first ``*``."""
    return pattern[: pattern.index("*")]


def _change_event(key: str, value: Value) -> Raw:
    return Raw(encode_message({"key": key, "value": value.data, "revision": value.revision}))
