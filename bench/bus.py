"""P1 and P2: events within one process and one thread.

Floors: a loop that calls a list of handlers (P1); the same event with a handler for its exact topic (P2).
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.kernels import kernel_of
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, at_most, faster, native, pure
from bench.timing import check, seconds

HANDLERS = 100
PATTERNS = 1_000
_EMITS = 200
# Emits of one measurement of a contender that takes a millisecond for each.
_SLOW = 5


Handler = Callable[..., Any]
# Makes a handler, and a function that returns the last value that the handler received.
Making = Callable[[], tuple[Handler, Callable[[], int]]]


class Handlers:
    """A number of handlers that only keep the last value."""

    def __init__(self, count: int, make: Making) -> None:
        made = [make() for _ in range(count)]
        self.functions = [handle for handle, _ in made]
        self._last = [last for _, last in made]

    def emits(self, emit: Callable[[int], object], count: int) -> Measure:
        """Measure the seconds of one emit, and check that every handler has the last value."""
        sent = 0

        def run() -> None:
            for value in range(sent - count + 1, sent + 1):
                emit(value)

        def measure() -> float:
            nonlocal sent
            sent += count
            took = seconds(run)
            check({last() for last in self._last}, {sent})
            return took / count

        return measure


def _by_name() -> tuple[Handler, Callable[[], int]]:
    got = 0

    def handle(value: int) -> None:
        nonlocal got
        got = value

    return handle, lambda: got


def _with_sender() -> tuple[Handler, Callable[[], int]]:
    got = 0

    def handle(_sender: object, value: int) -> None:
        nonlocal got
        got = value

    return handle, lambda: got


@contextmanager
def _list_loop(stage: Workspace) -> Iterator[Measure]:
    handlers = Handlers(HANDLERS, _by_name)
    functions = handlers.functions

    def emit(value: int) -> None:
        for function in functions:
            function(value)

    yield handlers.emits(emit, stage.count(_EMITS))


@contextmanager
def _inline(stage: Workspace) -> Iterator[Measure]:
    handlers = Handlers(HANDLERS, _by_name)
    with kernel_of("process") as kernel:
        for function in handlers.functions:
            kernel.on("bench.tick", function, inline=True)
        yield handlers.emits(lambda value: kernel.emit("bench.tick", value=value), stage.count(_EMITS))


@contextmanager
def _pyee(stage: Workspace) -> Iterator[Measure]:
    from pyee.base import EventEmitter

    handlers, emitter = Handlers(HANDLERS, _by_name), EventEmitter()
    for function in handlers.functions:
        emitter.on("tick", function)
    yield handlers.emits(lambda value: emitter.emit("tick", value), stage.count(_EMITS))


@contextmanager
def _blinker(stage: Workspace) -> Iterator[Measure]:
    from blinker import Signal

    handlers, signal = Handlers(HANDLERS, _with_sender), Signal()
    for function in handlers.functions:
        signal.connect(function)
    yield handlers.emits(lambda value: signal.send(None, value=value), stage.count(_EMITS))


@contextmanager
def _psygnal(stage: Workspace) -> Iterator[Measure]:
    from psygnal import SignalInstance

    handlers, signal = Handlers(HANDLERS, _by_name), SignalInstance((int,), check_nargs_on_connect=False)
    for function in handlers.functions:
        signal.connect(function, check_nargs=False)
    yield handlers.emits(signal.emit, stage.count(_EMITS))


@contextmanager
def _pluggy(stage: Workspace) -> Iterator[Measure]:
    import pluggy

    class Specification:
        def tick(self, value: int) -> None: ...

    pluggy.HookspecMarker("bench")(Specification.tick)

    class Plugin:
        def __init__(self, function: Callable[..., Any]) -> None:
            self.tick = pluggy.HookimplMarker("bench")(function)

    handlers, manager = Handlers(HANDLERS, _by_name), pluggy.PluginManager("bench")
    manager.add_hookspecs(Specification)
    for function in handlers.functions:
        manager.register(Plugin(function))
    yield handlers.emits(lambda value: manager.hook.tick(value=value), stage.count(_EMITS))


@contextmanager
def _pymitter(stage: Workspace) -> Iterator[Measure]:
    from pymitter import EventEmitter

    handlers, emitter = Handlers(HANDLERS, _by_name), EventEmitter()
    for function in handlers.functions:
        emitter.on("tick", function)
    yield handlers.emits(lambda value: emitter.emit("tick", value), stage.count(_EMITS))


def _of_event() -> tuple[Handler, Callable[[], int]]:
    got = 0

    def handle(event: Any) -> None:
        nonlocal got
        got = event.value

    handle.__name__ = f"handle_{id(handle)}"  # bubus identifies handlers by their names
    return handle, lambda: got


@contextmanager
def _bubus(stage: Workspace) -> Iterator[Measure]:
    """Await each emit, because bubus runs no handler before."""
    os.environ.setdefault("BUBUS_LOGGING_LEVEL", "ERROR")
    from bubus import BaseEvent, EventBus

    class Tick(BaseEvent):  # type: ignore[misc, type-arg, unused-ignore]
        value: int

    handlers = Handlers(HANDLERS, _of_event)
    with asyncio.Runner() as runner:

        async def emit(value: int) -> None:
            await bus.dispatch(Tick(value=value))

        async def begin() -> Any:
            bus = EventBus(name="Bench", max_history_size=10)
            for function in handlers.functions:
                bus.on(Tick, function)
            return bus

        bus = runner.run(begin())
        yield handlers.emits(lambda value: runner.run(emit(value)), stage.count(_SLOW))
        runner.run(bus.stop())


# --- a thousand patterns, one of which matches -----------------------------------------------------------------------


def _pattern(index: int) -> str:
    return f"bench.n{index}.*"


_TOPIC = f"bench.n{PATTERNS // 2}.tick"


@contextmanager
def _patterns(stage: Workspace) -> Iterator[Measure]:
    with _kernel_with([_pattern(index) for index in range(PATTERNS)], stage) as measure:
        yield measure


@contextmanager
def _exact(stage: Workspace) -> Iterator[Measure]:
    with _kernel_with([_TOPIC], stage) as measure:
        yield measure


@contextmanager
def _kernel_with(patterns: Sequence[str], stage: Workspace) -> Iterator[Measure]:
    handlers = Handlers(1, _by_name)
    with kernel_of("process") as kernel:
        for pattern in patterns:
            kernel.on(pattern, handlers.functions[0], inline=True)
        yield handlers.emits(lambda value: kernel.emit(_TOPIC, value=value), stage.count(_EMITS))


@contextmanager
def _pymitter_patterns(stage: Workspace) -> Iterator[Measure]:
    from pymitter import EventEmitter

    handlers, emitter = Handlers(1, _by_name), EventEmitter(wildcard=True)
    for index in range(PATTERNS):
        emitter.on(_pattern(index), handlers.functions[0])
    yield handlers.emits(lambda value: emitter.emit(_TOPIC, value), stage.count(_SLOW))


@contextmanager
def _regexes(stage: Workspace) -> Iterator[Measure]:
    handlers = Handlers(1, _by_name)
    table = [(re.compile(fnmatch.translate(_pattern(n))).match, handlers.functions[0]) for n in range(PATTERNS)]

    def emit(value: int) -> None:
        for match, function in table:
            if match(_TOPIC):
                function(value)

    yield handlers.emits(emit, stage.count(_SLOW))


@contextmanager
def _fnmatch(stage: Workspace) -> Iterator[Measure]:
    handlers = Handlers(1, _by_name)
    table = [(_pattern(n), handlers.functions[0]) for n in range(PATTERNS)]

    def emit(value: int) -> None:
        for pattern, function in table:
            if fnmatch.fnmatchcase(_TOPIC, pattern):
                function(value)

    yield handlers.emits(emit, stage.count(_SLOW))


LIST_LOOP = Contender("a loop over a list", _list_loop)

ROWS = (
    Row(
        "P1",
        f"emit to {HANDLERS} inline subscribers",
        ours=Contender("emit", _inline),
        floor=LIST_LOOP,
        peers=(
            Contender("pyee", _pyee, ("pyee",)),
            Contender("blinker", _blinker, ("blinker",)),
            Contender("psygnal", _psygnal, ("psygnal",)),
            Contender("pluggy", _pluggy, ("pluggy",)),
            Contender("pymitter", _pymitter, ("pymitter",)),
            Contender("bubus", _bubus, ("bubus",)),
        ),
        targets=(
            *pure(at_most(1.4), faster(2.6, "pyee"), faster(10.0, "blinker")),
            *native(faster(3.0, "pyee")),
        ),
        placements=("same",),
    ),
    Row(
        "P2",
        f"emit through {PATTERNS:,} patterns, one matches",
        ours=Contender("patterns", _patterns),
        floor=Contender("an exact topic", _exact),
        peers=(
            Contender("compiled regexes", _regexes),
            Contender("fnmatch", _fnmatch),
            Contender("pymitter", _pymitter_patterns, ("pymitter",)),
        ),
        targets=(*pure(at_most(1.1), faster(300.0, "pymitter")), *native(faster(400.0, "pymitter"))),
        placements=("same",),
    ),
)
