"""Runs an example for real, at each level that an example must be the same at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from microkernel import Event, Kernel
from microkernel.kernel.manifest import Permissions

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
LONG = 20.0
"""Seconds: only ever waited for when a test fails."""


class Seen:
    """All events of a kernel from now on."""

    def __init__(self, kernel: Kernel) -> None:
        self._events: list[Event] = []
        self._news = threading.Condition()
        kernel.on("**", self._add)

    def _add(self, event: Event) -> None:
        with self._news:
            self._events.append(event)
            self._news.notify_all()

    def of(self, topic: str) -> list[dict[str, Any]]:
        """The data of the events of one topic, in order."""
        return [event.data for event in list(self._events) if event.topic == topic]

    def wait(self, topic: str, count: int = 1) -> list[dict[str, Any]]:
        """The same, when there are so many."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.of(topic)) >= count, LONG), (topic, self._events)
        return self.of(topic)


Run = Callable[..., tuple[Kernel, Seen]]


@pytest.fixture(params=["thread", "process", "sandbox"])
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(level: str) -> Iterator[Run]:
    """``run("hello")``: a kernel with the plugins of that example, and what it emits."""
    with ExitStack() as running:

        def start(folder: str | Path) -> tuple[Kernel, Seen]:
            place = EXAMPLES / folder
            names = [path.stem for path in place.iterdir()] if level == "sandbox" else []
            kernel = running.enter_context(Kernel(place, isolation=level, grants=dict.fromkeys(names, Permissions())))
            states = {info.name: (info.state, info.isolation) for info in kernel.list()}
            assert set(states.values()) == {("active", level)}, states
            return kernel, Seen(kernel)

        yield start
