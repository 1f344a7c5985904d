"""Changes of a plugin's life that somebody wants: bring up, stop, kill. Each holds the plugin's lock.

Nothing here runs on a thread of a plugin, nor on the reactor's: these wait.
"""

from __future__ import annotations

import logging
import time
from functools import partial

from microkernel.errors import (
    KernelClosed,
    KernelError,
    PluginHeld,
    PluginLoadError,
    PluginNotActive,
    RequirementError,
    shortage_in,
)
from microkernel.kernel.lifecycle.cleanup import InstanceCleanup
from microkernel.kernel.lifecycle.launcher import Launcher, StartupExit, as_error
from microkernel.kernel.lifecycle.termination import Terminator
from microkernel.kernel.manifest import Manifest
from microkernel.kernel.operations.start_order import requires, split
from microkernel.kernel.ports import Snapshot
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.registry.states import RUNNING
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.routing.registration import Registrar
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.supervision.heartbeat import Heartbeat
from microkernel.kernel.supervision.supervisor import Supervisor

_log = logging.getLogger("microkernel")


class PluginController:
    """What can be done to a plugin. All of it may be called from several threads at once."""

    def __init__(
        self,
        registry: Registry,
        births: Launcher,
        endings: Terminator,
        remains: InstanceCleanup,
        subscribing: Registrar,
        reactor: Reactor,
        journal: Journal,
        deaths: Supervisor,
        heartbeat: Heartbeat,
    ) -> None:
        self._registry = registry
        self._births = births
        self._endings = endings
        self._remains = remains
        self._subscribing = subscribing
        self._reactor = reactor
        self._journal = journal
        self._deaths = deaths
        self._heartbeat = heartbeat
        deaths.bring_up = self.bring_up

    # Up

    def start(self, record: PluginRecord) -> None:
        """Bring a plugin up that is not; one that runs is left alone.

        Raises PluginLoadError and its kin if it does not become active, also when it ended its own process; what the
        supervisor makes of that end is independent of it.
        """
        with record.lock:
            if record.state in RUNNING:
                return
            if record.state == "zombie":
                raise PluginNotActive("MK0213", name=record.name, state=record.state, what="it cannot be started")
            self._forget_restart(record)
            record.history = ()
            if record.state == "held":
                record.step("start")
            failure = self.bring_up(record, None)
        if failure is not None:
            raise failure

    def bring_up(self, record: PluginRecord, snapshot: Snapshot | None, *, again: bool = False) -> KernelError | None:
        """Load and start, from this snapshot or from the source as it is now. Return why it is not active, if it
        is not.

        ``again``: this is a restart, and a failure is tried again within the budget, as is one at any start for which
        the system had run out of something.
        """
        began = time.monotonic()
        try:
            if self._deaths.closing:
                raise KernelClosed("MK0612", reason="it is stopping")
            self.check_requirements(record.manifest)
            instance = self._births.load(record, record.manifest, record.level, snapshot)
            self._take_over(record, instance)
            record.step("start")
            self._journal.changed(record)
            self._births.start(instance, None, "")
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

    def _did_not_start(self, record: PluginRecord, reason: StartupExit | KernelError, *, again: bool) -> KernelError:
        if isinstance(reason, StartupExit):
            self._deaths.follow(record, reason.instance, reason.exit)
        elif isinstance(reason, PluginHeld):
            self._hold(record, reason)
        elif self._may_try_again(record, reason, again=again):
            self._deaths.try_again(record, reason)
        else:
            self._failed(record, reason)
        return as_error(reason)

    def _may_try_again(self, record: PluginRecord, error: KernelError, *, again: bool) -> bool:
        if self._deaths.closing or record.manifest.supervision.restart == "temporary":
            return False
        return again or bool(error.shortage)

    def check_requirements(self, manifest: Manifest) -> None:
        """Raises RequirementError for a required plugin that is not there, or not active."""
        for requirement in manifest.requires:
            other = split(requirement)[0]
            state = self._registry.get(other).state if other in self._registry else "not here"
            if state not in ("active", "backoff"):
                raise RequirementError("MK0125", name=manifest.name, requirement=requirement, state=state)

    def _take_over(self, record: PluginRecord, instance: Instance) -> None:
        record.step("loaded")
        self._reactor.run(partial(self._subscribing.commit, instance))

    def _open(self, record: PluginRecord, instance: Instance) -> None:
        record.step("started")
        record.error = None
        self.connect(record, instance)

    def connect(self, record: PluginRecord, instance: Instance) -> None:
        """It gets what waits, from now on, and is watched."""
        record.mailbox.connect(instance.runner.wake, instance.runner.pump)
        self._heartbeat.begin(instance)
        self._journal.changed(record)

    def _failed(self, record: PluginRecord, error: KernelError) -> None:
        instance = record.instance or record.newborn
        record.instance = record.newborn = None
        record.error = error
        if record.killing:
            return
        record.step("failed")
        if instance is not None and instance.exit is None and self._endings.end(instance) is None:
            record.state = "zombie"
        self._remains.empty(record, f"{record.name} is {record.state}")
        self._journal.report("error", record.name, error)
        if record.state == "zombie":
            self._deaths.tell_end(record)
        self._journal.changed(record)

    def _hold(self, record: PluginRecord, held: PluginHeld) -> None:
        """None of its code has run. What waits for it would wait for a person: it is told."""
        record.error = held
        if record.killing:
            return
        record.step("held")
        self._remains.empty(record, f"{record.name} is held")
        self._journal.report("warn", record.name, held)
        self._journal.changed(record)

    def give_up(self, record: PluginRecord, reason: KernelError | StartupExit) -> None:
        """Neither the new source nor the old one runs any more. A death is one like any other."""
        self._did_not_start(record, reason, again=False)

    # Down

    def stop(self, record: PluginRecord, *, cascade: bool = False, now: bool = False) -> None:
        """Drain, ask, insist, kill, each with its deadline. ``now``: do not drain, also where another stop is draining.

        Raises RequirementError if others require it.
        """
        self._stop_dependents(record, cascade, now)
        if now:
            _hurry(record.instance)
        with record.lock:
            self._forget_restart(record)
            instance = record.instance
            if record.state in ("stopped", "held", "zombie"):
                return
            if now:
                _hurry(instance)
            died = self._endings.take_down(record)
            self._remains.empty(record, f"{record.name} was stopped", died)
        self._deaths.tell_end(record)

    def kill(self, record: PluginRecord) -> int:
        """End it now; no restart. Returns how many callers were told. A thread that cannot be ended is a zombie.

        Does nothing, and says nothing, where nothing of it runs or would start.
        """
        began = time.monotonic()
        if record.state in ("stopped", "held") and record.instance is None and record.newborn is None:
            return 0
        record.killing = True
        try:
            told = self._remains.cut(record, "killed by hand")
            _kill_all(record)  # now: whoever holds the lock may be waiting for one of these
            with record.lock:
                self._forget_restart(record)
                ended = all(self._endings.end(instance, gently=False) is not None for instance in _kill_all(record))
                self._settle_killed(record, ended)
        finally:
            record.killing = False
        took = round((time.monotonic() - began) * 1000, 1)
        if record.state == "zombie":
            self._deaths.tell_end(record)
        else:
            self._journal.announce("MK0210", "success", record.name, ms=took, callers=told)
            self._journal.changed(record)
        return told

    def _settle_killed(self, record: PluginRecord, ended: bool) -> None:
        record.instance = record.newborn = None
        if record.state in ("loaded", "starting", "active"):
            record.step("stop")
        if record.state == "stopping":
            record.step("ended" if ended else "stuck")
        elif record.state not in ("stopped", "zombie", "held"):
            record.step("stop")
        self._remains.empty(record, f"{record.name} was killed")

    def _stop_dependents(self, record: PluginRecord, cascade: bool, now: bool) -> None:
        dependents = [
            other for other in self._registry if other.state in RUNNING and requires(other.manifest, record.name)
        ]
        if dependents and not cascade:
            names = ", ".join(sorted(other.name for other in dependents))
            raise RequirementError("MK0211", name=record.name, others=names)
        for other in dependents:
            self.stop(other, cascade=True, now=now)

    def forget_visitor(self, record: PluginRecord) -> None:
        """A visitor has gone: no death, no restart."""
        record.state = "stopped"
        self._remains.empty(record, f"{record.name} has gone")

    def _forget_restart(self, record: PluginRecord) -> None:
        if record.forget_restart is not None:
            record.forget_restart()
            record.forget_restart = None


def _unexpected(error: Exception) -> KernelError:
    """What no part of the kernel foresaw: the system has run out of something, or it is a mistake of ours."""
    if shortage := shortage_in(error):
        failure: KernelError = PluginLoadError("MK0515", reason=shortage)
        failure.shortage = shortage
        return failure
    _log.error("MK0699 the kernel made a mistake of its own; it goes on", exc_info=error)
    return KernelError("MK0699", reason=f"{type(error).__name__}: {error}")


def _hurry(instance: Instance | None) -> None:
    if instance is not None:
        instance.hurried = True


def _kill_all(record: PluginRecord) -> list[Instance]:
    instances = [instance for instance in (record.instance, record.newborn) if instance is not None]
    for instance in instances:
        instance.dismissed = True
        instance.runner.kill()
    return instances
