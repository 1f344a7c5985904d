"""Protocols that the kernel uses and adapters implement: Loader, Host, Runner, Clock.

The kernel imports none of the adapters. ``testing.check_host`` is the contract of a Host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from mmap import mmap
from typing import Any, Protocol, TypeVar

from microkernel.errors import KernelError
from microkernel.kernel.manifest import Approval, Determinism, Level, Manifest, Permissions
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.messages import DirectCall, Failure, Load, Message, Response
from microkernel.wire.secrets import Secrets

T = TypeVar("T")
# Held while state that the whole process shares (warning filters, the collector) is changed for a moment, and while
# such state is compared.
steady = threading.Lock()


@dataclass(frozen=True, slots=True)
class PluginCandidate:
    """A path that looks like a plugin. ``error``: why it cannot be one."""

    name: str
    path: str
    manifest: Manifest
    error: KernelError | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A plugin's source at one moment.

    ``sources`` maps paths below ``root`` to bytes; ``entry`` is one of them. ``package``: relative imports have a
    package to be relative to. ``files``: the SHA-256 of every file, data included; ``digest`` is one for them all.
    ``leaving``: links in ``root`` that lead out of it.
    """

    root: str
    entry: str
    package: bool
    sources: Mapping[str, bytes]
    digest: str
    files: Mapping[str, str] = field(default_factory=dict)
    leaving: tuple[str, ...] = ()


class Loader(Protocol):
    """Finds plugins and reads them. Runs none of their code."""

    def discover(self, places: Sequence[str]) -> list[PluginCandidate]:
        """Return all plugins in these folders, files and entry points, sorted by name.

        Never raises for a fault of one of them: that is its ``error``.
        """

    def find(self, path: str) -> PluginCandidate:
        """Return the plugin at one path. Its ``error`` is set if there is none."""

    def snapshot(self, found: PluginCandidate, peers: Sequence[str], level: Level = "process") -> Snapshot:
        """Read the source, for the level at which it is going to run.

        Raises PluginLoadError for a source that cannot run: bad syntax, not UTF-8, no ``class Plugin``, an import of
        one of ``peers``, a missing dependency; at a confined level also a link that leads out of the plugin's folder,
        which is not read.
        """


class Lock(Protocol):
    """Storage of approvals that outlives the kernel: ``microkernel.lock``."""

    def read(self) -> Mapping[str, Approval]:
        """Return the approvals by plugin, read now; empty if there is no file. Raises ConfigError MK0414."""

    def keep(self, name: str, approval: Approval) -> None:
        """Replace the approval of this plugin. Raises ConfigError MK0414, and then nothing has changed."""


