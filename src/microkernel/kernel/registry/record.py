"""Records of the plugins, without any object of a plugin."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import field

from microkernel.errors import KernelError, PluginNotFound
from microkernel.kernel.manifest import Level, Manifest
from microkernel.kernel.messaging.dead_letters import DEAD_LETTERS_KEPT, DeadLetter, dead_letter_size
from microkernel.kernel.messaging.delivery import Delivery
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.mailbox_owner import Counts
from microkernel.kernel.messaging.quota import ITEM_OVERHEAD, BoundedHistory, PendingTable, memory_size
from microkernel.kernel.messaging.topic_index import TopicSubscription
from microkernel.kernel.ports import PluginCandidate, Snapshot
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.states import State, Trigger, advance
from microkernel.kernel.registry.suggestions import did_you_mean
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.messages import Message, Method

RECORDS_KEPT = 2_000
PAST_KEPT = 8


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of a plugin's log. ``stream``: log, stdout, stderr, or one of the six kinds of message."""

    plugin: str
    time: float
    level: int
    stream: str
    text: str


def log_size(line: LogRecord) -> int:
    return ITEM_OVERHEAD + memory_size(line.text)


@dataclass(eq=False, slots=True, weakref_slot=True)
class PluginRecord:
    """State of one plugin. ``lock`` serialises changes of its lifecycle; it is never taken on a plugin's thread."""

    found: PluginCandidate
    manifest: Manifest
    level: Level
    mailbox: Mailbox
    state: State = "discovered"
    generation: int = 0
    instance: Instance | None = None
    error: KernelError | None = None
    # The last crash. Kept when the next generation runs, unlike ``error``.
    last_death: KernelError | None = None
    subscriptions: dict[tuple[bool, str, str], TopicSubscription] = field(default_factory=dict)
    # Keys of its subscriptions, by the numbers that the present instance gave them.
    numbers: dict[int, tuple[bool, str, str]] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)
    doc: str = ""
    snapshot: Snapshot | None = None
    history: tuple[float, ...] = ()
    restarts: int = 0
    since: float = 0.0
    # Ids of the calls it waits for: its outgoing edges in the wait graph.
    outgoing: dict[int, None] = field(default_factory=dict)
    # Calls it was sent and has not answered, by id; None for one that is not in its mailbox yet. A call that its caller
    # has abandoned stays until the plugin is done with it.
    incoming: PendingTable[Delivery | None] = field(default_factory=PendingTable)
    dead_letters: BoundedHistory[DeadLetter] = field(init=False)
    logs: BoundedHistory[LogRecord] = field(init=False)
    counts: Counts = field(default_factory=Counts)
    lock: threading.RLock = field(default_factory=threading.RLock)
    # The instance that is being loaded; in a reload, in addition to the present one.
    candidate: Instance | None = None
    # Set whenever its state has changed; cleared by the thread that waits for that.
    state_changed: threading.Event = field(default_factory=threading.Event)
    # It connected by a socket, and is removed when the socket closes.
    is_remote_client: bool = False
    # It belongs to the program that runs the kernel (the console of `mk run`), and not to the operator's plugins.
    built_in: bool = False
    is_being_killed: bool = False
    # The instance that was asked to stop and finishes the work it has started.
    retiring: Instance | None = None
    # The last ended instances, of which something may be left.
    previous_instances: deque[Instance] = field(default_factory=lambda: deque(maxlen=PAST_KEPT))

    def __post_init__(self) -> None:
        limit = self.manifest.limits.kernel_memory
        self.dead_letters = BoundedHistory(DEAD_LETTERS_KEPT, limit, dead_letter_size)
        self.logs = BoundedHistory(RECORDS_KEPT, limit, log_size)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def full_mailbox_timeout(self) -> float:
        """Seconds that a delivery may wait for room in the mailbox."""
        return self.manifest.limits.full_mailbox_timeout

    def send(self, message: Message) -> None:
        """Send a message to the present instance. Does nothing if there is none, or if it is disconnected."""
        instance = self.instance
        if instance is not None and not instance.disconnected:
            instance.runner.send(message)

    def transition(self, trigger: Trigger) -> State:
        """Change the state, and return the new one. Raises KernelError if the transition does not exist."""
        self.state = advance(self.state, trigger)
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
        """Return the record of a plugin. Raises PluginNotFound, which suggests a similar name."""
        try:
            return self._records[name]
        except KeyError:
            raise PluginNotFound("MK0212", name=name, suggestion=did_you_mean(name, self._records)) from None
