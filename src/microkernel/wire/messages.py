"""The messages between a kernel and an instance, in both directions.

On the wire each message is a small array: its tag, then its fields in order. New fields are added at the end with a
default, so that an older end ignores them. Payloads are ``Raw``: encoded once, and decoded only by their receiver.
Deadlines are seconds of this machine's monotonic clock; a transport to another machine must translate them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Annotated

from microkernel.wire.codec import MAX_ATTACHED, Meta, Raw, Struct

# Messages from a worker are hostile: an empty list is one byte in a frame and fifty in memory. So every collection has
# a bound that is checked before its items are decoded, and collections of arbitrary items stay encoded (Raw).
MAX_CHAIN = 1024
# Characters of a plugin's name in a chain.
MAX_NAME = 256
MAX_FIELDS = 64
MAX_FIELD_ITEMS = 1024
MAX_HANDLERS = MAX_METHODS = 16 * 1024
MAX_IN_FLIGHT = 64 * 1024
MAX_SECRETS = 1024
# Patterns in the permission to call, for a plugin that gets a direct channel.
MAX_PATTERNS = 1024
# Bytes of one method's JSON schema.
MAX_SCHEMA = 256 * 1024

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
    """An error on the wire: a kernel error, whose class is ``kind``; or, with an empty ``kind``, a plugin's
    exception."""

    kind: str = ""
    id: str = ""
    fields: Fields = {}
    type: str = ""
    message: str = ""
    traceback: str = ""
    where: str = ""
    hops: Hops = []


class Handler(Struct, array_like=True, frozen=True):
    """A registered handler. ``number`` is chosen by the instance; (pattern, name) identifies the handler across
    reloads."""

    number: int
    pattern: str
    name: str
    once: bool = False
    overflow: str = "block"
    # True if it watches keys of the shared data instead of topics.
    board: bool = False


class Method(Struct, array_like=True, frozen=True):
    """An exposed method, as `mk info` shows it."""

    name: str
    signature: str = "(...)"
    doc: str = ""
    # JSON schema of the parameters, encoded; at most ``MAX_SCHEMA`` bytes.
    schema: Raw = EMPTY_MAP
    # The return type hint as it is written; empty if there is none.
    returns: str = ""


class Attachment(Struct, array_like=True):
    """Data attached to a payload, which refers to it by index.

    Its ``size`` bytes are in ``data`` or, for an end that has shared memory, at the start of ``block``, which the hold
    ``hold`` keeps alive.
    """

    size: int
    hold: int = 0
    block: int = 0
    data: bytes = b""


Shares = Annotated[tuple[Attachment, ...], Meta(max_length=MAX_ATTACHED)]


class Message(Struct, array_like=True):
    """Base class of messages. ``shares`` are the attachments of the payload."""


# In both directions


class Hello(Message, tag=0):
    """The first message of each end."""

    protocol: int
    role: str
    name: str = ""
    token: str = ""


class Refuse(Message, tag=1):
    """The last message to an end that is rejected, with the reason."""

    id: str
    fields: Fields = {}


class Call(Message, tag=2):
    """Call ``target``, a ``plugin.method``. ``slot`` is the handler thread that the caller occupies, -1 for none."""

    id: int
    target: str
    args: Raw = EMPTY_LIST
    kwargs: Raw = EMPTY_MAP
    deadline: float = 0.0
    slot: int = -1
    chain: Chain = []
    shares: Shares = ()


class Response(Message, tag=3):
    """The answer to a Call, Invoke, Ask or another request with this ``id``.

    ``emitted``: the callee has emitted events before it, or rejected one, through another channel; the receiver
    processes those first. ``elsewhere``: on a reply lane, the reply itself is sent through the main channel, because it
    has attachments or is too large; on the main channel, its lane announces it.
    """

    id: int
    value: Raw = NOTHING
    failure: Failure | None = None
    emitted: bool = False
    shares: Shares = ()
    elsewhere: bool = False


class Cancel(Message, tag=4):
    """The sender of request ``id`` no longer waits for the answer."""

    id: int


class Ping(Message, tag=5):
    id: int


class Pong(Message, tag=6):
    id: int


# On a direct channel, one message in each datagram; the answer is a Response


class DirectCall(Message, tag=7):
    """A Call on a direct channel. ``sent``: when it was sent, in monotonic seconds."""

    id: int
    target: str
    args: Raw
    kwargs: Raw
    deadline: float
    slot: int
    chain: Chain
    sent: float


# From the kernel to an instance


class Load(Message, tag=10):
    """Everything that an instance needs to load its plugin. ``sources`` maps paths relative to ``root`` to their bytes.

    On the wire the paths are texts as made by ``wire.texts.path_to_text``.
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
    # Values in ``config`` to be redacted everywhere.
    secrets: list[str] = []
    data_dir: str = ""
    concurrency: int = 1
    log_level: int = 20
    emits: list[str] | None = None
    listens: list[str] | None = None
    calls: list[str] | None = None
    reads: list[str] | None = None
    # The grants; None grants all. A copy, so that a violation raises at the call; the kernel's gate decides.
    writes: list[str] | None = None
    # The project that owns the folder around ``data_dir``; empty if the operator named the folder.
    project: str = ""

    def with_paths(self, change: Callable[[str], str]) -> Load:
        """Return a copy with ``change`` applied to each path."""
        load = copy(self)
        load.root, load.entry, load.data_dir = map(change, (self.root, self.entry, self.data_dir))
        load.sources = {change(name): data for name, data in self.sources.items()}
        return load


