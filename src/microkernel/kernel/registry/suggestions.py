"""Suggest the name that was probably meant by an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from heapq import nlargest
from os.path import commonprefix

# Bounds: characters of a compared word, words compared letter by letter (those that share the longest prefix), and
# words examined to find these.
_LONGEST_COMPARED = 32
_MOST_COMPARED = 8
_MOST_LOOKED_AT = 200


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?``, or an empty string. The comparison is bounded, because plugins choose the words,
    and may ask often."""
    if len(word) > _LONGEST_COMPARED:
        return ""
    candidates = [each for each in list(known) if len(each) <= _LONGEST_COMPARED]
    if len(candidates) > _MOST_COMPARED:
        shared = [(len(commonprefix((word, each))), each) for each in candidates[:_MOST_LOOKED_AT]]  # noqa: RUF071
        candidates = [each for _, each in nlargest(_MOST_COMPARED, shared)]
    near = difflib.get_close_matches(word, candidates, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
