"""Changes of a plugin's life that are asked for: start, stop, kill. Each holds the plugin's lock.

Nothing here runs on a thread of a plugin, nor on the reactor's: these wait.
"""

from __future__ import annotations

import time

from microkernel.errors import KernelError, PluginNotActive, RequirementError
from microkernel.kernel.lifecycle.cleanup import InstanceCleanup
from microkernel.kernel.lifecycle.termination import Terminator
from microkernel.kernel.operations.catalog import PluginCatalog
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.registry.states import RUNNING
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.requirements import requires
from microkernel.kernel.supervision.restart_schedule import RestartSchedule
from microkernel.kernel.supervision.supervisor import Supervisor


class PluginController:
    """Starts, stops and kills plugins on request. Its methods may be called from several threads at once."""

    def __init__(
        self,
        registry: Registry,
        catalog: PluginCatalog,
        supervisor: Supervisor,
        schedule: RestartSchedule,
        terminator: Terminator,
        cleanup: InstanceCleanup,
        journal: Journal,
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._supervisor = supervisor
        self._schedule = schedule
        self._terminator = terminator
        self._cleanup = cleanup
        self._journal = journal

    # Up

    def start(self, record: PluginRecord) -> None:
        """Start a plugin. Does nothing if it runs.

        Raises PluginLoadError or a related error if it does not become active, also if it ended its own process; the
        supervisor handles that exit independently.
        """
        with record.lock:
            if record.state in RUNNING:
                return
            if record.state == "zombie":
                raise PluginNotActive("MK0213", name=record.name, state=record.state, what="it cannot be started")
            self._schedule.cancel(record)
            record.history = ()
            if record.state == "held":
                record.transition("start")
            failure = self._supervisor.bring_up(record, None)
        if failure is not None:
            raise failure

    def start_from_source(self, record: PluginRecord) -> None:
        """Start a plugin from its source as it is now. Errors in the source are reported, as later errors are."""
        with record.lock:
            if record.state in ("failed", "stopped", "quarantined", "discovered", "waiting", "backoff", "held"):
                try:
                    self._catalog.resolve_again(record)
                except KernelError as error:
                    record.error = error
                    self._journal.report("error", record.name, error)
                    self._journal.changed(record)
                    raise
        self.start(record)

    # Down

    def stop(self, record: PluginRecord, *, cascade: bool = False, now: bool = False) -> None:
        """Stop a plugin: drain, ask, request the exit, kill, each with its deadline.

        ``now``: do not drain, even if another stop is draining.

        Raises RequirementError if others require it.
        """
        self._stop_dependents(record, cascade, now)
        if now:
            _hurry(record.instance)
        with record.lock:
            self._schedule.cancel(record)
            instance = record.instance
            if record.state in ("stopped", "held", "zombie"):
                return
            if now:
                _hurry(instance)
            died = self._terminator.take_down(record)
            self._cleanup.discard_pending(record, f"{record.name} was stopped", died)
        self._cleanup.report_stopped(record)

    def kill(self, record: PluginRecord) -> int:
        """End a plugin immediately, without a restart. Return how many callers got an error.

        A thread that cannot be ended becomes a zombie. Does nothing, without a report, if no instance runs or would
        start.
        """
        began = time.monotonic()
        if record.state in ("stopped", "held") and record.instance is None and record.candidate is None:
            return 0
        record.is_being_killed = True
        try:
            callers = self._cleanup.disconnect(record, "killed by hand")
            _kill_all(record)  # without the lock, because its holder may be waiting for one of these
            with record.lock:
                self._schedule.cancel(record)
                ended = all(
                    self._terminator.terminate(instance, grace=False) is not None for instance in _kill_all(record)
                )
                self._settle_killed(record, ended)
        finally:
            record.is_being_killed = False
        took = round((time.monotonic() - began) * 1000, 1)
        if record.state == "zombie":
            self._cleanup.report_stopped(record)
        else:
            self._journal.announce("MK0210", "success", record.name, ms=took, callers=callers)
            self._journal.changed(record)
        return callers

    def _settle_killed(self, record: PluginRecord, ended: bool) -> None:
        record.instance = record.candidate = None
        if record.is_remote_client:
            return  # its state changes when it leaves, on the reactor's thread
        if record.state in ("loaded", "starting", "active"):
            record.transition("stop")
        if record.state == "stopping":
            record.transition("ended" if ended else "unkillable")
        elif record.state not in ("stopped", "zombie", "held"):
            record.transition("stop")
        self._cleanup.discard_pending(record, f"{record.name} was killed")

    def _stop_dependents(self, record: PluginRecord, cascade: bool, now: bool) -> None:
        dependents = [
            other for other in self._registry if other.state in RUNNING and requires(other.manifest, record.name)
        ]
        if dependents and not cascade:
            names = ", ".join(sorted(other.name for other in dependents))
            raise RequirementError("MK0211", name=record.name, others=names)
        for other in dependents:
            self.stop(other, cascade=True, now=now)


def _hurry(instance: Instance | None) -> None:
    if instance is not None:
        instance.hurried = True


def _kill_all(record: PluginRecord) -> list[Instance]:
    instances = [instance for instance in (record.instance, record.candidate) if instance is not None]
    for instance in instances:
        instance.exit_expected = True
        instance.runner.kill()
    return instances