class Start(Message, tag=11):
    """Call ``import_state`` if there is a state, then ``start``."""

    state: Raw = NOTHING
    from_version: str = ""


class Stop(Message, tag=12):
    """Finish, call ``export_state`` if ``export`` is set, then ``stop``.

    An instance that cannot export its state answers with Failed and continues as if it had not been asked. ``within``
    is the limit for all of that in seconds; 0 is no limit.
    """

    export: bool = False
    within: float = 0.0


class Deliver(Message, tag=13):
    """An event for one handler. ``event`` is an encoded Envelope, shared by all receivers."""

    seq: int
    handler: int
    delivery: int
    event: Raw
    # If not 0, the event is from an ``ask``, and the handler's value is sent as the Response with this id.
    reply_to: int = 0
    deadline: float = 0.0
    shares: Shares = ()


class Invoke(Message, tag=14):
    """A call of a method of this instance. ``lane`` is the reply lane for the answer, -1 for the main channel."""

    id: int
    method: str
    args: Raw
    kwargs: Raw
    deadline: float
    chain: Chain = []
    lane: int = -1
    shares: Shares = ()


class Credit(Message, tag=15):
    """The kernel has queued emitted events that took ``count`` slots."""

    count: int


class BlocksFreed(Message, tag=16):
    """These blocks no longer exist: their mappings may be closed."""

    blocks: list[int]


class DirectOffer(Message, tag=17):
    """The instance has been passed the callee's end of a direct channel, for calls by ``caller``.

    ``calls``: the patterns of the targets that the caller may call; None for all.
    """

    channel: int
    caller: str
    calls: Annotated[list[str], Meta(max_length=MAX_PATTERNS)] | None = None


class DirectRoute(Message, tag=18):
    """The instance has been passed the caller's end of a direct channel to ``callee``. Sent on the way up."""

    channel: int
    callee: str


# From an instance to the kernel


class Loaded(Message, tag=20):
    handlers: Annotated[list[Handler], Meta(max_length=MAX_HANDLERS)]
    methods: Annotated[list[Method], Meta(max_length=MAX_METHODS)]
    doc: str = ""
    # Values of the configuration that the plugin's code marks as secret.
    secrets: Annotated[list[str], Meta(max_length=MAX_SECRETS)] = []
    # Whether the plugin has an ``export_state``.
    exports: bool = False


class Started(Message, tag=21):
    pass


class Stopped(Message, tag=22):
    """The last message of an instance that stopped. ``not_started`` are calls it received and did not run."""

    not_started: Numbers = []


class Failed(Message, tag=23):
    """A phase failed: load, init, start, import_state, export_state or stop."""

    phase: str
    failure: Failure


