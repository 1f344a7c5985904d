"""What follows an end that nobody asked for, and a start that fails again: letters, budget, the next generation.

Each change holds the plugin's lock. Nothing here runs on a thread of a plugin, nor on the reactor's: these wait.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from signal import SIGKILL

from microkernel.errors import KernelError
from microkernel.kernel.config import Group
from microkernel.kernel.lifecycle.cleanup import InstanceCleanup
from microkernel.kernel.lifecycle.termination import Terminator
from microkernel.kernel.ports import Exit
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.supervision.groups import companions
from microkernel.kernel.supervision.restart_policy import RestartDecision, judge
from microkernel.kernel.supervision.stack_location import place_in

# Seconds between two looks whether who holds a plugin's lock is draining it.
_GLANCE = 0.05


class Supervisor:
    """``died``, ``overdue`` and ``see_off`` may be called from several threads at once."""

    def __init__(
        self,
        registry: Registry,
        endings: Terminator,
        remains: InstanceCleanup,
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
        self.bring_up: Callable[..., object]
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
        stack = instance.runner.stack()
        while not record.lock.acquire(timeout=_GLANCE):
            if instance.dismissed:
                instance.hurried = True  # it is being drained, and hangs: that ends here
                return
        try:
            if record.instance is not instance or instance.dismissed:
                return
            reason = f"silent for {seconds:.1f} s in {what}{_at(instance, stack)}"
            instance.leaving = Exit(reason, signal=SIGKILL, stack=stack, message_id="MK0207")
            if self._endings.end(instance, gently=instance.on_own_thread) is None:
                self._lost(record, reason)
            elif not instance.on_probation:
                self.follow(record, instance, instance.leaving)
        finally:
            record.lock.release()

    def see_off(self, instance: Instance) -> None:
        """It said that it ends itself, some time ago. If it has not, it is ended."""
        record = instance.record
        with record.lock:
            if record.instance is not instance or instance.dismissed or instance.exit is not None:
                return
            if self._endings.end(instance, gently=False) is None:
                self._lost(record, "it said that it ends, and did not")

    def try_again(self, record: PluginRecord, error: KernelError) -> None:
        """A start that may be tried again failed: it counts like a death. With the lock held."""
        instance = record.instance or record.newborn
        if record.killing:
            return
        if instance is not None and instance.exit is None and self._endings.end(instance) is None:
            record.instance = instance
            self._lost(record, error.text)
            return
        stack = str(error.fields.get("traceback", ""))
        self.follow(record, instance, Exit(error.text, code=1, stack=stack), error)

    def follow(
        self, record: PluginRecord, instance: Instance | None, exit: Exit, error: KernelError | None = None
    ) -> None:
        """With the lock held: its letters go back, and the supervisor decides. ``error``: what is shown meanwhile, if
        it is not that the plugin died."""
        if record.killing:
            return
        letters = self._remains.reclaim(record, instance, exit.reason) if instance is not None else []
        record.instance = record.newborn = None
        record.step("died")
        abnormal = exit.code != 0 or exit.signal is not None
        now, dice = time.monotonic() - record.in_backoff, _dice()
        policy = record.manifest.supervision
        verdict = judge(policy, record.history, now, abnormal=abnormal, jitter=dice, blameless=exit.blameless)
        record.history = verdict.history
        record.last_death = KernelError("MK0203", reason=exit.reason, traceback=exit.stack)
        record.error = error or record.last_death
        again = self._remains.put_back(record, letters)
        if verdict.delay is not None and not self.closing:
            self._restart_later(record, exit, verdict, verdict.delay)
            self._remains.tell_again(record, again)
        else:
            self._leave_down(record, exit, verdict)
        self._journal.changed(record)

    def _restart_later(self, record: PluginRecord, exit: Exit, verdict: RestartDecision, delay: float) -> None:
        numbers = {"reason": exit.reason, "delay": round(delay, 2)}
        if exit.blameless:
            self._journal.announce("MK0217", "warn", record.name, **numbers)
        else:
            policy = record.manifest.supervision
            numbers |= {"count": verdict.count, "intensity": policy.intensity, "period": policy.period}
            self._journal.announce(exit.message_id, "warn", record.name, **numbers)
        with_it = [] if exit.blameless else companions(self._groups, record.name)
        restart = partial(self._restart_group, record, with_it) if with_it else partial(self._restart, record)
        record.backoff_since = time.monotonic()
        record.forget_restart = self._reactor.later(
            delay, partial(self._reactor.beside, restart, f"{record.name}-restart")
        )

    def _leave_down(self, record: PluginRecord, exit: Exit, verdict: RestartDecision) -> None:
        if verdict.spent:
            record.step("spent")
            period = record.manifest.supervision.period
            record.error = KernelError(
                "MK0205", count=verdict.count, period=period, reason=exit.reason, traceback=exit.stack
            )
            self._journal.report("error", record.name, record.error)
            self._remains.empty(record, f"{record.name} is quarantined")
            for name in companions(self._groups, record.name):
                error = KernelError("MK0223", cause=record.name)
                self._reactor.beside(partial(self._put_down, name, error), f"{name}-stop")
        else:
            record.step("ended")
            self._journal.report("warn", record.name, KernelError("MK0203", reason=exit.reason))
            self._remains.empty(record, f"{record.name} ended")

    def _restart(self, record: PluginRecord) -> None:
        with record.lock:
            if record.state != "backoff" or self.closing:
                return
            record.forget_restart = None
            record.in_backoff += time.monotonic() - record.backoff_since
            record.restarts += 1
            self.bring_up(record, record.snapshot, again=True)

    # Groups

    def _restart_group(self, record: PluginRecord, names: list[str]) -> None:
        """The others stop first, the last one first; then all start, in order, but for ``temporary`` ones. Each step
        holds the lock of one plugin only."""
        others = [self._registry.get(name) for name in names if name in self._registry]
        for other in reversed(others):
            if other.manifest.supervision.restart == "temporary":
                self._put_down(other.name, KernelError("MK0224", cause=record.name))
            elif self._pull(other, record.name):
                self._journal.announce("MK0222", "notice", other.name, cause=record.name)
        for each in _in_order([record, *others], self._groups):
            self._restart(each)

    def _pull(self, record: PluginRecord, cause: str) -> bool:
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

    def _put_down(self, name: str, error: KernelError) -> None:
        """Stop a plugin because of its group, as by hand; ``error`` says why. Nothing for one that does not run."""
        if name not in self._registry:
            return
        record = self._registry.get(name)
        with record.lock:
            if record.state not in ("active", "backoff") or self.closing:
                return
            if record.forget_restart is not None:
                record.forget_restart()
            record.error = error  # before the state: whoever sees that it is stopped also sees why
            died = self._endings.take_down(record)
            self._remains.empty(record, error.text, died)
            self._tell_put_down(record, error)

    def _tell_put_down(self, record: PluginRecord, error: KernelError) -> None:
        if record.state == "zombie":
            self.tell_end(record)
            return
        self._journal.report("warn", record.name, error)
        self._journal.changed(record)

    # Zombies

    def _lost(self, record: PluginRecord, reason: str) -> None:
        self._remains.cut(record, reason)
        record.instance = None
        record.step("stuck")
        self._remains.empty(record, f"{record.name} is a zombie")
        self.tell_end(record)

    def tell_end(self, record: PluginRecord) -> None:
        """It is stopped, or a zombie."""
        if record.state == "zombie":
            record.error = KernelError("MK0206", reason="it is in code that does not return to Python")
            self._journal.report("error", record.name, record.error)
        else:
            self._journal.announce("MK0219", "notice", record.name)
        self._journal.changed(record)


def _dice() -> float:
    """A random number from 0 to 1. Not by ``random``: a module may be impossible to load when something has run out."""
    return int.from_bytes(os.urandom(4)) / 2**32


def _at(instance: Instance, stack: str) -> str:
    if instance.snapshot is None:
        return ""
    place = place_in(stack, instance.snapshot.root, instance.snapshot.sources)
    return f", {place}" if place else ""


def _in_order(records: list[PluginRecord], groups: Sequence[Group]) -> list[PluginRecord]:
    order = [name for group in groups for name in group.plugins]
    return sorted(records, key=lambda record: order.index(record.name))
