"""``kernel.events``: events as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from microkernel import Kernel
from microkernel.errors import BadTopic, ConfigError
from tests.harness.waiting import eventually


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        yield kernel


def _subscribed(kernel: Kernel, topic: str) -> int:
    return len(kernel.core.topics.matches[topic])


def test_events_arrive_in_order_from_the_call_on(kernel: Kernel) -> None:
    async def read() -> list[tuple[str, int]]:
        stream = kernel.events("order.**")
        kernel.emit("order.created", n=1)
        kernel.emit("other", n=2)
        kernel.emit("order.paid.late", n=3)
        async with stream:
            return [(event.topic, event.data["n"]) for event in [await anext(stream), await anext(stream)]]

    assert asyncio.run(read()) == [("order.created", 1), ("order.paid.late", 3)]


def test_a_reader_that_waits_is_woken(kernel: Kernel) -> None:
    async def read() -> int:
        async with kernel.events("order.*") as stream:
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            assert not waiting.done()
            await asyncio.to_thread(kernel.emit, "order.created", n=5)
            return int((await waiting).data["n"])

    assert asyncio.run(read()) == 5


def test_the_oldest_are_replaced_and_counted(kernel: Kernel) -> None:
    async def read() -> tuple[list[int], int]:
        async with kernel.events("n", size=3) as stream:
            for n in range(10):
                kernel.emit("n", n=n)
            await asyncio.to_thread(eventually, lambda: len(stream._waiting) + stream.dropped == 10)
            return [(await anext(stream)).data["n"] for _ in range(3)], stream.dropped

    assert asyncio.run(read()) == ([7, 8, 9], 7)


def test_leaving_or_dropping_it_removes_the_subscription(kernel: Kernel) -> None:
    async def leave() -> None:
        before = _subscribed(kernel, "order.created")
        async with kernel.events("order.created"):
            assert _subscribed(kernel, "order.created") == before + 1
        assert _subscribed(kernel, "order.created") == before
        stream = kernel.events("order.created")
        del stream
        gc.collect()
        kernel.core.reactor.run(int)  # the subscription is removed there
        assert _subscribed(kernel, "order.created") == before

    asyncio.run(leave())


def test_the_stream_ends_when_the_kernel_closes() -> None:
    async def read() -> list[int]:
        with Kernel() as kernel:
            stream = kernel.events("n")
            kernel.emit("n", n=1)
            first = await anext(stream)
        rest = [event.data["n"] async for event in stream]
        await stream.aclose()
        return [first.data["n"], *rest]

    assert asyncio.run(read()) == [1]


def test_what_cannot_be_a_stream_is_refused(kernel: Kernel) -> None:
    with pytest.raises(ConfigError, match="MK0628"):
        kernel.events("n")

    async def refuse() -> None:
        with pytest.raises(BadTopic):
            kernel.events("a..b")
        with pytest.raises(ValueError, match="size must be at least 1"):
            kernel.events("n", size=0)

    asyncio.run(refuse())
