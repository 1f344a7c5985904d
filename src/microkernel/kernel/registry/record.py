"""What the kernel knows of each plugin. No plugin object is in it."""

from __future__ import annotations

import difflib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from os.path import commonprefix
from typing import TYPE_CHECKING

from microkernel.errors import KernelError, PluginNotFound
from microkernel.kernel.manifest import Level, Manifest
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.quota import EACH, BoundedHistory, PendingTable, weight
from microkernel.kernel.messaging.rate_limit import RateLimit
from microkernel.kernel.messaging.topic_index import Counts, TopicSubscription
from microkernel.kernel.ports import PluginCandidate, Snapshot
from microkernel.kernel.registry.states import State, Trigger, advance
from microkernel.wire.codec import Raw
from microkernel.wire.messages import Attachment, Method

if TYPE_CHECKING:
    from microkernel.kernel.registry.instance import Instance
    from microkernel.kernel.routing.call_router import PendingCall

DEAD_LETTERS_KEPT = 1_000
RECORDS_KEPT = 2_000
PAST_KEPT = 8


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was not handled, and why. ``data`` is the encoded payload, shared by all dead letters of it."""

    id: int
    plugin: str
    handler: str
    topic: str
    source: str
    time: float
    delivery: int
    reason: str
    data: bytes | Raw
    traceback: str = ""
    shares: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of a plugin's log. ``stream``: log, stdout, stderr, or one of the six kinds of message."""

    plugin: str
    time: float
    level: int
    stream: str
    text: str


def size_of_letter(letter: DeadLetter) -> int:
    size = len(letter.data) + sum(share.size for share in letter.shares)
    return EACH + size + weight(letter.handler, letter.topic, letter.reason, letter.traceback)


def size_of_line(line: LogRecord) -> int:
    return EACH + weight(line.text)


@dataclass(eq=False, slots=True)
class PluginRecord:
    """One plugin. ``lock`` serialises changes of its life; it is never taken on a thread of a plugin."""

    found: PluginCandidate
    manifest: Manifest
    level: Level
    mailbox: Mailbox
    state: State = "discovered"
    generation: int = 0
    instance: Instance | None = None
    error: KernelError | None = None
    last_death: KernelError | None = None
    """Kept when the next generation runs, unlike ``error``."""
    subscriptions: dict[tuple[bool, str, str], TopicSubscription] = field(default_factory=dict)
    numbers: dict[int, tuple[bool, str, str]] = field(default_factory=dict)
    """The keys of its subscriptions, by the numbers that the present instance gave them."""
    methods: dict[str, Method] = field(default_factory=dict)
    doc: str = ""
    snapshot: Snapshot | None = None
    history: tuple[float, ...] = ()
    restarts: int = 0
    since: float = 0.0
    outgoing: dict[int, PendingCall] = field(default_factory=dict)
    """The calls it waits for, by id: the edges of the wait graph that start here."""
    incoming: PendingTable[PendingCall] = field(default_factory=PendingTable)
    dead_letters: BoundedHistory[DeadLetter] = field(init=False)
    logs: BoundedHistory[LogRecord] = field(init=False)
    counts: Counts = field(default_factory=Counts)
    lock: threading.RLock = field(default_factory=threading.RLock)
    untold: int | None = None
    """Dead letters of this second that were not told by themselves; None when none was made."""
    untold_reason: str = ""
    """Why the last of them is one."""
    traced: set[tuple[str, str, str]] = field(default_factory=set)
    """Handlers, and where and what they raised, whose tracebacks were logged within this second."""
    lines: RateLimit | None = None
    """Of its log and its output; made with the first line."""
    refusals: RateLimit | None = None
    """Of reports that a message of it was refused."""
    last_refusal: KernelError | None = None
    forget_restart: Callable[[], object] | None = None
    newborn: Instance | None = None
    """The instance that is being loaded, beside the present one in a reload."""
    turned: threading.Event = field(default_factory=threading.Event)
    """Set whenever its state has changed; cleared by who waits for that."""
    visitor: bool = False
    """It came by a socket, and goes with it."""
    built_in: bool = False
    """It was brought along by whoever runs the kernel: the console of `mk run`, no plugin of the operator's."""
    killing: bool = False
    is_down: bool = False
    """Those that require it have been reported that it is not active, and is not going to be."""
    retiring: Instance | None = None
    """The instance that was asked to stop and finishes what it has begun."""
    backoff_since: float = 0.0
    past: deque[Instance] = field(default_factory=lambda: deque(maxlen=PAST_KEPT))
    """Ended instances of which something may be left; the last ones."""
    in_backoff: float = 0.0
    """Seconds spent in backoff so far: they do not count in the supervision's period."""

    def __post_init__(self) -> None:
        limit = self.manifest.limits.kernel_memory
        self.dead_letters = BoundedHistory(DEAD_LETTERS_KEPT, limit, size_of_letter)
        self.logs = BoundedHistory(RECORDS_KEPT, limit, size_of_line)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def full_mailbox_timeout(self) -> float:
        """Seconds that a letter may wait for room in the mailbox."""
        return self.manifest.limits.full_mailbox_timeout

    def step(self, happening: Trigger) -> State:
        """Go on in the lifecycle. Raises KernelError for a way that does not exist."""
        self.state = advance(self.state, happening)
        return self.state


class Registry:
    """Records by name, in the order they were added."""

    def __init__(self) -> None:
        self._records: dict[str, PluginRecord] = {}
        self.find: Callable[[str], PluginRecord | None] = self._records.get

    def __iter__(self) -> Iterator[PluginRecord]:
        return iter(list(self._records.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def add(self, record: PluginRecord) -> None:
        self._records[record.name] = record

    def remove(self, name: str) -> None:
        self._records.pop(name, None)

    def names(self) -> list[str]:
        return list(self._records)

    def get(self, name: str) -> PluginRecord:
        """Raises PluginNotFound, with what it may have been meant to be."""
        try:
            return self._records[name]
        except KeyError:
            raise PluginNotFound("MK0212", name=name, suggestion=did_you_mean(name, self._records)) from None


def cure_of(name: str, state: str) -> str:
    """What makes a plugin in this state run again, for the end of a sentence; empty if nothing does."""
    return _CURES.get(state, "").format(name=name)


_CURES = {
    **dict.fromkeys(("discovered", "stopped", "failed"), "; to start it: mk start {name}"),
    "quarantined": "; to start it: mk start {name} --reset",
    "held": "; to approve it: mk approve {name}",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or nothing. What is compared is bounded: who may ask chooses the words, and often."""
    if len(word) > _LONGEST_COMPARED:
        return ""
    candidates = [each for each in list(known) if len(each) <= _LONGEST_COMPARED]
    if len(candidates) > _MOST_COMPARED:
        shared = [(len(commonprefix((word, each))), each) for each in candidates[:_MOST_LOOKED_AT]]  # noqa: RUF071
        candidates = [each for _, each in nlargest(_MOST_COMPARED, shared)]
    near = difflib.get_close_matches(word, candidates, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


# Characters of a word that is compared; how many are compared letter by letter, those that begin most alike; and how
# many are looked at for that.
_LONGEST_COMPARED = 32
_MOST_COMPARED = 8
_MOST_LOOKED_AT = 200
