"""The syntax of topics and patterns."""

from __future__ import annotations

import re
from functools import lru_cache

from microkernel.errors import BadTopic

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PATTERN = re.compile(r"(?:\*\*|(?:[A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*(\.\*\*)?)")
# Maximum length in characters, because topics, patterns and keys are stored in many tables.
MAX_TOPIC = 255
_WORDS = "words of letters, digits, _ and - joined by dots"


@lru_cache(maxsize=4096)
def check_topic(topic: str) -> str:
    """Return ``topic`` if it is well-formed. Raises BadTopic otherwise."""
    _check_length(topic)
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
        raise BadTopic("MK0601", topic=topic, reason=f"a topic is {_WORDS}")
    return topic


@lru_cache(maxsize=4096)
def check_pattern(pattern: str) -> str:
    """Return ``pattern`` if it is well-formed. Raises BadTopic otherwise."""
    _check_length(pattern)
    if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
        raise BadTopic("MK0601", topic=pattern, reason=f"a pattern is {_WORDS}, * for one word, ** for any tail")
    return pattern


def _check_length(topic: str) -> None:
    if isinstance(topic, str) and len(topic) > MAX_TOPIC:
        raise BadTopic("MK0601", topic=f"{topic[:40]}…", reason=f"it has {len(topic):,} characters, over {MAX_TOPIC}")


@lru_cache(maxsize=4096)
def covers(pattern: str, requested: str) -> bool:
    """Return whether a pattern matches a topic, or everything that another pattern matches.

    ``*`` is one word, ``**`` any tail of at least one word.
    """
    words, others = pattern.split("."), requested.split(".")
    if words[-1] == "**":
        words, others = words[:-1], others[: len(words) - 1] if len(others) >= len(words) else []
        if not others and words:
            return False
    elif others[-1] == "**":
        return False
    return len(words) == len(others) and all(w in ("*", o) and o != "**" for w, o in zip(words, others, strict=True))
