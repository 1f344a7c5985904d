"""The form of topics and patterns."""

from __future__ import annotations

import re
from functools import lru_cache

from microkernel.errors import BadTopic

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PATTERN = re.compile(r"(?:\*\*|(?:[A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*(\.\*\*)?)")
_WORDS = "words of letters, digits, _ and - joined by dots"


@lru_cache(maxsize=4096)
def check_topic(topic: str) -> str:
    """``topic`` itself. Raises BadTopic."""
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
        raise BadTopic("MK0601", topic=topic, reason=f"a topic is {_WORDS}")
    return topic


@lru_cache(maxsize=4096)
def check_pattern(pattern: str) -> str:
    """``pattern`` itself. Raises BadTopic."""
    if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
        raise BadTopic("MK0601", topic=pattern, reason=f"a pattern is {_WORDS}, * for one word, ** for any tail")
    return pattern


def matches(pattern: str, topic: str) -> bool:
    """Whether a pattern covers a topic: ``*`` one word, ``**`` any tail of at least one word."""
    wanted, words = pattern.split("."), topic.split(".")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        if len(words) <= len(wanted):
            return False
        words = words[: len(wanted)]
    return len(wanted) == len(words) and all(w in ("*", word) for w, word in zip(wanted, words, strict=True))
