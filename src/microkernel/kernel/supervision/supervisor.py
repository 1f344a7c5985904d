"""Starts and restarts plugins, and owns their instances.

After a crash or a failed start, it handles the deliveries, the restart budget and the next generation. Each change
holds the plugin's lock. Methods that wait run neither on a plugin's thread nor on the reactor's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from signal import SIGKILL

from microkernel.errors import (
    KernelClosed,
    KernelError,
    PluginHeld,
    PluginLoadError,
    PluginNotReady,
    RequirementError,
    shortage_in,
)
from microkernel.kernel.config import Group
from microkernel.kernel.lifecycle.cleanup import InstanceCleanup
from microkernel.kernel.lifecycle.launcher import Launcher, StartupExit, as_error
from microkernel.kernel.lifecycle.termination import Terminator
from microkernel.kernel.manifest import Manifest
from microkernel.kernel.ports import Exit, Snapshot
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.requirements import requires, split
from microkernel.kernel.routing.registration import Registrar
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.supervision.groups import group_members, in_start_order
from microkernel.kernel.supervision.heartbeat import Heartbeat
from microkernel.kernel.supervision.restart_policy import RestartDecision
from microkernel.kernel.supervision.restart_schedule import RestartSchedule
from microkernel.kernel.supervision.stack_location import locate
from microkernel.kernel.supervision.watchdog import Watchdog

# Seconds between two checks whether the thread that holds a plugin's lock is draining it.
_GLANCE = 0.05
# Characters of the reason why a plugin is not ready.
_MAX_REASON = 500
_log = logging.getLogger("microkernel")


class Supervisor:
    """InstanceOwner of the plugins. Its methods may be called on any thread, except ``bring_up`` and those that hold a
    lock."""

    def __init__(
        self,
        registry: Registry,
        launcher: Launcher,
        terminator: Terminator,
        cleanup: InstanceCleanup,
        registrar: Registrar,
        watchdog: Watchdog,
        heartbeat: Heartbeat,
        schedule: RestartSchedule,
        reactor: Reactor,
        journal: Journal,
        groups: Sequence[Group],
    ) -> None:
        self._registry = registry
        self._launcher = launcher
        self._terminator = terminator
        self._cleanup = cleanup
        self._registrar = registrar
        self._watchdog = watchdog
        self._heartbeat = heartbeat
        self._schedule = schedule
        self._reactor = reactor
        self._journal = journal
        self._groups = groups
        # The kernel is stopping, so nothing is started or restarted.
        self.is_closing = False

    def close(self) -> None:
        """Stop starting and restarting plugins."""
        self.is_closing = True

    # The owner of instances. None of these waits.

    def on_exit(self, instance: Instance, exit: Exit) -> None:
        record = self._registry.find(instance.name)
        if record is None:
            return
        if not instance.exit_expected:
            self._beside(partial(self._exited, record, instance, exit), f"{instance.name}-death")
        elif record.state == "zombie":
            self._beside(partial(self._exited, record, instance, exit), f"{instance.name}-end")

    def on_activity(self, instance: Instance) -> None:
        self._watchdog.arm(instance)

    def on_pong(self, instance: Instance) -> None:
        self._heartbeat.heard(instance)

    def on_unresponsive(self, instance: Instance, seconds: float, what: str) -> None:
        record = self._registry.find(instance.name)
        if record is not None:
            end = partial(self._end_unresponsive, record, instance, seconds, what)
            self._beside(end, f"{instance.name}-overdue")

    def on_self_exit(self, instance: Instance) -> None:
        """Give the instance some time for its exit, then end it."""
        enforce = partial(self.enforce_exit_, instance)
        limit = instance.manifest.limits.kill_grace
        self._reactor.later(limit, partial(self._beside, enforce, f"{instance.name}-farewell"))

    def _beside(self, work: Callable[[], object], name: str) -> None:
        self._reactor.post(partial(self._reactor.beside, work, name))

    def _exited(self, record: PluginRecord, instance: Instance, exit: Exit) -> None:
        with record.lock:
            if record.instance is instance and not instance.exit_expected:
                self.handle_exit(record, instance, exit)
            elif record.state == "zombie" and record.instance is None and not record.is_being_killed:
                record.transition("ended")
                self._cleanup.report_stopped(record)

    def _end_unresponsive(self, record: PluginRecord, instance: Instance, seconds: float, what: str) -> None:
        """End an instance. Its owner handles the exit when it is reported, like any other."""
        stack = instance.runner.stack()
        while not record.lock.acquire(timeout=_GLANCE):
            if instance.exit_expected:
                instance.hurried = True  # it hangs while it is being drained, so end the drain
                return
        try:
            if record.instance is not instance or instance.exit_expected:
                return
            reason = f"silent for {seconds:.1f} s in {what}{_at(instance, stack)}"
            instance.pending_exit = Exit(reason, signal=SIGKILL, stack=stack, message_id="MK0207")
            if self._terminator.terminate(instance, grace=instance.on_own_thread) is None:
                self._cleanup.mark_zombie(record, reason)
        finally:
            record.lock.release()

    def enforce_exit_(self, instance: Instance) -> None:
        record = self._registry.find(instance.name)
        if record is None:
            return
        with record.lock:
            if record.instance is not instance or instance.exit_expected or instance.exit is not None:
                return
            if self._terminator.terminate(instance, grace=False) is None:
                self._cleanup.mark_zombie(record, "it said that it ends, and did not")

    # Starting

    def bring_up(self, record: PluginRecord, snapshot: Snapshot | None, *, again: bool = False) -> KernelError | None:
        """Load and start a plugin, from this snapshot or from its source as it is now.

        Return None if it is active, or not ready, in which case it is started again later; else the error. ``again``:
        this is a restart, whose failure is retried within the budget. A failure because the system had run out of a
        resource is retried at any start.
        """
        began = time.monotonic()
        try:
            if self.is_closing:
                raise KernelClosed("MK0612", reason="it is stopping")
            self.check_requirements(record.manifest)
            instance = self._launcher.launch(record, self, record.manifest, record.level, snapshot)
            self._take_over(record, instance)
            record.transition("start")
            self._journal.changed(record)
            self._launcher.start(instance, None, "")
        except (StartupExit, KernelError) as reason:
            return self._did_not_start(record, reason, again=again)
        except Exception as mistake:
            return self._did_not_start(record, _unexpected(mistake), again=again)
        self._open(record, instance)
        took = round((time.monotonic() - began) * 1000, 1)
        self._journal.announce(
            "MK0218", "success", record.name, generation=instance.generation, ms=took,
            version=instance.manifest.version, level=instance.level, pid=instance.runner.pid,
        )  # fmt: skip
        return None

    def _did_not_start(
        self, record: PluginRecord, reason: StartupExit | KernelError, *, again: bool
    ) -> KernelError | None:
        if isinstance(reason, PluginNotReady) and not self.is_closing:
            self._wait_for_readiness(record, reason, again=again)
            return None
        if isinstance(reason, StartupExit):
            self.handle_exit(record, reason.instance, reason.exit)
        elif isinstance(reason, PluginHeld):
            self._hold(record, reason)
        elif self._may_try_again(record, reason, again=again):
            self._try_again(record, reason)
        else:
            self._failed(record, reason)
        return as_error(reason)

    def _may_try_again(self, record: PluginRecord, error: KernelError, *, again: bool) -> bool:
        if self.is_closing or record.manifest.supervision.restart == "temporary":
            return False
        return again or bool(error.shortage)

    def check_requirements(self, manifest: Manifest) -> None:
        """Raise RequirementError if a required plugin does not exist, or is neither active nor in backoff, and
        PluginNotReady if one is not ready."""
        for requirement in manifest.requires:
            other = split(requirement)[0]
            state = self._registry.get(other).state if other in self._registry else "not here"
            if state == "waiting":
                raise PluginNotReady("MK0228", name=manifest.name, requirement=requirement)
            if state not in ("active", "backoff"):
                raise RequirementError("MK0125", name=manifest.name, requirement=requirement, state=state)

    def _take_over(self, record: PluginRecord, instance: Instance) -> None:
        record.transition("loaded")
        self._reactor.run(partial(self._registrar.commit, record, instance))

    def _open(self, record: PluginRecord, instance: Instance) -> None:
        record.transition("started")
        record.error = None
        self._schedule.reset_tries(record)
        self.connect(record, instance)
        self._start_waiting_dependents(record)

    def connect(self, record: PluginRecord, instance: Instance) -> None:
        """Deliver to an instance from now on, and watch it."""
        record.mailbox.connect(instance.runner.wake, instance.runner.pump, instance)
        self._heartbeat.begin(instance)
        self._journal.changed(record)

    def _failed(self, record: PluginRecord, error: KernelError) -> None:
        instance = record.instance or record.candidate
        record.instance = record.candidate = None
        record.error = error
        if record.is_being_killed:
            return
        record.transition("failed")
        if instance is not None and instance.exit is None and self._terminator.terminate(instance) is None:
            record.transition("unkillable")
        self._cleanup.discard_pending(record, f"{record.name} is {record.state}")
        self._journal.report("error", record.name, error)
        if record.state == "zombie":
            self._cleanup.report_stopped(record)
        self._journal.changed(record)

    def _hold(self, record: PluginRecord, held: PluginHeld) -> None:
        """Hold a plugin, none of whose code has run. Pending calls fail, because they would wait for a person."""
        record.error = held
        if record.is_being_killed:
            return
        record.transition("held")
        self._cleanup.discard_pending(record, f"{record.name} is held")
        self._journal.report("warn", record.name, held)
        self._journal.changed(record)

    def abort_start(self, record: PluginRecord, reason: KernelError | StartupExit) -> None:
        """Handle a reload after which neither the new source nor the old one runs, like a failed start."""
        self._did_not_start(record, reason, again=False)

    def _end_failed_start(self, record: PluginRecord, error: KernelError) -> bool:
        """End the instance that did not start. Return False if that is impossible: the plugin is then a zombie."""
        instance = record.instance or record.candidate
        if instance is None or instance.exit is not None or self._terminator.terminate(instance) is not None:
            return True
        record.instance = instance
        self._cleanup.mark_zombie(record, error.text)
        return False

    # Not ready

    def _wait_for_readiness(self, record: PluginRecord, reason: PluginNotReady, *, again: bool) -> None:
        """Set a plugin aside until it is started again. Its events wait, calls are refused. With the lock held."""
        if record.is_being_killed or not self._end_failed_start(record, reason):
            return
        record.instance = record.candidate = None
        before = record.error
        delay = self._schedule.count_try(record, reason.fields.get("retry_after"))
        if reason.id == "MK0227":  # its fields come from the worker
            text = str(reason.fields.get("reason", ""))[:_MAX_REASON] or "no reason given"
            reason = PluginNotReady("MK0227", reason=text, delay=round(delay, 2))
        record.transition("not_ready")
        record.error = reason
        self._cleanup.refuse_calls(record)
        self._schedule.plan(record, delay, partial(self._start_waiting, record, again=again))
        if before is None or (before.id, before.fields.get("reason")) != (reason.id, reason.fields.get("reason")):
            self._journal.report("notice", record.name, reason)  # once for a reason, and not for each try
        self._journal.changed(record)

    def _start_waiting(self, record: PluginRecord, *, again: bool) -> None:
        with record.lock:
            if record.state != "waiting" or self.is_closing:
                return
            self._schedule.cancel(record)
            self._schedule.end_backoff(record)
            self.bring_up(record, record.snapshot, again=again)

    def _start_waiting_dependents(self, record: PluginRecord) -> None:
        """Start the plugins that wait for this one, which is active now."""
        for other in self._registry:
            waits = other.state == "waiting" and other.error is not None and other.error.id == "MK0228"
            if waits and requires(other.manifest, record.name):
                self._reactor.beside(partial(self._start_waiting, other, again=False), f"{other.name}-start")

    # Restarts

    def _try_again(self, record: PluginRecord, error: KernelError) -> None:
        """Treat a failed start that may be tried again as a crash. With the lock held."""
        instance = record.instance or record.candidate
        if record.is_being_killed or not self._end_failed_start(record, error):
            return
        stack = str(error.fields.get("traceback", ""))
        self.handle_exit(record, instance, Exit(error.text, code=1, stack=stack), error)

    def handle_exit(
        self, record: PluginRecord, instance: Instance | None, exit: Exit, error: KernelError | None = None
    ) -> None:
        """Requeue the deliveries of an instance that has exited, and schedule a restart or set the plugin aside.

        With the lock held. ``error``: shown meanwhile, if not the crash itself.
        """
        if record.is_being_killed:
            return
        deliveries = self._cleanup.reclaim_in_flight(record, instance, exit.reason) if instance is not None else []
        record.instance = record.candidate = None
        record.transition("died")
        decision = self._schedule.decide(record, exit)
        record.last_death = KernelError("MK0203", reason=exit.reason, traceback=exit.stack)
        record.error = error or record.last_death
        again = self._cleanup.requeue(record, deliveries)
        if decision.delay is not None and not self.is_closing:
            self._schedule_restart(record, exit, decision, decision.delay)
            self._cleanup.report_redelivery(record, again)
        else:
            self._leave_down(record, exit, decision)
        self._journal.changed(record)

    def _schedule_restart(self, record: PluginRecord, exit: Exit, decision: RestartDecision, delay: float) -> None:
        numbers = {"reason": exit.reason, "delay": round(delay, 2)}
        if exit.uncharged:
            self._journal.announce("MK0217", "warn", record.name, **numbers)
        else:
            policy = record.manifest.supervision
            numbers |= {"count": decision.count, "intensity": policy.intensity, "period": policy.period}
            self._journal.announce(exit.message_id, "warn", record.name, **numbers)
        with_it = [] if exit.uncharged else group_members(self._groups, record.name)
        restart = partial(self._restart_group, record, with_it) if with_it else partial(self._restart, record)
        self._schedule.plan(record, delay, restart)

    def _leave_down(self, record: PluginRecord, exit: Exit, decision: RestartDecision) -> None:
        if decision.budget_exhausted:
            record.transition("budget_exhausted")
            period = record.manifest.supervision.period
            record.error = KernelError(
                "MK0205", count=decision.count, period=period, reason=exit.reason, traceback=exit.stack
            )
            self._journal.report("error", record.name, record.error)
            self._cleanup.discard_pending(record, f"{record.name} is quarantined")
            for name in group_members(self._groups, record.name):
                error = KernelError("MK0223", cause=record.name)
                self._reactor.beside(partial(self._stop_dependent, name, error), f"{name}-stop")
        else:
            record.transition("ended")
            self._journal.report("warn", record.name, KernelError("MK0203", reason=exit.reason))
            self._cleanup.discard_pending(record, f"{record.name} ended")

    def _restart(self, record: PluginRecord) -> None:
        with record.lock:
            if record.state != "backoff" or self.is_closing:
                return
            self._schedule.end_backoff(record)
            record.restarts += 1
            self.bring_up(record, record.snapshot, again=True)

    # Groups

    def _restart_group(self, record: PluginRecord, names: list[str]) -> None:
        """Stop the others, the last one first; then start all in order, except ``temporary`` ones.

        Each step holds the lock of one plugin only.
        """
        others = [self._registry.get(name) for name in names if name in self._registry]
        for other in reversed(others):
            if other.manifest.supervision.restart == "temporary":
                self._stop_dependent(other.name, KernelError("MK0224", cause=record.name))
            elif self._stop_group_member(other, record.name):
                self._journal.announce("MK0222", "notice", other.name, cause=record.name)
        members = {each.name: each for each in (record, *others)}
        for name in in_start_order(self._groups, members):
            self._restart(members[name])

    def _stop_group_member(self, record: PluginRecord, cause: str) -> bool:
        """Stop a member gracefully, and leave it in backoff, which keeps waiting deliveries. Return whether it ran."""
        with record.lock:
            if record.state != "active" or record.instance is None or self.is_closing:
                return False
            instance = record.instance
            stopped, ended = self._terminator.stop_gracefully(record, instance)
            if not ended:
                self._cleanup.mark_zombie(record, f"its group restarts because {cause} died")
                return False
            self._cleanup.transfer_pending(record, instance, stopped)
            record.instance = None
            record.transition("died")
            self._schedule.begin_backoff(record)
            self._journal.changed(record)
            return True

    def _stop_dependent(self, name: str, error: KernelError) -> None:
        """Stop a plugin because of its group; ``error`` says why. Does nothing if it does not run."""
        if name not in self._registry:
            return
        record = self._registry.get(name)
        with record.lock:
            if record.state not in ("active", "backoff") or self.is_closing:
                return
            self._schedule.cancel(record)
            record.error = error  # before the state: whoever sees that it is stopped also sees why
            died = self._terminator.take_down(record)
            self._cleanup.discard_pending(record, error.text, died)
            self._report_stopped_dependent(record, error)

    def _report_stopped_dependent(self, record: PluginRecord, error: KernelError) -> None:
        if record.state == "zombie":
            self._cleanup.report_stopped(record)
            return
        self._journal.report("warn", record.name, error)
        self._journal.changed(record)


def _at(instance: Instance, stack: str) -> str:
    if instance.snapshot is None:
        return ""
    place = locate(stack, instance.snapshot.root, instance.snapshot.sources)
    return f", {place}" if place else ""


def _unexpected(error: Exception) -> KernelError:
    """Return an error for an unexpected exception: the system has run out of something, or the kernel has a bug."""
    if shortage := shortage_in(error):
        failure: KernelError = PluginLoadError("MK0515", reason=shortage)
        failure.shortage = shortage
        return failure
    _log.error("MK0699 the kernel made a mistake of its own; it goes on", exc_info=error)
    return KernelError("MK0699", reason=f"{type(error).__name__}: {error}")
