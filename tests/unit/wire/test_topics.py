"""Topics, patterns, and the topic index, compared with a simple implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microkernel.errors import BadTopic
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.mailbox_owner import Counts
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.wire.topics import check_pattern, check_topic, covers

WORD = st.sampled_from(["a", "b", "c"])
TOPIC = st.lists(WORD, min_size=1, max_size=5).map(".".join)
PATTERN = st.builds(
    lambda words, tail: ".".join([*words, *tail]) or "**",
    st.lists(WORD | st.just("*"), max_size=4), st.sampled_from([[], ["**"]]),
)  # fmt: skip


def matches(pattern: list[str], topic: list[str]) -> bool:
    """``*`` is one word, ``**`` any tail of at least one."""
    if not pattern or not topic:
        return not pattern and not topic
    if pattern == ["**"]:
        return True
    return pattern[0] in ("*", topic[0]) and matches(pattern[1:], topic[1:])


class Receiver:
    mailbox = Mailbox(1)
    counts = Counts()
    full_mailbox_timeout = 1.0


def subscription(pattern: str) -> TopicSubscription:
    return TopicSubscription("p", pattern, "handler", Receiver())


@given(PATTERN, TOPIC)
def test_covers(pattern: str, topic: str) -> None:
    assert covers(pattern, topic) == matches(pattern.split("."), topic.split("."))


@given(st.lists(PATTERN, max_size=12), st.lists(st.integers(0, 11), max_size=6), st.lists(TOPIC, max_size=6))
def test_the_index_matches_like_a_simple_list(patterns: list[str], removed: list[int], topics: list[str]) -> None:
    trie, there = TopicIndex(), [subscription(pattern) for pattern in patterns]
    for each in there:
        trie.add(each)
    for topic in topics:
        trie.matches[topic]  # caches the answers before the table changes
    for index in sorted({index for index in removed if index < len(there)}, reverse=True):
        trie.remove(there.pop(index))
    for topic in topics:
        expected = [each for each in there if matches(each.pattern.split("."), topic.split("."))]
        assert list(trie.matches[topic]) == expected


def test_the_cache_is_bounded_and_the_index_ends_empty() -> None:
    trie, one = TopicIndex(), subscription("a.*.**")
    trie.add(one)
    for number in range(10_000):
        trie.matches[f"a.{number}.x"]
    assert len(trie.matches) <= 4096
    trie.remove(one)
    assert trie._root.words == {}


@pytest.mark.parametrize("bad", ["", ".", "a.", ".a", "a..b", "a b", "a.*", "ü", "a\n", None, 3])
def test_a_malformed_topic_is_refused(bad: object) -> None:
    with pytest.raises(BadTopic):
        check_topic(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["", "**.a", "a.**.b", "a*", "***", "*a.b", "a.** ", None])
def test_a_malformed_pattern_is_refused(bad: object) -> None:
    with pytest.raises(BadTopic):
        check_pattern(bad)  # type: ignore[arg-type]
