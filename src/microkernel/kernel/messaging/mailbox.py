"""The bounded queue in front of a plugin. Owned by the kernel, so it outlives an instance; it can be paused.

A letter leaves the mailbox when its handler has returned: until then it is ``in flight``, and when the instance dies
it goes back to the front. Guarantees, also when a thread is killed at any bytecode: a letter put is never lost, its
wake-up neither; a letter taken is in flight; sizes are derived from the queues, never counted. Room is counted in
places: a large letter takes several.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from microkernel.kernel.messaging.delivery import Delivery
from microkernel.kernel.messaging.quota import OversizeTable
from microkernel.wire.slots import SLOT_BYTES

BATCH = 64
"""Events that do not wait for more company: whoever puts the last of them sends them, also while the reactor's thread
has not got the interpreter's lock, which it may wait 5 ms for."""
IN_FLIGHT, MOST_IN_FLIGHT = 1024, 4096
"""How many letters an instance may have been given and not done: half of the mailbox, from and to so many. What is in
flight can make no room for others."""


class Mailbox:
    """``put`` from any thread; ``take`` by the one who feeds the instance; the rest on the reactor's thread."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._admits = capacity
        self._most = most_in_flight(capacity)
        self.paused = True
        self.consumer: object = None
        """The instance that takes from it."""
        self.progress = 0.0
        """When the consumer last finished something, or was given something to do while it was idle. Monotonic."""
        self.bell: Callable[[], object] = _silent
        self.pump: Callable[[], object] = _silent
        self.waiting: deque[Delivery] = deque()
        """For others to look at."""
        self._taken: deque[Delivery] = deque()
        self._flight: dict[int, Delivery] = {}
        self._large = OversizeTable()
        self._alone = 0
        self._pops: Iterator[Delivery] = iter(self.waiting.popleft, None)
        self.latecomers = BlockedSends()
        """Letters that wait for room, each with what to do when it is settled. In order; admitted by the reactor."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self._taken) + len(self._flight)

    @property
    def in_flight(self) -> int:
        return len(self._flight) + len(self._taken)

    @property
    def places(self) -> int:
        """How many its letters take."""
        return self._large.places(len(self))

    def accept(self, letter: Delivery, *, direct: bool = False) -> bool:
        """``put`` if there is room. Whether there was."""
        count = len(self.waiting) + len(self._taken) + len(self._flight)
        if self.latecomers or (self._large.places(count) if self._large else count) >= self._admits:
            return False
        self.put(letter, direct=direct)
        return True

    def put(self, letter: Delivery, *, direct: bool = False) -> None:
        """Without a look at the capacity, which is the bus's business. ``direct``: this thread cannot be killed; what
        it puts goes on its way at once, unless it is an event for who is busy: that waits for company, until there is a
        batch of them or the reactor's thread comes to it."""
        if letter.size > SLOT_BYTES:
            self._large.note(letter.seq, letter.size)
        try:
            self.waiting.append(letter)
            if direct and (letter.is_call or not self._flight or len(self.waiting) % BATCH == 0):
                self.pump()  # whose it is, is asked when the letter is there
            else:
                self.bell()
        except BaseException:
            self.bell()  # a kill between the lines above must not lose the wake-up
            raise

    def put_call(self, letter: Delivery, source: str) -> None:
        """A call needs no room, but it does not overtake the events of its sender that wait for some. On the reactor's
        thread."""
        if self.latecomers and self.latecomers.has_from(source):
            self.latecomers.append(BlockedSend(letter, source, _silent))
        else:
            self.put(letter, direct=True)

    def admit_latecomers(self) -> None:
        """Let in what waited for room, while there is some. On the reactor's thread."""
        while self.latecomers and (self.latecomers.first.letter.is_call or self.places < self.capacity):
            latecomer = self.latecomers.popleft()
            self.put(latecomer.letter, direct=True)
            latecomer.settled()

    @property
    def is_closed(self) -> bool:
        """Whether it takes no new event. What waits in it stays, and latecomers still move in."""
        return not self._admits

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits in it, for room in it, or is in flight."""
        return not (self.waiting or self.latecomers or self._flight or self._taken)

    def close(self) -> None:
        """Take no new event until ``reopen``: ``accept`` is False. A capacity of 0 does it, so that ``accept`` need not
        look at one more thing."""
        self._admits = 0

    def reopen(self) -> None:
        self._admits = self.capacity

    def connect(self, bell: Callable[[], object], pump: Callable[[], object], consumer: object = None) -> None:
        """Let ``consumer`` take from now on: ``bell`` wakes it from any thread, ``pump`` from one that cannot be
        killed."""
        self.consumer, self.progress = consumer, time.monotonic()
        self.bell, self.pump, self.paused = bell, pump, False
        pump()

    def disconnect(self) -> None:
        """Let no one take; what is put waits."""
        self.paused = True
        self.bell = self.pump = _silent
        self.consumer = None

    def has(self, letter: Delivery | None) -> bool:
        """Whether it waits or is in flight. It may go from the one to the other meanwhile: that is the order."""
        return letter is not None and (
            letter in list(self.waiting) or letter in list(self._taken) or letter.seq in self._flight
        )

    def withdraw(self, letter: Delivery) -> bool:
        """Take one letter out that still waits; False if it does not."""
        try:
            self.waiting.remove(letter)
        except (ValueError, IndexError):  # it is taken, or the queue moved while we looked
            return False
        self._large.pop(letter.seq, None)
        return True

    def take(self, limit: int) -> list[Delivery]:
        """The next letters, now in flight. Those that were in flight at a death come one at a time; while there are
        large ones all do, so that not many are on their way at once, each a second time."""
        try:
            limit = self._allowance(min(limit, len(self.waiting)))
            self._taken.extend(islice(self._pops, limit))  # one C call: out of the one queue, into the other
        except IndexError:
            limit = 0  # others took some out meanwhile: there are no more
        letters = list(self._taken)
        for letter in letters:
            self._flight[letter.seq] = letter
        self._taken.clear()
        if letters and letters[0].redelivered:
            self._alone = letters[0].seq
        return letters

    def take_aside(self, letter: Delivery) -> None:
        """It is in flight without having waited."""
        self._flight[letter.seq] = letter

    def _allowance(self, most: int) -> int:
        if self.paused or not most:
            return 0
        most = min(most, self._most - len(self._flight) - len(self._taken))
        if most <= 0:
            return 0
        if self.waiting[0].redelivered:
            return 0 if self._flight else 1
        if self._alone in self._flight:
            return 0
        return 1 if self._large else most

    def done(self, seq: int) -> Delivery | None:
        """It is in flight no more; None if it was not."""
        letter = self._flight.pop(seq, None)
        if self._large:
            self._large.pop(seq, None)
        return letter

    def handled(self, seq: int) -> Delivery | None:
        """The instance says that it is done with an event; None if no such event was in flight. It cannot say so of a
        call, which is done when it is answered."""
        letter = self._flight.get(seq)
        return None if letter is None or letter.is_call else self.done(seq)

    def handled_all(self, seqs: Sequence[int]) -> int:
        """The same of many. How many were in flight."""
        flight, count = self._flight, 0
        for seq in seqs:
            letter = flight.get(seq)
            if letter is not None and not letter.is_call and flight.pop(seq, None) is not None:
                count += 1
                if self._large:
                    self._large.pop(seq, None)
        return count

    def oldest_in_flight(self) -> Delivery | None:
        """What has been handled, or waited to be, for longest."""
        letters = list(self._flight.values())
        return min(letters, key=lambda letter: letter.seq) if letters else None

    def recover(self) -> list[Delivery]:
        """All that is in flight, in order, and in flight no more. Only when no instance takes any more."""
        letters = {letter.seq: letter for letter in (*self._taken, *self._flight.values())}
        self._taken.clear()
        self._flight.clear()
        for seq in letters:
            self._large.pop(seq, None)
        return [letters[seq] for seq in sorted(letters)]

    def put_back(self, letters: list[Delivery]) -> None:
        """To the front, in order."""
        for letter in letters:
            self._large.note(letter.seq, letter.size)
        self.waiting.extendleft(reversed(letters))

    def drain(self) -> list[Delivery]:
        """All that waits, in order, and latecomers after them; the mailbox is empty but for what is in flight."""
        letters = []
        while self.waiting:
            letters.append(self.waiting.popleft())
            self._large.pop(letters[-1].seq, None)
        while self.latecomers:
            latecomer = self.latecomers.popleft()
            letters.append(latecomer.letter)
            latecomer.settled()
        return letters


class BlockedSend:
    """A letter that waits for room, or behind one of the same ``source`` that does. ``settled`` is called when it is
    in, or given up."""

    __slots__ = ("letter", "settled", "source")

    def __init__(self, letter: Delivery, source: str, settled: Callable[[], object]) -> None:
        self.letter = letter
        self.source = source
        self.settled = settled


class BlockedSends:
    """A queue of them. What is asked of it costs the same for many as for few: how many wait is up to those who send.

    Changed on the reactor's thread only. Its length may be read on any.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[BlockedSend, None] = OrderedDict()
        self._sources: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, latecomer: BlockedSend) -> bool:
        return latecomer in self._waiting

    @property
    def first(self) -> BlockedSend:
        return next(iter(self._waiting))

    def has_from(self, source: str) -> bool:
        return self._sources[source] > 0

    def append(self, latecomer: BlockedSend) -> None:
        self._waiting[latecomer] = None
        self._sources[latecomer.source] += 1

    def popleft(self) -> BlockedSend:
        latecomer, _ = self._waiting.popitem(last=False)
        self._leave(latecomer)
        return latecomer

    def remove(self, latecomer: BlockedSend) -> None:
        """Raises KeyError if it does not wait."""
        del self._waiting[latecomer]
        self._leave(latecomer)

    def _leave(self, latecomer: BlockedSend) -> None:
        self._sources[latecomer.source] -= 1
        if not self._sources[latecomer.source]:
            del self._sources[latecomer.source]


def most_in_flight(capacity: int) -> int:
    return min(MOST_IN_FLIGHT, max(IN_FLIGHT, capacity // 2))


def _silent() -> None:
    """Nobody is there to be woken."""
