"""Deterministic guests: the clock stands still, and random numbers come from a seed.

WASI's functions are replaced by ours, so that nothing in the guest can tell or bypass them. The monotonic clock is the
machine's in any case, because deadlines use it. The order of sets is the same in all guests.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from types import SimpleNamespace
from typing import Any

from wasmtime.component import Linker


def install(linker: Linker, imports: Iterable[str], clock: float | None, seed: int | None) -> None:
    """Replace the functions. ``clock``: seconds since 1970; ``seed``: an integer from 0; None keeps the machine's."""
    functions: dict[str, dict[str, Any]] = {}
    if clock is not None:
        functions["wasi:clocks/wall-clock"] = _fixed_clock(clock)
    if seed is not None:
        functions["wasi:random/random"] = _seeded_random(Random(seed))
    linker.allow_shadowing = bool(functions)
    with linker.root() as root:
        for name in imports:
            if requested := functions.get(name.partition("@")[0]):
                with root.add_instance(name) as instance:
                    for function, implementation in requested.items():
                        instance.add_func(function, implementation)


def _fixed_clock(clock: float) -> dict[str, Any]:
    seconds, fraction = divmod(round(clock * 1e9), 10**9)
    moment = SimpleNamespace(seconds=seconds, nanoseconds=fraction)
    return {"now": lambda _store: moment, "resolution": lambda _store: SimpleNamespace(seconds=0, nanoseconds=1)}


def _seeded_random(random: Random) -> dict[str, Any]:
    return {
        "get-random-bytes": lambda _store, length: random.randbytes(length),
        "get-random-u64": lambda _store: random.getrandbits(64),
    }
