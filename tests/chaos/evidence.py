"""Evidence of a chaos run: a file with one line per fact, to which the harness and all plugins append.

A line is in the file when ``tell`` returns, even if the process that wrote it is killed right after. No line passes
through the kernel under test.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fact:
    """``who`` did it, in which ``generation`` (0: the harness), at which monotonic ``time``; ``words`` by the kind."""

    kind: str
    who: str
    generation: int
    time: float
    words: tuple[str, ...] = ()


class Evidence:
    """The harness's pen. ``tell`` may be called on any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def tell(self, kind: str, who: str, generation: int, *words: object) -> None:
        os.write(self.descriptor, line(kind, who, generation, time.monotonic(), *words))

    def close(self) -> None:
        os.close(self.descriptor)


def line(kind: str, who: str, generation: int, now: float, *words: object) -> bytes:
    return (" ".join([kind, who, str(generation), f"{now:.6f}", *map(str, words)]) + "\n").encode()


def parse(text: str) -> Fact:
    kind, who, generation, now, *words = text.split()
    return Fact(kind, who, int(generation), float(now), tuple(words))


def read(path: Path) -> Iterator[Fact]:
    with open(path) as lines:
        yield from map(parse, lines)
