"""A plugin that sends one Buffer after another waits for the kernel only at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from mmap import mmap
from typing import Any

from microkernel.sdk.client.buffers import BufferExchange
from microkernel.sdk.client.mapped_arrays import array_over
from microkernel.sdk.client.request_channel import RequestChannel
from microkernel.wire.codec import Raw, encode
from microkernel.wire.messages import AllocateBuffer, Attachment, Message, Ping, ReleaseBuffers, Response
from microkernel.wire.session import Session, pack
from microkernel.wire.slots import LENT_AT_ONCE

SIZE = 1_000_000
Answer = Callable[[Sequence[Attachment]], object]


class Kernel:
    """Lends blocks, and maps them. Answers requests in advance when asked to."""

    def __init__(self) -> None:
        self.memory: dict[int, mmap] = {}
        self.holds = count(1)
        self.held: dict[int, int] = {}
        self.waited = 0
        self.requests: list[Answer] = []
        self.exchange = BufferExchange(self, self.allocate, self.release, self.prepare)

    def array(self, block: int) -> Any:
        return array_over(self.memory[block])

    def forget(self, blocks: Sequence[int]) -> None:
        """Keep the mappings."""

    def lend(self, block: int) -> list[Attachment]:
        hold = next(self.holds)
        self.held[hold] = block
        return [Attachment(len(self.memory[block]), hold, block)]

    def free(self) -> list[int]:
        return [block for block in self.memory if block not in self.held.values()]

    def allocate(self, size: int) -> list[Attachment]:
        self.waited += 1
        if not self.free():
            self.memory[len(self.memory)] = mmap(-1, size)
        return self.lend(self.free()[0])

    def release(self, holds: list[int]) -> None:
        for hold in holds:
            del self.held[hold]

    def prepare(self, size: int, ended: list[int], take: Answer) -> None:
        self.release(ended)
        self.requests.append(take)

    def answer(self) -> None:
        requests, self.requests = self.requests, []
        for take in requests:
            if not self.free() and len(self.memory) < 2:
                self.memory[len(self.memory)] = mmap(-1, SIZE)
            take(self.lend(free[0]) if (free := self.free()) else ())


def send(kernel: Kernel, value: int) -> None:
    """Share, and let go: the block is free when the kernel hears of that."""
    assert kernel.exchange.share(bytes([value]) * SIZE) == bytes([value]) * SIZE


def test_it_waits_once_then_two_blocks_take_turns() -> None:
    kernel = Kernel()
    for value in range(50):
        send(kernel, value)
        kernel.answer()
    assert (kernel.waited, len(kernel.memory)) == (1, 2)


def test_without_an_answer_it_waits_and_requests_nothing_twice() -> None:
    kernel = Kernel()
    for value in range(10):
        send(kernel, value)
    assert (kernel.waited, len(kernel.requests)) == (10, 1)


def test_no_block_is_given_out_while_a_buffer_on_it_is_alive() -> None:
    kernel = Kernel()
    kept = []
    for value in range(20):
        kept.append(kernel.exchange.share(bytes([value]) * SIZE))
        kernel.answer()
    assert [bytes(each.data[:1]) for each in kept] == [bytes([value]) for value in range(20)]
    assert len(set(kernel.held.values())) == len(kernel.held) == 20


class Generous(Kernel):
    """Lends two new blocks at once."""

    def allocate(self, size: int) -> list[Attachment]:
        self.waited += 1
        new = [len(self.memory), len(self.memory) + 1]
        self.memory.update((block, mmap(-1, size)) for block in new)
        return [*self.lend(new[0]), *self.lend(new[1])]


def test_blocks_that_come_too_late_are_given_back() -> None:
    """A request that waited was faster, so there are enough."""
    kernel = Generous()
    kept = [kernel.exchange.share(bytes(SIZE)) for _ in range(3)]
    assert (kernel.waited, len(kernel.requests)) == (2, 1)
    kernel.memory[99] = mmap(-1, SIZE)
    kernel.answer()
    assert 99 in kernel.held.values()
    kernel.exchange.flush()
    assert 99 not in kernel.held.values()
    assert len(kept) == 3


def test_large_blocks_are_not_requested_in_advance() -> None:
    """They would be kept, unused."""
    kernel = Kernel()
    kernel.exchange.share(bytes(LENT_AT_ONCE + 1))
    assert not kernel.requests
    kernel.exchange.share(bytes(LENT_AT_ONCE))
    assert len(kernel.requests) == 1


class FramesUp(RequestChannel):
    memory = None

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[list[Message]] = []
        self._session = Session("kernel")
        self._session.receive(self._session.hello())

    def _write(self, frame: bytes) -> None:
        self.frames.append([*self._session.receive(frame)])

    def arrive(self, message: Message) -> None:
        self._handle(message)

    def _write_to_lane(self, lane: int, frame: bytes) -> bool:
        raise NotImplementedError

    def _up_fileno(self) -> int:
        raise NotImplementedError

    def read_available(self) -> None:
        raise NotImplementedError

    def _read_until(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        raise NotImplementedError


def test_requests_in_advance_and_releases_go_with_the_next_message() -> None:
    channel, answers = FramesUp(), list[Response]()
    channel.send_with_next(ReleaseBuffers([1, 2]))
    channel.request_ahead(7, AllocateBuffer(7, SIZE, ahead=True), answers.append)
    assert not channel.frames
    channel.send(Ping(1))
    channel.send(Ping(2))
    assert channel.frames == [
        [ReleaseBuffers([1, 2]), AllocateBuffer(7, SIZE, ahead=True), Ping(1)],
        [Ping(2)],
    ]
    channel.arrive(Response(7, Raw(encode([]))))
    channel.arrive(Response(7, Raw(encode([]))))
    assert [each.id for each in answers] == [7]
    assert pack([Ping(2)])
