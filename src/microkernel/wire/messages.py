"""The messages between a kernel and an instance, in both directions.

Each is a small array on the wire: its tag, then its fields in order; new fields go at the end and have a default, so
that an older end skips what it does not know. Payloads travel as ``Raw``: encoded once, decoded only by who needs them.
Deadlines are seconds of this machine's monotonic clock; what carries messages to another machine must translate them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Annotated

from microkernel.wire.codec import MOST_ATTACHED, Meta, Raw, Struct

# What a worker sends is hostile: an empty list is one byte in a frame and fifty in memory. So every collection has a
# bound, which is checked before its items are decoded, and what has items of any kind stays encoded (Raw).
MAX_CHAIN = 1024
MAX_NAME = 256
"""Characters of a plugin's name in a chain."""
MAX_FIELDS = 64
MAX_FIELD_ITEMS = 1024
MAX_HANDLERS = MAX_METHODS = 16 * 1024
MAX_IN_FLIGHT = 64 * 1024
MAX_SECRETS = 1024
MAX_SCHEMA = 256 * 1024
"""Bytes of one method's JSON schema."""

Chain = Annotated[list[Annotated[str, Meta(max_length=MAX_NAME)]], Meta(max_length=MAX_CHAIN)]
Hops = Annotated[list[str], Meta(max_length=MAX_CHAIN)]
Numbers = Annotated[list[int], Meta(max_length=MAX_IN_FLIGHT)]
Scalar = None | bool | int | float | str
Fields = Annotated[
    dict[str, Scalar | Annotated[list[Scalar], Meta(max_length=MAX_FIELD_ITEMS)]], Meta(max_length=MAX_FIELDS)
]

PROTOCOL = 1
NOTHING = Raw(b"\xc0")
EMPTY_LIST = Raw(b"\x90")
EMPTY_MAP = Raw(b"\x80")


class Failure(Struct, array_like=True, frozen=True):
    """An error on its way: one of ours (``kind`` names its class) or, without ``kind``, an exception of a plugin."""

    kind: str = ""
    id: str = ""
    fields: Fields = {}
    type: str = ""
    message: str = ""
    traceback: str = ""
    where: str = ""
    hops: Hops = []


class Handler(Struct, array_like=True, frozen=True):
    """A registered handler. ``number`` is the instance's own; (pattern, name) is what survives a reload."""

    number: int
    pattern: str
    name: str
    once: bool = False
    overflow: str = "block"
    board: bool = False
    """True: it watches keys of the context, not topics."""


class Method(Struct, array_like=True, frozen=True):
    """An exposed method, as `mk info` shows it."""

    name: str
    signature: str = "(...)"
    doc: str = ""
    schema: Raw = EMPTY_MAP
    """Encoded: who shows it decodes it. At most ``MAX_SCHEMA`` bytes."""
    returns: str = ""
    """The hint of its value as it is written; empty where there is none."""


class Attachment(Struct, array_like=True):
    """What is attached to a payload, which has its place among what is attached in its bytes. ``size`` bytes: they are
    in ``data``; or, where that end is lent memory, at the start of ``block``, which it has by ``hold``."""

    size: int
    hold: int = 0
    block: int = 0
    data: bytes = b""


Shares = Annotated[tuple[Attachment, ...], Meta(max_length=MOST_ATTACHED)]


class Message(Struct, array_like=True):
    """What a session carries. ``shares`` is what is attached to its payload."""


# Both ways


class Hello(Message, tag=0):
    """The first message of either end."""

    protocol: int
    role: str
    name: str = ""
    token: str = ""


class Refuse(Message, tag=1):
    """The last message to an end that is not welcome, with the reason."""

    id: str
    fields: Fields = {}


class Call(Message, tag=2):
    """Call ``target``, a ``plugin.method``. ``slot``: the caller's own thread of handlers it occupies, -1 for none."""

    id: int
    target: str
    args: Raw = EMPTY_LIST
    kwargs: Raw = EMPTY_MAP
    deadline: float = 0.0
    slot: int = -1
    chain: Chain = []
    shares: Shares = ()


class Reply(Message, tag=3):
    """``emitted``: the callee emitted before it, or rejected an event, by another way; whoever takes the reply sees
    to it that this has come.
    ``elsewhere``: on a lane, that the reply itself has gone up, since something is attached to it or it is too large;
    on the way up, that its lane says so."""

    id: int
    value: Raw = NOTHING
    failure: Failure | None = None
    emitted: bool = False
    shares: Shares = ()
    elsewhere: bool = False


class Cancel(Message, tag=4):
    """Whoever asked for ``id`` waits no more."""

    id: int


class Ping(Message, tag=5):
    id: int


class Pong(Message, tag=6):
    id: int


# Kernel to instance


class Load(Message, tag=10):
    """All that an instance needs to come to be. ``sources`` maps paths below ``root`` to their bytes.

    On the wire its paths are texts as ``wire.texts.path_to_text`` makes them.
    """

    name: str
    version: str
    generation: int
    isolation: str
    root: str
    entry: str
    sources: dict[str, bytes]
    package: bool = False
    peers: list[str] = []
    config: Raw = EMPTY_MAP
    secrets: list[str] = []
    """Values in ``config`` that are shown nowhere."""
    data_dir: str = ""
    concurrency: int = 1
    log_level: int = 20
    emits: list[str] | None = None
    listens: list[str] | None = None
    calls: list[str] | None = None
    reads: list[str] | None = None
    writes: list[str] | None = None
    """The grants, ``None`` for all: a copy for the sake of an error at the call. The gate decides."""
    project: str = ""
    """The project that the folder around ``data_dir`` belongs to; empty if the operator named the folder."""

    def with_paths(self, change: Callable[[str], str]) -> Load:
        """Return a copy with each of its paths changed."""
        load = copy(self)
        load.root, load.entry, load.data_dir = map(change, (self.root, self.entry, self.data_dir))
        load.sources = {change(name): data for name, data in self.sources.items()}
        return load


