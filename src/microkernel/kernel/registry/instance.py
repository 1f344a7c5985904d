"""The kernel's side of one living instance: what feeds it, what hears it, and the news of its life."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from mmap import mmap
from signal import SIGKILL
from typing import TYPE_CHECKING

from microkernel.errors import KernelError, PayloadTooLarge
from microkernel.kernel.manifest import Level, Manifest, Permissions
from microkernel.kernel.messaging.buffers import BufferAccount
from microkernel.kernel.messaging.delivery import CallDelivery, Delivery, EventDelivery
from microkernel.kernel.messaging.quota import Quota
from microkernel.kernel.ports import Exit, Runner, Snapshot
from microkernel.kernel.routing.registration import kind_of
from microkernel.wire import messages
from microkernel.wire.messages import Deliver, Invoke, Message
from microkernel.wire.secrets import Secrets

if TYPE_CHECKING:
    from microkernel.kernel.registry.record import PluginRecord
    from microkernel.kernel.routing.ingress import Ingress

InstanceNews = messages.Loaded | messages.Started | messages.Exported | messages.Stopped | messages.Failed | Exit


class Instance:
    """One generation of a plugin, on one runner. It is the MessageSource and the InstanceEvents of that runner.

    ``news`` carries what whoever starts or stops it waits for. ``cut``: what it says no longer counts.
    """

    def __init__(
        self,
        record: PluginRecord,
        generation: int,
        level: Level,
        manifest: Manifest,
        snapshot: Snapshot | None,
        permissions: Permissions,
        switch: Ingress,
    ) -> None:
        self.record = record
        self.name = record.name
        self.generation = generation
        self.level = level
        self.on_own_thread = level == "thread"
        """Its messages arrive on a thread that may be killed at any bytecode."""
        self.manifest = manifest
        self.snapshot = snapshot
        self.permissions = permissions
        self.secrets = Secrets()
        """Not to be let out by accident: its runtime cuts them out of what it tells, its runner out of its output."""
        self.runner: Runner
        in_memory = level in ("thread", "process") and not record.visitor
        self.holdings = BufferAccount(self.name, manifest.limits.shared_memory, self._tell, in_memory=in_memory)
        self.news: queue.SimpleQueue[InstanceNews] = queue.SimpleQueue()
        self.staged = messages.Loaded([], [])
        """What it has registered, until that takes effect."""
        self.exit: Exit | None = None
        self.gone = threading.Event()
        self.leaving: Exit | None = None
        """How it said that it ends, or how it is made to."""
        self.dismissed = False
        """It was asked to end: its end is no death."""
        self.hurried = False
        """What waits for it is not handled before it stops."""
        self.has_failed = False
        """It told that it could not come to be: it ends by itself."""
        self.on_probation = False
        """It took over in a reload just now: its death is the reload's business."""
        self.passed: list[int] = []
        """The calls it was given while it was retiring."""
        self.watched = self.cut = False
        self.progress = time.monotonic()
        """When it last finished something, or began to have something to do."""
        self.asked: float | None = None
        """Since when it has been asked for a sign of life, and how many beats in a row it has missed."""
        self.missed = 0
        self.oldest = 0
        """The number of what it had been at for longest when the watchdog last looked, and when that was first seen."""
        self.oldest_since = 0.0
        self.unsettled = 0
        """How many places those of its emits take that have not found theirs. On the reactor's thread."""
        self.registered = Quota(kind_of)
        """What it has registered, by what it is known by."""
        self._heard: set[type] = set()
        """Kinds of news that nobody has waited for yet."""
        self.rejections: deque[int] = deque()
        """Of one on its own thread: the events it has rejected of which the reactor has not heard."""
        self._credit = 0
        self._switch = switch

    # MessageSource

    def take(self, limit: int) -> list[Message]:
        mailbox = self.record.mailbox
        taken: list[Message] = []
        if not mailbox.waiting or self.record.instance is not self or self.cut:
            return taken
        if not mailbox.in_flight:
            self.progress = time.monotonic()
        letters = mailbox.take(limit)
        if letters and not self.watched:
            self._switch.began(self)
        for letter in letters:
            message = letter.message(self.runner)
            if message is not None and (not message.shares or self.attach(message, letter)):
                taken.append(message)
                continue
            mailbox.done(letter.seq)
            if message is not None:
                continue  # what is wrong has been told
            if isinstance(letter, CallDelivery):
                self.record.incoming.remove(letter.call.id)
                if letter.call.lane is not None:
                    letter.call.lane.drop()
            elif isinstance(letter, EventDelivery):
                self._switch.bury(letter, "the present generation has no such handler")
        return taken

    def attach(self, message: Deliver | Invoke, letter: Delivery) -> bool:
        """Give it what is attached to the letter; False if that cannot be: then who sent it has been told."""
        try:
            message.shares = self.holdings.give(letter.shares)
        except PayloadTooLarge as error:
            self._switch.undeliverable(letter, error)
            return False
        return True

    # InstanceEvents

    def received(self, message: Message) -> None:
        if not self.cut:
            self._switch.receive(self, message)

    def failed(self, phase: str, failure: messages.Failure) -> None:
        if not self.cut:
            self._switch.failed(self, messages.Failed(phase, failure))

    def output(self, stream: str, line: str) -> None:
        self._switch.output(self, stream, line)

    def ended(self, exit: Exit) -> None:
        self.record.past.append(self)  # before anybody who waits for its end goes on
        self.exit = exit = self.leaving or exit
        self.holdings.close()
        self.gone.set()
        self.news.put(exit)
        self._switch.ended(self, exit)

    def memory(self, block: int) -> mmap:
        return self.holdings.block(block).memory

    def descriptor(self, block: int) -> tuple[int, bool]:
        return self.holdings.descriptor(block)

    def malformed(self, error: KernelError) -> None:
        self.leaving = Exit(str(error), signal=SIGKILL)

    def _tell(self, message: Message) -> None:
        self.runner.send(message)

    # Its life

    def cut_off(self) -> None:
        """What it has said until now counts, read or not; nothing from now on does. Not on a plugin's thread."""
        self._switch.cut_off(self)

    def hear(self, news: InstanceNews) -> None:
        """It never has more to tell than somebody waits for, or will, and of each kind once; more is not kept: each may
        be as large as a frame."""
        if type(news) not in self._heard:
            self._heard.add(type(news))
            self.news.put(news)

    def wait_for(
        self, kind: type[InstanceNews], seconds: float, on_other: Callable[[InstanceNews], None] | None = None
    ) -> InstanceNews | None:
        """The next news of this kind, or an Exit or a Failed; None when the time is over (0 seconds: never is)."""
        deadline = time.monotonic() + seconds if seconds else None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                news = self.news.get(timeout=None if left is None else min(left, threading.TIMEOUT_MAX))
            except queue.Empty:
                return None
            self._heard.discard(type(news))
            if isinstance(news, kind | Exit) or (isinstance(news, messages.Failed) and on_other is None):
                return news
            if on_other is not None:
                on_other(news)

    def settled(self, places: int) -> None:
        """One of its emits, which takes so many, has found its place."""
        self.unsettled -= places
        self.give_credit(places)

    def give_credit(self, places: int) -> None:
        """It may emit so much more; it is told in batches."""
        self._credit += places
        if self._credit >= CREDIT_BATCH:
            self.runner.send(messages.Credit(self._credit))
            self._credit = 0


CREDIT_BATCH = 256
