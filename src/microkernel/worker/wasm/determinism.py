"""A guest that does the same each time: its clock stands still, and its random numbers come from a seed.

What WASI would give is put aside for functions of our own, so that nothing in the guest can tell or go round them. The
monotonic clock is the machine's in any case: deadlines are told in it. The order of sets is the same in all guests.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from types import SimpleNamespace
from typing import Any

from wasmtime.component import Linker


def install(linker: Linker, imports: Iterable[str], clock: float | None, seed: int | None) -> None:
    """``clock``: seconds since 1970; ``seed``: any number from 0 on; None leaves what the machine gives."""
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
