"""Which isolation levels a check applies to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from microkernel.kernel.manifest import LEVELS, Level

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__microkernel_levels__"


def only_at(*levels: Level) -> Callable[[F], F]:
    """Mark a check that tests what other levels do not promise."""

    def mark(function: F) -> F:
        setattr(function, _MARK, frozenset(levels))
        return function

    return mark


def levels_of(function: Callable[..., Any]) -> Collection[Level]:
    """Return the levels that a check applies to; all if it is not marked."""
    levels: Collection[Level] = getattr(function, _MARK, frozenset(LEVELS))
    return levels


# Mark a check that needs threads or C extensions, which a wasm guest does not have.
requires_native: Callable[[F], F] = only_at("thread", "process", "sandbox")