class Clock(Protocol):
    """Monotonic seconds, and the time of day."""

    def now(self) -> float: ...
    def wall(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Exit:
    """How an instance ended.

    ``uncharged``: not by its own fault, so no restart budget is charged. ``stack``: where its threads were, if that is
    known. ``message_id``: the message that reports the restart.
    """

    reason: str
    code: int | None = None
    signal: int | None = None
    uncharged: bool = False
    stack: str = ""
    message_id: str = "MK0204"


@dataclass(frozen=True, slots=True)
class Availability:
    """Availability of a level on this machine. ``detail`` is for `mk doctor`; ``error`` is raised on use of the level,
    None if it is available."""

    detail: str
    error: KernelError | None = None


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """All that a host needs to launch an instance: the Load message, and the values that the level may enforce.

    ``hidden_env``: variables of the kernel's environment that no plugin receives, because they hold secrets.
    ``source``: the plugin's own file or folder. ``dependencies``: the requirements of its manifest, which this machine
    satisfies. ``writable``: the folders in which some confined plugin may write, or leave a link.
    """

    load: Load
    limits: Mapping[str, float] = field(default_factory=dict)
    hidden_env: frozenset[str] = frozenset()
    permissions: Permissions = field(default_factory=Permissions)
    source: str = ""
    dependencies: tuple[str, ...] = ()
    determinism: Determinism = field(default_factory=Determinism)
    writable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """Remains of an instance, a line for each: those still ``left``, and those the audit has ``undone``."""

    left: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()


class MessageSource(Protocol):
    """The messages that wait for one instance, in the kernel. The runner takes them in batches.

    One thread at a time calls ``take``. The kernel keeps taken messages until the instance has answered.
    """

    def take(self, limit: int) -> list[Message]: ...

    @property
    def is_waiting(self) -> bool:
        """Whether there may be messages to take."""


class InstanceEvents(Protocol):
    """Receives a runner's reports about its instance. Callable on any thread of the host; never waits."""

    def received(self, message: Message) -> None: ...

    @property
    def secrets(self) -> Secrets:
        """Values to redact in the instance's output, before it is split into lines."""

    def failed(self, phase: str, failure: Failure) -> None:
        """The host found that the instance cannot start. The instance's own report of this comes by ``received``."""

    def output(self, stream: str, line: str) -> None:
        """The instance printed a line. Secrets are already redacted in it."""

    def ended(self, exit: Exit) -> None:
        """The instance has exited, and none of its code runs any longer. Called exactly once."""

    def memory(self, block: int) -> mmap:
        """Return the mapping of a block that the instance holds, for use in this process. Raises PermissionDenied."""

    def descriptor(self, block: int) -> tuple[int, bool]:
        """Return a descriptor of a block that the instance holds, and whether the instance may write to it.

        For another process to map. On the reactor's thread. Raises PermissionDenied.
        """

    def malformed(self, error: KernelError) -> None:
        """The instance sent a malformed message. The runner is killing it; ``ended`` follows."""


class ReplyLane(Protocol):
    """Lets one caller read its own reply, without a turn of the reactor. ``owner`` is the runner that it belongs to."""

    index: int
    owner: object

    def answer(self, reply: Response) -> None:
        """The reply arrived another way. From any thread."""

    def wait(self, id: int, deadline: float) -> Response | None:
        """Return the Response to this id, and free the lane. Return None at the deadline (monotonic)."""

    def release(self) -> None:
        """Return the lane unused."""

    def drop(self) -> None:
        """The abandoned call was never started, so no reply will come. From any thread."""


class DirectLink(Protocol):
    """A direct channel between two instances, see ``kernel.routing.direct_channels``. On the reactor's thread.

    ``waiting`` is shared with the callee. Its first number is 1 while a delivery may wait for the callee that was not
    sent to it. The callee's mailbox sets it, and its runner clears it; its second number counts how often.
    """

    waiting: memoryview

    def close(self, *, cancel: bool) -> Sequence[DirectCall]:
        """Close the channel, and return the calls that the callee has not received.

        The callee can still answer a call that it has received, unless ``cancel``.
        """


class Runner(Protocol):
    """Runs one instance: a thread, or a worker process with its channel."""

    @property
    def pid(self) -> int | None: ...

    def send(self, message: Message) -> None:
        """Send a message that is not from the source (Start, Stop, Response, Cancel, Ping), in order. Never waits."""

    def wake(self) -> None:
        """The source has messages. Never waits; costs one C call on a plugin's own thread."""

    def pump(self) -> None:
        """Like ``wake``, for a thread that cannot be killed: may send at once."""

    def lane(self) -> ReplyLane | None:
        """Return a free reply lane, or None. For a thread that cannot be killed. ``wait`` or ``release`` returns it."""

    def direct_link(self, number: int) -> DirectLink | None:
        """Pass the instance the callee's end of a new direct channel. Return None if that is impossible. On the
        reactor's thread."""

    def join_direct(self, number: int, link: DirectLink) -> bool:
        """Pass the instance the caller's end of a direct channel. Return False if that is impossible. On the reactor's
        thread."""

    def drain(self, drained: Callable[[], object]) -> None:
        """Call ``drained`` when everything that the instance has sent so far is handled.

        That is at once, or after some turns of the reactor. On the reactor's thread.
        """

    def request_exit(self) -> None:
        """Ask the instance to exit in a way that it cannot ignore, but that lets it clean up. Returns at once."""

    def kill(self) -> None:
        """End the instance and all it started. Returns at once; ``ended`` follows if the level guarantees it."""

    def is_waiting(self) -> bool:
        """Return whether the instance's main thread is known to be idle: it waits at a socket, or in a poll."""

    def is_stopped(self) -> bool:
        """Return whether the operating system has stopped the instance's process (SIGSTOP, a debugger)."""

    def stack(self) -> str:
        """Return where its threads are, as ``faulthandler`` prints it; empty if unknown. May wait for a moment."""

    def statistics(self, *, recent: bool = False) -> Mapping[str, Any]:
        """Return memory in bytes, CPU seconds, protections: whatever the level can read back.

        ``recent``: values measured a moment ago are good enough.
        """

    def audit(self) -> Audit:
        """Return the remains of the instance, which has ended. Never raises.

        On a thread that may wait, for some seconds at most. Remains that were ``undone`` are reported only once.
        """


class Host(Protocol):
    """One level of isolation."""

    level: Level

    def available(self) -> Availability: ...

    def launch(self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents) -> Runner:
        """Launch an instance on a new runner. Returns at once; the instance reports through ``events``.

        Raises IsolationUnavailable if this machine does not provide the level.
        """

    def close(self) -> None:
        """End all runners and everything the host itself started. Return when all has ended or was killed."""


class Reactor(Protocol):
    """The kernel's one thread for descriptors and timers, as hosts see it. It never waits for a plugin."""

    def watch(self, fd: int, ready: Callable[[], object], *, write: bool = False) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def post(self, work: Callable[[], object]) -> None: ...
    def submit(self, work: Callable[[], object]) -> None: ...
    def run(self, work: Callable[[], T], deadline: float | None = None) -> T: ...
    def later(self, seconds: float, work: Callable[[], object]) -> Callable[[], object]: ...
