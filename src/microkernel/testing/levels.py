"""For which levels a check is meant."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from microkernel.kernel.manifest import LEVELS, Level

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__microkernel_levels__"


def only_at(*levels: Level) -> Callable[[F], F]:
    """This check asks for what other levels do not promise."""

    def mark(function: F) -> F:
        setattr(function, _MARK, frozenset(levels))
        return function

    return mark


def levels_of(function: Callable[..., Any]) -> Collection[Level]:
    """All levels, if it was not marked."""
    levels: Collection[Level] = getattr(function, _MARK, frozenset(LEVELS))
    return levels


natively: Callable[[F], F] = only_at("thread", "process", "sandbox")
"""This check asks for threads, or for C extensions: a wasm guest has none."""
