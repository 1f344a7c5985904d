"""Work that waits, beside everything else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], object], name: str) -> None:
    """Do something that waits beside everything else. Raises RuntimeError if the system has no thread left."""
    threading.Thread(target=work, name=name, daemon=True).start()


def for_each(items: Iterable[T], work: Callable[[T], object], at_once: int, name: str) -> None:
    """Do something to each, ``at_once`` of them at the same time; return when all is done. If the system has fewer
    threads left it takes longer. Raises the first that ``work`` raised, after all of it was done."""
    left, failures = deque(items), list[BaseException]()

    def go_through() -> None:
        while True:
            try:
                item = left.popleft()
            except IndexError:
                return
            try:
                work(item)
            except BaseException as failure:
                failures.append(failure)

    threads = []
    with suppress(RuntimeError):  # there are no more threads: those there are do the rest
        for _ in range(min(at_once, len(left))):
            if not left:
                break  # the others were quick
            thread = threading.Thread(target=go_through, name=name, daemon=True)
            thread.start()
            threads.append(thread)
    if not threads:
        go_through()
    try:
        _join(threads)
    except BaseException:  # an interrupt: what has begun is finished, in a known state
        left.clear()
        _join(threads)
        raise
    if failures:
        raise failures[0]


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
