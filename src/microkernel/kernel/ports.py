"""What the kernel asks of the outside: a Loader to find plugins, Hosts to give them a place, a Clock.

Adapters implement these; the kernel imports none of them. ``testing.check_host`` is the contract of a Host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any, Protocol, TypeVar

from microkernel.errors import KernelError
from microkernel.kernel.manifest import Approval, Determinism, Level, Manifest, Permissions
from microkernel.wire.messages import Failure, Load, Message, Reply
from microkernel.wire.secrets import Secrets

T = TypeVar("T")
steady = threading.Lock()
"""Held by whatever changes, for a moment, state that the whole process shares (warning filters, the collector), and
where such state is compared."""


@dataclass(frozen=True, slots=True)
class PluginCandidate:
    """A place that looks like a plugin. ``error`` set: it was found, but cannot be one, and why."""

    name: str
    path: str
    manifest: Manifest
    error: KernelError | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A plugin's source as it was at one moment. ``sources`` maps paths below ``root`` to bytes; ``entry`` is one of
    them; ``package`` says that relative imports have a package to be relative to. ``files`` has the SHA-256 of every
    file, of data too, and ``digest`` is one for them all. ``leaving``: links in ``root`` that lead out of it."""

    root: str
    entry: str
    package: bool
    sources: Mapping[str, bytes]
    digest: str
    files: Mapping[str, str] = field(default_factory=dict)
    leaving: tuple[str, ...] = ()


class Loader(Protocol):
    """Finds plugins and reads them; runs none of their code."""

    def discover(self, places: Sequence[str]) -> list[PluginCandidate]:
        """All plugins in these folders, files and entry points, in the order of their names. Never raises for what
        is wrong with one of them: that is its ``error``."""

    def find(self, path: str) -> PluginCandidate:
        """The plugin at one path. Its ``error`` is set where there is none."""

    def snapshot(self, found: PluginCandidate, peers: Sequence[str], level: Level = "process") -> Snapshot:
        """Read the source, for the level at which it is going to run. Raises PluginLoadError for what cannot run: bad
        syntax, not UTF-8, no ``class Plugin``, an import of one of ``peers``, a missing dependency; at a confined level
        a link that leads out of the plugin's folder, which is not read."""


class Lock(Protocol):
    """Where approvals outlive the kernel: ``microkernel.lock``."""

    def read(self) -> Mapping[str, Approval]:
        """By plugin, as it is now; nothing where there is no file. Raises ConfigError MK0414."""

    def keep(self, name: str, approval: Approval) -> None:
        """In place of what was there of this plugin. Raises ConfigError MK0414, and then nothing has changed."""


