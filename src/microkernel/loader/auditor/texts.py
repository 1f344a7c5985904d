"""Findings in the text of a file, whatever its language: secrets, and deceptive characters."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from microkernel.loader.auditor.findings import Finding, Place
from microkernel.loader.auditor.tables import BIDI, SECRET_NAMES, SECRETS

# Findings of one kind per file.
_MOST = 50
# Bits per character. Words and placeholders have less, randomly generated texts more.
_RANDOM = 3.0
_SECRET = re.compile(r"[\x21-\x7e]{12,512}")
_NO_SECRET = re.compile(r"[a-z]+(?:[-_. ][a-z]+)*|.*(?:example|changeme|placeholder|your[-_ ]|xxxx|\{|<|://).*", re.I)


def scan(text: str, file: str) -> Iterator[Finding]:
    """Find well-known kinds of keys, and characters that change the direction of a line."""
    for what, pattern in SECRETS.items():
        for match, _ in zip(pattern.finditer(text), range(_MOST), strict=False):
            yield Finding(_place(text, match, file), "MK0808", {"what": what, "shown": masked(match[0])})
    for match, _ in zip(BIDI.finditer(text), range(_MOST), strict=False):
        yield Finding(_place(text, match, file), "MK0806", {"char": f"U+{ord(match[0]):04X}"})


def is_secret(name: str, value: str) -> bool:
    """Return whether a text assigned to a name such as ``password`` looks like a real secret."""
    if not SECRET_NAMES.search(_snake(name)) or not _SECRET.fullmatch(value) or _NO_SECRET.fullmatch(value):
        return False
    return entropy(value) >= _RANDOM


def entropy(text: str) -> float:
    """Return the bits per character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def masked(secret: str) -> str:
    """Return as much of a secret as is needed to recognize it."""
    return f"{secret[:4]}…"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:200])


def _place(text: str, match: re.Match[str], file: str) -> Place:
    start = match.start()
    return Place(file, text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))
