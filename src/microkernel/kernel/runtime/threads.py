"""Threads for work that waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def run_in_thread(work: Callable[[], object], name: str) -> None:
    """Run work on a new thread. Raises RuntimeError if the system has no thread left."""
    threading.Thread(target=work, name=name, daemon=True).start()


def for_each(items: Iterable[T], work: Callable[[T], object], at_once: int, name: str) -> None:
    """Run ``work`` for each item, ``at_once`` of them at the same time. Return when all are done.

    It takes longer if the system has fewer threads left. Raises the first exception of ``work``, after all are done.
    """
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
    with suppress(RuntimeError):  # the system has no thread left, so the existing ones do the rest
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
    except BaseException:  # an interrupt; started items are finished, so that their state is known
        left.clear()
        _join(threads)
        raise
    if failures:
        raise failures[0]


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
