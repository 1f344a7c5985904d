"""Suggest the name that was probably meant, where a name is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from heapq import nlargest
from os.path import commonprefix

# How many characters a compared word has at most, how many words are compared letter by letter (those that share the
# longest start), and how many are looked at to find these.
_LONGEST_COMPARED = 32
_MOST_COMPARED = 8
_MOST_LOOKED_AT = 200


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or nothing. What is compared is bounded: who may ask chooses the words, and often."""
    if len(word) > _LONGEST_COMPARED:
        return ""
    candidates = [each for each in list(known) if len(each) <= _LONGEST_COMPARED]
    if len(candidates) > _MOST_COMPARED:
        shared = [(len(commonprefix((word, each))), each) for each in candidates[:_MOST_LOOKED_AT]]  # noqa: RUF071
        candidates = [each for _, each in nlargest(_MOST_COMPARED, shared)]
    near = difflib.get_close_matches(word, candidates, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