class Start(Message, tag=11):
    """Call ``import_state`` if there is a state, then ``start``."""

    state: Raw = NOTHING
    from_version: str = ""


class Stop(Message, tag=12):
    """Finish, call ``export_state`` if asked to, then ``stop``.

    An instance that cannot export its state says so with ``Failed`` and continues as if it had not been asked.
    ``within`` seconds: how long all of that may take; 0 is no bound.
    """

    export: bool = False
    within: float = 0.0


class Deliver(Message, tag=13):
    """An event for one handler. ``event`` is an encoded Envelope, shared by all who receive it."""

    seq: int
    handler: int
    delivery: int
    event: Raw
    reply_to: int = 0
    """Not 0: an ``ask`` wants the handler's value as the Reply of this id."""
    deadline: float = 0.0
    shares: Shares = ()


class Invoke(Message, tag=14):
    """A call for a method of this instance. ``lane``: where the Reply goes, -1 for the way up."""

    id: int
    method: str
    args: Raw
    kwargs: Raw
    deadline: float
    chain: Chain = []
    lane: int = -1
    shares: Shares = ()


class Credit(Message, tag=15):
    """Emits that took ``count`` places have found theirs."""

    count: int


class BlocksFreed(Message, tag=16):
    """These blocks are no more: a mapping of them need not be kept."""

    blocks: list[int]


# Instance to kernel


class Loaded(Message, tag=20):
    handlers: Annotated[list[Handler], Meta(max_length=MAX_HANDLERS)]
    methods: Annotated[list[Method], Meta(max_length=MAX_METHODS)]
    doc: str = ""
    secrets: Annotated[list[str], Meta(max_length=MAX_SECRETS)] = []
    """Values of the configuration that the plugin's own code marks as secret."""
    exports: bool = False
    """Whether it has an ``export_state``."""


class Started(Message, tag=21):
    pass


class Stopped(Message, tag=22):
    """``not_started``: the calls it was given and did not begin."""

    not_started: Numbers = []


class Failed(Message, tag=23):
    """A phase did not succeed: load, init, start, import_state, export_state or stop."""

    phase: str
    failure: Failure


class Done(Message, tag=24):
    """These deliveries are handled."""

    seqs: Numbers


class Rejected(Message, tag=25):
    """This delivery was not handled: its handler raised, or its payload does not fit. Its event is a dead letter."""

    seq: int
    failure: Failure


class Subscribe(Message, tag=26):
    id: int
    handler: Handler


class Unsubscribe(Message, tag=27):
    id: int
    number: int


class Expose(Message, tag=28):
    id: int
    method: Method


class Emit(Message, tag=29):
    topic: str
    data: Raw
    shares: Shares = ()


class Ask(Message, tag=30):
    id: int
    topic: str
    data: Raw
    deadline: float
    slot: int = -1
    chain: Chain = []
    shares: Shares = ()


class Data(Message, tag=31):
    """A request to the context: ``get``, ``set`` or ``delete``. ``expect``: the revision it must be at, -1 for any."""

    id: int
    action: str
    key: str
    value: Raw = NOTHING
    expect: int = -1


class Log(Message, tag=32):
    """A log record, or with ``said`` one of the six kinds of message to people."""

    level: int
    text: str
    time: float
    said: str = ""
    fields: Fields = {}


class SelfExit(Message, tag=33):
    """The instance ends itself: by ``SystemExit``, or because something was raised that no handler answers for.
    ``code``: as a process would exit with."""

    reason: str
    code: int = 0
    traceback: str = ""


class ConfinementReport(Message, tag=34):
    """The first word of a worker that had to wall itself in. ``holes``: which walls it got through when it tried them.
    ``missing``: the layer that could not be had, and why; then it ends. ``closed``: what was granted and could not be
    opened, by path, and why."""

    landlock: int = 0
    namespaces: Annotated[list[str], Meta(max_length=MAX_FIELDS)] = []
    failed_checks: Annotated[list[str], Meta(max_length=MAX_FIELDS)] = []
    missing: str = ""
    closed: Annotated[dict[str, str], Meta(max_length=MAX_FIELD_ITEMS)] = {}


class AllocateBuffer(Message, tag=35):
    """Request shared memory for ``size`` bytes. The Reply has a list of at least one ``Attachment``, each a whole block
    that the instance may write to."""

    id: int
    size: int


class ReleaseBuffers(Message, tag=36):
    """It reads what it had by these holds no more."""

    holds: Numbers


class Exported(Message, tag=37):
    """What ``export_state`` gave. ``stop`` is called after it: whatever becomes of that, the kernel has the state."""

    state: Raw = NOTHING


class Envelope(Struct, array_like=True, frozen=True):
    """An event as all its receivers share it."""

    id: int
    topic: str
    source: str
    time: float
    data: Raw


Any_ = (
    Hello | Refuse | Call | Reply | Cancel | Ping | Pong | Load | Start | Stop | Deliver | Invoke | Credit | Loaded
    | Started | Stopped | Failed | Done | Rejected | Subscribe | Unsubscribe | Expose | Emit | Ask | Data | Log
    | SelfExit | ConfinementReport | BlocksFreed | AllocateBuffer | ReleaseBuffers | Exported
)  # fmt: skip
"""The union a session decodes."""