class Clock(Protocol):
    """Monotonic seconds, and the time of day."""

    def now(self) -> float: ...
    def wall(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Exit:
    """How a place ended. ``blameless``: not by its own fault; no budget is charged. ``stack``: where its threads were,
    if that is known; ``told``: the id of the message that tells of the restart."""

    reason: str
    code: int | None = None
    signal: int | None = None
    blameless: bool = False
    stack: str = ""
    told: str = "MK0204"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether this machine can give a level; ``detail`` is for `mk doctor`, ``error`` what asking for it raises."""

    detail: str
    error: KernelError | None = None


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What a host needs to make a place: the Load message, and what the level may enforce: limits, permissions.
    ``hidden`` are the variables of the kernel's environment that no plugin gets: they hold secrets. ``source``: the
    plugin's own file or folder. ``dependencies`` are the requirements of its manifest, which this machine satisfies.
    ``writable``: the folders in which some confined plugin may write, or leave a link."""

    load: Load
    limits: Mapping[str, float] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    permissions: Permissions = field(default_factory=Permissions)
    source: str = ""
    dependencies: tuple[str, ...] = ()
    determinism: Determinism = field(default_factory=Determinism)
    writable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """What an instance that has ended left: what is ``left`` still, and what was ``undone`` for it, each a line."""

    left: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()


class MessageSource(Protocol):
    """The kernel's side of what waits for an instance: where a place takes the next messages from.

    ``take`` is called by one thread at a time; between ``take`` and the answer the kernel keeps what was taken.
    """

    def take(self, most: int) -> list[Message]: ...


class InstanceEvents(Protocol):
    """Where a place reports. May be called on any thread of the host; never waits."""

    def received(self, message: Message) -> None: ...

    @property
    def secrets(self) -> Secrets:
        """What is cut out of the instance's output before a line is divided."""

    def failed(self, phase: str, failure: Failure) -> None:
        """The host itself found that the instance cannot come to be. What an instance says of this is ``received``."""

    def output(self, stream: str, line: str) -> None:
        """A line that it printed, without its secrets."""

    def ended(self, exit: Exit) -> None:
        """Exactly once, when nothing of the instance runs any more."""

    def memory(self, block: int) -> mmap:
        """Of a block that the instance has, for who is in this process. Raises PermissionDenied."""

    def descriptor(self, block: int) -> tuple[int, bool]:
        """The same for another process, which is going to map it; and whether it may write to it. On the reactor's
        thread."""

    def malformed(self, error: KernelError) -> None:
        """The instance sent what is no message. The place is being killed; ``ended`` follows."""


class ReplyLane(Protocol):
    """A way for one caller to read its own answer. ``owner`` is the place it leads from."""

    index: int
    owner: object

    def answer(self, reply: Reply) -> None:
        """The answer came another way; from any thread."""

    def wait(self, id: int, deadline: float) -> Reply | None:
        """The Reply to this id, and the lane is free again; None at the deadline (monotonic)."""

    def release(self) -> None:
        """Give it back unused."""

    def drop(self) -> None:
        """The call that was given up was never begun: nothing will come. From any thread."""


class Runner(Protocol):
    """Where one instance lives."""

    @property
    def pid(self) -> int | None: ...

    def send(self, message: Message) -> None:
        """A message outside the feed (Start, Stop, Reply, Cancel, Ping), in order with other such. Never waits."""

    def wake(self) -> None:
        """The feed has something. Never waits; one C call's worth of work on a plugin's own thread."""

    def pump(self) -> None:
        """The same, on a thread that cannot be killed: may send at once."""

    def lane(self) -> ReplyLane | None:
        """A free reply lane, for a thread that cannot be killed; None where there is none. ``wait`` gives it back."""

    def catch_up(self, heard: Callable[[], object]) -> None:
        """Call ``heard`` when all that the instance has said until now is handled: at once, or after some turns of the
        reactor. On the reactor's thread."""

    def insist(self) -> None:
        """Ask again, so that the instance cannot overhear it but may still clean up. Returns at once."""

    def kill(self) -> None:
        """End it now, with everything it started. Returns at once; ``ended`` follows where the level can promise it."""

    def is_waiting(self) -> bool:
        """Whether its main thread is known to wait as one does that has nothing to do: at a socket, or in a poll."""

    def is_stopped(self) -> bool:
        """Whether the system holds it back (SIGSTOP, a debugger)."""

    def stack(self) -> str:
        """Where its threads are, as ``faulthandler`` prints it; empty where that cannot be told. May wait a moment."""

    def statistics(self, *, recent: bool = False) -> Mapping[str, Any]:
        """Memory in bytes, cpu seconds, protections: whatever the level can read back. ``recent``: what it has read
        a moment ago will do."""

    def audit(self) -> Audit:
        """What is left of the instance, which has ended. On a thread that may wait, for some seconds at most; never
        raises. What was ``undone`` is told once."""


class Host(Protocol):
    """One level of isolation."""

    level: Level

    def available(self) -> Availability: ...

    def launch(self, spec: LaunchSpec, feed: MessageSource, uplink: InstanceEvents) -> Runner:
        """Begin a new place and its instance. Returns at once; the instance reports through ``uplink``.

        Raises IsolationUnavailable where this machine cannot.
        """

    def close(self) -> None:
        """End all places and what the host itself started; returns when nothing is left or it was killed."""


class Reactor(Protocol):
    """The kernel's one thread for descriptors and timers, as hosts see it. It never waits for a plugin."""

    def watch(self, fd: int, ready: Callable[[], object], *, write: bool = False) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def post(self, work: Callable[[], object]) -> None: ...
    def submit(self, work: Callable[[], object]) -> None: ...
    def run(self, work: Callable[[], T], deadline: float | None = None) -> T: ...
    def later(self, seconds: float, work: Callable[[], object]) -> Callable[[], object]: ...
