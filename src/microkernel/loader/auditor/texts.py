"""What is found in the text of a file, whatever it is written in: secrets, and characters that deceive."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from microkernel.loader.auditor.findings import Finding, Place
from microkernel.loader.auditor.tables import BIDI, SECRET_NAMES, SECRETS

_MOST = 50
"""Of one kind in one file."""
_RANDOM = 3.0
"""Bits a character: words and placeholders have less, what a machine drew at random has more."""
_SECRET = re.compile(r"[\x21-\x7e]{12,512}")
_NO_SECRET = re.compile(r"[a-z]+(?:[-_. ][a-z]+)*|.*(?:example|changeme|placeholder|your[-_ ]|xxxx|\{|<|://).*", re.I)


def scan(text: str, file: str) -> Iterator[Finding]:
    """Well-known kinds of keys, and characters that turn a line round."""
    for what, pattern in SECRETS.items():
        for match, _ in zip(pattern.finditer(text), range(_MOST), strict=False):
            yield Finding(_place(text, match, file), "MK0808", {"what": what, "shown": masked(match[0])})
    for match, _ in zip(BIDI.finditer(text), range(_MOST), strict=False):
        yield Finding(_place(text, match, file), "MK0806", {"char": f"U+{ord(match[0]):04X}"})


def is_secret(name: str, value: str) -> bool:
    """Whether a text that is given to a name such as ``password`` looks like a real one."""
    if not SECRET_NAMES.search(_snake(name)) or not _SECRET.fullmatch(value) or _NO_SECRET.fullmatch(value):
        return False
    return entropy(value) >= _RANDOM


def entropy(text: str) -> float:
    """Bits a character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def masked(secret: str) -> str:
    """As much of it as tells which one it is."""
    return f"{secret[:4]}…"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:200])


def _place(text: str, match: re.Match[str], file: str) -> Place:
    start = match.start()
    return Place(file, text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))
