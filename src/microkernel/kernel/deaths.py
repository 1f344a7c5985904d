"""What follows when an instance ends that nobody asked to: its letters, its budget, the next generation.

Each change holds the plugin's lock. Nothing here runs on a thread of a plugin, nor on the reactor's: these wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from signal import SIGKILL

from microkernel.errors import KernelError
from microkernel.kernel.endings import Endings
from microkernel.kernel.groups import companions
from microkernel.kernel.instance import Instance
from microkernel.kernel.journal import Journal
from microkernel.kernel.manifest import Group
from microkernel.kernel.ports import Exit, Snapshot
from microkernel.kernel.reactor import Reactor
from microkernel.kernel.registry import Record, Registry
from microkernel.kernel.remains import Remains
from microkernel.kernel.stacks import place_in
from microkernel.kernel.supervisor import Verdict, judge
from microkernel.kernel.threads import in_thread


class Deaths:
    """``died``, ``overdue`` and ``see_off`` may be called from several threads at once."""

    def __init__(
        self,
        registry: Registry,
        endings: Endings,
        remains: Remains,
        reactor: Reactor,
        journal: Journal,
        groups: Sequence[Group],
    ) -> None:
        self._registry = registry
        self._endings = endings
        self._remains = remains
        self._reactor = reactor
        self._journal = journal
        self._groups = groups
        self.bring_up: Callable[[Record, Snapshot | None], object]
        self.closing = False
        """The kernel ends: nobody comes back."""

    def died(self, instance: Instance, exit: Exit) -> None:
        """An instance ended that nobody asked to."""
        record = instance.record
        if instance.on_probation:
            return
        with record.lock:
            if record.instance is instance and not instance.dismissed:
                self.follow(record, instance, exit)
            elif record.state == "zombie" and record.instance is None and not record.killing:
                record.step("ended")
                self.tell_end(record)

    def overdue(self, instance: Instance, seconds: float, what: str) -> None:
        """It is silent for too long, in a handler or otherwise: it is ended, and that is a death."""
        record = instance.record
        stack = instance.place.stack()
        with record.lock:
            if record.instance is not instance or instance.dismissed:
                return
            reason = f"silent for {seconds:.1f} s in {what}{_at(instance, stack)}"
            instance.leaving = Exit(reason, signal=SIGKILL, stack=stack, told="MK0207")
            if self._endings.end(instance, gently=instance.on_own_thread) is None:
                self._lost(record, reason)
            elif not instance.on_probation:
                self.follow(record, instance, instance.leaving)

    def see_off(self, instance: Instance) -> None:
        """It said that it ends itself, some time ago. If it has not, it is ended."""
        record = instance.record
        with record.lock:
            if record.instance is not instance or instance.dismissed or instance.exit is not None:
                return
            if self._endings.end(instance, gently=False) is None:
                self._lost(record, "it said that it ends, and did not")

    def follow(self, record: Record, instance: Instance, exit: Exit) -> None:
        """With the lock held: its letters go back, and the supervisor decides."""
        if record.killing:
            return
        letters = self._remains.reclaim(record, instance, exit.reason)
        record.instance = record.newborn = None
        record.step("died")
        from random import random  # it takes a while to load, and most never die

        abnormal = exit.code != 0 or exit.signal is not None
        now, dice = time.monotonic() - record.in_backoff, random()
        policy = record.manifest.supervision
        verdict = judge(policy, record.history, now, abnormal=abnormal, jitter=dice, blameless=exit.blameless)
        record.history = verdict.history
        record.error = KernelError("MK0203", reason=exit.reason, traceback=exit.stack)
        again = self._remains.put_back(record, letters)
        if verdict.delay is not None and not self.closing:
            self._restart_later(record, exit, verdict, verdict.delay)
            self._remains.tell_again(record, again)
        else:
            self._leave_down(record, exit, verdict)
        self._journal.changed(record)

    def _restart_later(self, record: Record, exit: Exit, verdict: Verdict, delay: float) -> None:
        numbers = {"reason": exit.reason, "delay": round(delay, 2)}
        if exit.blameless:
            self._journal.announce("MK0217", "warn", record.name, **numbers)
        else:
            policy = record.manifest.supervision
            numbers |= {"count": verdict.count, "intensity": policy.intensity, "period": policy.period}
            self._journal.announce(exit.told, "warn", record.name, **numbers)
        with_it = [] if exit.blameless else companions(self._groups, record.name)
        restart = partial(self._restart_group, record, with_it) if with_it else partial(self._restart, record)
        record.backoff_since = time.monotonic()
        record.forget_restart = self._reactor.later(delay, partial(in_thread, restart, f"{record.name}-restart"))

    def _leave_down(self, record: Record, exit: Exit, verdict: Verdict) -> None:
        if verdict.spent:
            record.step("spent")
            period = record.manifest.supervision.period
            record.error = KernelError(
                "MK0205", count=verdict.count, period=period, reason=exit.reason, traceback=exit.stack
            )
            self._journal.report("error", record.name, record.error)
            self._remains.empty(record, f"{record.name} is quarantined")
            for name in companions(self._groups, record.name):
                in_thread(partial(self._put_down, name, record.name), f"{name}-stop")
        else:
            record.step("ended")
            self._journal.report("warn", record.name, KernelError("MK0203", reason=exit.reason))
            self._remains.empty(record, f"{record.name} ended")

    def _restart(self, record: Record) -> None:
        with record.lock:
            if record.state != "backoff" or self.closing:
                return
            record.forget_restart = None
            record.in_backoff += time.monotonic() - record.backoff_since
            record.restarts += 1
            self.bring_up(record, record.snapshot)

    # Groups

    def _restart_group(self, record: Record, names: list[str]) -> None:
        """The others stop first, the last one first; then all start, in order. Each holds its own lock only."""
        others = [self._registry.get(name) for name in names if name in self._registry]
        for other in reversed(others):
            if self._pull(other, record.name):
                self._journal.announce("MK0222", "notice", other.name, cause=record.name)
        for each in _in_order([record, *others], self._groups):
            self._restart(each)

    def _pull(self, record: Record, cause: str) -> bool:
        """Stopped as politely as by hand, but nothing that waits for it is lost: it is in backoff. Whether it was."""
        with record.lock:
            if record.state != "active" or record.instance is None or self.closing:
                return False
            instance = record.instance
            stopped, ended = self._endings.retire(instance)
            if not ended:
                self._lost(record, f"its group restarts because {cause} died")
                return False
            self._remains.hand_over(record, instance, stopped)
            record.instance = None
            record.step("died")
            record.backoff_since = time.monotonic()
            self._journal.changed(record)
            return True

    def _put_down(self, name: str, cause: str) -> None:
        """Who cannot be without a plugin that is quarantined is stopped."""
        if name not in self._registry:
            return
        record = self._registry.get(name)
        self._pull(record, cause)
        with record.lock:
            if record.state == "backoff":
                record.step("ended")
                record.error = KernelError("MK0223", cause=cause)
                self._remains.empty(record, f"{cause} of its group is quarantined")
                self._journal.report("warn", record.name, record.error)
                self._journal.changed(record)

    # Zombies

    def _lost(self, record: Record, reason: str) -> None:
        self._remains.cut(record, reason)
        record.instance = None
        record.step("stuck")
        self._remains.empty(record, f"{record.name} is a zombie")
        self.tell_end(record)

    def tell_end(self, record: Record) -> None:
        """It is stopped, or a zombie."""
        if record.state == "zombie":
            record.error = KernelError("MK0206", reason="it is in code that does not return to Python")
            self._journal.report("error", record.name, record.error)
        else:
            self._journal.announce("MK0219", "notice", record.name)
        self._journal.changed(record)


def _at(instance: Instance, stack: str) -> str:
    if instance.snapshot is None:
        return ""
    place = place_in(stack, instance.snapshot.root, instance.snapshot.sources)
    return f", {place}" if place else ""


def _in_order(records: list[Record], groups: Sequence[Group]) -> list[Record]:
    order = [name for group in groups for name in group.plugins]
    return sorted(records, key=lambda record: order.index(record.name))