class Done(Message, tag=24):
    """These deliveries are handled."""

    seqs: Numbers


class Rejected(Message, tag=25):
    """A delivery was not handled: its handler raised, or its payload does not fit. The event becomes a dead letter."""

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
    """A request to the shared data: ``get``, ``set`` or ``delete``. ``expect`` is the required revision, -1 for any."""

    id: int
    action: str
    key: str
    value: Raw = NOTHING
    expect: int = -1


class Log(Message, tag=32):
    """A log record or, with a ``kind``, one of the six kinds of messages to people."""

    level: int
    text: str
    time: float
    kind: str = ""
    fields: Fields = {}


class SelfExit(Message, tag=33):
    """The instance ends itself: by ``SystemExit``, or because of an exception outside of any handler. ``code`` is its
    exit status."""

    reason: str
    code: int = 0
    traceback: str = ""


class ConfinementReport(Message, tag=34):
    """The first message of a worker that confined itself.

    ``failed_checks``: layers that it could get through when it tested them. ``missing``: a layer that is not available,
    with the reason; the worker then exits. ``unopened_paths``: granted paths that did not open, with the reasons.
    """

    landlock: int = 0
    namespaces: Annotated[list[str], Meta(max_length=MAX_FIELDS)] = []
    failed_checks: Annotated[list[str], Meta(max_length=MAX_FIELDS)] = []
    missing: str = ""
    unopened_paths: Annotated[dict[str, str], Meta(max_length=MAX_FIELD_ITEMS)] = {}


class AllocateBuffer(Message, tag=35):
    """Request shared memory for ``size`` bytes. The Response contains at least one ``Attachment``, each a whole block
    that the instance may write to. ``ahead``: the instance does not wait for it, so it may contain none, and at most
    a second block of this size is made."""

    id: int
    size: int
    ahead: bool = False


class ReleaseBuffers(Message, tag=36):
    """The instance no longer uses these holds."""

    holds: Numbers


class Exported(Message, tag=37):
    """The result of ``export_state``. ``stop`` is called afterwards; whatever its outcome, the kernel has the state."""

    state: Raw = NOTHING


class DirectStatus(Message, tag=38):
    """An end of a direct channel is in use, or, if not ``open``, no longer.

    ``served``: calls that the callee has answered since its last status.
    """

    channel: int
    served: int = 0
    open: bool = True


class DirectAdopt(Message, tag=39):
    """A call on a direct channel takes long, or its callee waits for a call in turn. The kernel treats it from now on
    as one that it has sent. From either end; the first one counts."""

    channel: int
    id: int
    target: str
    deadline: float
    slot: int = -1
    chain: Chain = []


class DirectReply(Message, tag=40):
    """The answer to a call on a direct channel that the kernel must know or pass on: it came late, after an event, or
    has attachments. ``elsewhere``: the answer itself was sent on the channel."""

    id: int
    value: Raw = NOTHING
    failure: Failure | None = None
    shares: Shares = ()
    elsewhere: bool = False
    channel: int = 0


class DirectReturn(Message, tag=41):
    """A call on a direct channel that the callee has not started. The kernel handles it like any other call."""

    id: int
    target: str
    args: Raw = EMPTY_LIST
    kwargs: Raw = EMPTY_MAP
    deadline: float = 0.0
    slot: int = -1
    chain: Chain = []
    channel: int = 0


class Envelope(Struct, array_like=True, frozen=True):
    """An event, encoded once for all its receivers."""

    id: int
    topic: str
    source: str
    time: float
    data: Raw


# The union that a session decodes.
Any_ = (
    Hello | Refuse | Call | Response | Cancel | Ping | Pong | Load | Start | Stop | Deliver | Invoke | Credit | Loaded
    | Started | Stopped | Failed | Done | Rejected | Subscribe | Unsubscribe | Expose | Emit | Ask | Data | Log
    | SelfExit | ConfinementReport | BlocksFreed | AllocateBuffer | ReleaseBuffers | Exported | DirectOffer
    | DirectRoute | DirectStatus | DirectAdopt | DirectReply | DirectReturn
)  # fmt: skip
