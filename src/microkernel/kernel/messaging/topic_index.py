"""Index from topics to subscriptions: a trie of words, with a bounded cache of results.

The trie is changed on the reactor's thread only; any thread may match meanwhile. A match sees a subscription from the
moment ``add`` returns, and none after ``remove`` has returned.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from microkernel.kernel.messaging.mailbox_owner import MailboxOwner
from microkernel.wire.messages import Attachment, Envelope

# Results that are kept. Plugins choose topics, so their number has to be bounded.
_CACHED = 4096
_order = count(1)


class TopicSubscription:
    """A (pattern, handler) of one receiver. ``number`` is the handler's in the present instance, 0 for none.

    ``owner`` is the plugin's name, "kernel" for the embedder; ``receiver`` has the mailbox its deliveries go to. With
    ``once`` there is one token, and the thread that takes it delivers.
    """

    __slots__ = (
        "handler",
        "inline",
        "number",
        "observes",
        "once",
        "once_tokens",
        "order",
        "overflow",
        "owner",
        "pattern",
        "receiver",
        "watches_data",
    )  # fmt: skip

    def __init__(
        self,
        owner: str,
        pattern: str,
        handler: str,
        receiver: MailboxOwner,
        *,
        number: int = 0,
        once: bool = False,
        overflow: str = "block",
        watches_data: bool = False,
        observes: bool = False,
        inline: Callable[[Envelope, tuple[Attachment, ...]], object] | None = None,
    ) -> None:
        self.owner = owner
        self.pattern = pattern
        self.handler = handler
        self.receiver = receiver
        self.number = number
        self.once = once
        self.overflow = overflow
        self.watches_data = watches_data
        self.observes = observes
        self.inline = inline
        self.order = next(_order)
        self.once_tokens = [None]


class _Node:
    __slots__ = ("here", "tail", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.here: dict[TopicSubscription, None] = {}
        self.tail: dict[TopicSubscription, None] = {}
        """Return the subscriptions in the order in which they were added. A match copies them by one C call."""


class _Matches(dict[str, tuple[TopicSubscription, ...]]):
    """Results by topic. A missing one is computed."""

    def __init__(self, find: Callable[[str], tuple[TopicSubscription, ...]]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, topic: str) -> tuple[TopicSubscription, ...]:
        found = self._find(topic)
        if len(self) < _CACHED:
            self[topic] = found
        return found


class TopicIndex:
    """``matches`` on any thread, the rest on the reactor's.

    Topics that start with ``reserved`` match only subscriptions that observe the kernel.
    """

    def __init__(self, reserved: str = "") -> None:
        self._reserved = reserved
        self._root = _Node()
        self.matches = _Matches(self._find)
        """Subscriptions by topic, in the order in which they were added."""

    def add(self, subscription: TopicSubscription) -> None:
        node = self._walk(subscription.pattern)
        (node.tail if subscription.pattern.endswith("**") else node.here)[subscription] = None
        self._forget_matches()

    def remove(self, subscription: TopicSubscription) -> None:
        node = self._walk(subscription.pattern)
        node.here.pop(subscription, None)
        node.tail.pop(subscription, None)
        self._prune(subscription.pattern)
        self._forget_matches()

    def _forget_matches(self) -> None:
        """Called after the change, so that a match that started before it is stored with the old results."""
        self.matches = _Matches(self._find)

    def _find(self, topic: str) -> tuple[TopicSubscription, ...]:
        found: list[TopicSubscription] = []
        _collect(self._root, topic.split("."), 0, found)
        if self._reserved and topic.startswith(self._reserved):
            found = [subscription for subscription in found if subscription.observes]
        return tuple(sorted(found, key=lambda subscription: subscription.order))

    def _walk(self, pattern: str) -> _Node:
        node = self._root
        for word in _words(pattern):
            node = node.words.setdefault(word, _Node())
        return node

    def _prune(self, pattern: str) -> None:
        """Remove the nodes that became empty."""
        trail = [self._root]
        words = _words(pattern)
        for word in words:
            trail.append(trail[-1].words[word])
        for parent, word, node in reversed(list(zip(trail, words, trail[1:], strict=False))):
            if node.words or node.here or node.tail:
                return
            del parent.words[word]


def _words(pattern: str) -> list[str]:
    words = pattern.split(".")
    return words[:-1] if words[-1] == "**" else words


def _collect(node: _Node, words: list[str], index: int, found: list[TopicSubscription]) -> None:
    if index == len(words):
        found += node.here
        return
    found += node.tail
    for word in (words[index], "*"):
        following = node.words.get(word)
        if following is not None:
            _collect(following, words, index + 1, found)
