"""Reload as a transaction: the new generation is created next to the old one, and takes over or is dropped.

1. Read the new source. 2. Load it next to the old one. 3. Pause the mailbox; the old instance exports its state and
stops. 4. Start the new instance with that state. 5. Release the mailbox to it. If any step fails, the old source
continues.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import field
from functools import partial

from microkernel.errors import KernelError, PluginNotActive, ReloadFailed
from microkernel.kernel.lifecycle.cleanup import InstanceCleanup
from microkernel.kernel.lifecycle.launcher import Launcher, StartupExit, as_error
from microkernel.kernel.lifecycle.termination import NotExported, Terminator
from microkernel.kernel.manifest import NO_VERSION, Level, Manifest
from microkernel.kernel.operations.catalog import PluginCatalog
from microkernel.kernel.operations.controller import PluginController
from microkernel.kernel.ports import Exit, PluginCandidate
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.routing.registration import Registrar
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.supervision.supervisor import Supervisor
from microkernel.wire import codec
from microkernel.wire.light_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """Outcome of a reload.

    ``generation`` and ``version`` are those that run now. ``paused_ms``: how long the mailbox was paused. ``leaked``:
    remains of the old generation, a line for each. ``error``: why the new source was not taken.
    """

    plugin: str
    generation: int
    version: str
    paused_ms: float
    leaked: list[str] = field(default_factory=list)
    error: KernelError | None = None


@dataclass(frozen=True, slots=True)
class _Takeover:
    """A completed takeover, with everything needed to roll it back."""

    old: Instance
    old_found: PluginCandidate
    state: codec.Raw | None
    new: Instance
    report: ReloadReport


class Reloader:
    """Reloads plugins. ``reload`` may be called on any thread that may wait.

    It is the owner of a new instance until the end of its probation.
    """

    def __init__(
        self,
        catalog: PluginCatalog,
        launcher: Launcher,
        supervisor: Supervisor,
        controller: PluginController,
        terminator: Terminator,
        cleanup: InstanceCleanup,
        registrar: Registrar,
        reactor: Reactor,
        journal: Journal,
    ) -> None:
        self._catalog = catalog
        self._launcher = launcher
        self._supervisor = supervisor
        self._controller = controller
        self._terminator = terminator
        self._cleanup = cleanup
        self._registrar = registrar
        self._reactor = reactor
        self._journal = journal

    # InstanceOwner of an instance on probation. The reload waits for its exit and handles it.

    def on_exit(self, instance: Instance, exit: Exit) -> None:
        """Does nothing, because the reload waits for the exit itself."""

    def on_activity(self, instance: Instance) -> None:
        self._supervisor.on_activity(instance)

    def on_unresponsive(self, instance: Instance, seconds: float, what: str) -> None:
        self._supervisor.on_unresponsive(instance, seconds, what)

    def on_pong(self, instance: Instance) -> None:
        self._supervisor.on_pong(instance)

    def on_self_exit(self, instance: Instance) -> None:
        self._supervisor.on_self_exit(instance)

    def reload(self, record: PluginRecord, expect: str = "") -> ReloadReport:
        """Reload a plugin from its source as it is now.

        Raises ReloadFailed, with ``report``, if the old source continues, and PluginNotActive if the plugin is not in
        the state ``expect``.
        """
        with record.lock:
            if expect not in ("", record.state):
                raise PluginNotActive("MK0213", name=record.name, state=record.state, what=f"it was to be {expect}")
            old = record.instance
            if record.state != "active" or old is None:
                self._controller.start_from_source(record)
                return ReloadReport(record.name, record.generation, record.manifest.version, 0.0)
            candidate = self._catalog.find(record.found.path)
            try:
                found, manifest, level = self._catalog.resolve(candidate)
                self._supervisor.check_requirements(manifest)
                new = self._load(record, found, manifest, level)
            except (KernelError, StartupExit) as error:
                raise self._reload_failed(record, candidate.manifest.version, as_error(error), 0.0) from None
            takeover = self._swap(record, old, new, found)
        return self._await_probation(record, takeover) if new.owner is self else takeover.report

    def _load(self, record: PluginRecord, found: PluginCandidate, manifest: Manifest, level: Level) -> Instance:
        before, old_found = record.snapshot, record.found
        record.found = found
        try:
            return self._launcher.launch(record, self, manifest, level, None)
        except BaseException:
            candidate, record.candidate = record.candidate, None
            if candidate is not None and candidate.exit is None:
                candidate.exit_expected = True
                self._terminator.terminate(candidate, grace=False)
            record.snapshot, record.found = before, old_found
            raise

    def _swap(self, record: PluginRecord, old: Instance, new: Instance, found: PluginCandidate) -> _Takeover:
        paused = time.monotonic()
        new_snapshot = new.snapshot
        try:
            state = self._terminator.export(record, old)
        except NotExported as failure:
            raise self._keep_old(record, old, new, failure, paused) from None
        stopped, ended = self._terminator.see_out(record, old)
        self._cleanup.transfer_pending(record, old, stopped)
        try:
            self._launcher.start(new, state, old.manifest.version)
        except (KernelError, StartupExit) as error:
            self._drop(new)
            self._roll_back(record, old, record.found, state)
            took = (time.monotonic() - paused) * 1000
            raise self._reload_failed(record, new.manifest.version, as_error(error), took) from None
        old_found = record.found
        record.found, record.snapshot, record.manifest, record.level = found, new_snapshot, new.manifest, new.level
        self._release(record, new)
        if not new.manifest.limits.probation:
            new.transfer(self._supervisor)
        took = round((time.monotonic() - paused) * 1000, 2)
        leaked = [] if ended else _unended(old)
        version = new.manifest.version
        self._journal.announce(
            "MK0301", "success", record.name, generation=new.generation, version=version, ms=round(took, 1)
        )
        report = ReloadReport(record.name, new.generation, version, took, leaked)
        return _Takeover(old, old_found, state, new, report)

    def _drop(self, new: Instance) -> None:
        new.exit_expected = True
        if new.exit is None:
            self._terminator.terminate(new, grace=False)

    def _keep_old(
        self, record: PluginRecord, old: Instance, new: Instance, failure: NotExported, paused: float
    ) -> ReloadFailed:
        """Let the old instance continue.

        If it did not confirm that it can, its source is started again; only its internal state is lost.
        """
        self._drop(new)
        record.snapshot = old.snapshot
        if failure.continues:
            old.passed.clear()
            record.mailbox.connect(old.runner.wake, old.runner.pump, old)
            if old.exit is not None:  # it exited in between, which its owner took for a requested exit
                self._supervisor.abort_start(record, StartupExit(old, old.exit))
        else:
            self._cleanup.transfer_pending(record, old, None)
            self._roll_back(record, old, record.found, None)
        took = (time.monotonic() - paused) * 1000
        left = _unended(old) if old.exit is None and not failure.continues else []
        return self._reload_failed(record, new.manifest.version, failure.error, took, left, is_kept=failure.continues)

    def _await_probation(self, record: PluginRecord, takeover: _Takeover) -> ReloadReport:
        """Wait for the end of the probation, without the lock. Roll back to the old source if the instance exits."""
        new = takeover.new
        try:
            new.exited.wait(min(new.manifest.limits.probation, threading.TIMEOUT_MAX))
        except BaseException:  # an interrupt, so the supervisor owns it from now on
            new.transfer(self._supervisor)
            raise
        with record.lock:
            new.transfer(self._supervisor)
            if new.exit is None or new.exit_expected or record.instance is not new:
                return takeover.report
            again = self._cleanup.requeue(record, self._cleanup.reclaim_in_flight(record, new, new.exit.reason))
            self._cleanup.report_redelivery(record, again)
            self._roll_back(record, takeover.old, takeover.old_found, takeover.state)
            death = as_error(StartupExit(new, new.exit))
            raise self._reload_failed(record, new.manifest.version, death, takeover.report.paused_ms) from None

    def _roll_back(self, record: PluginRecord, old: Instance, found: PluginCandidate, state: codec.Raw | None) -> None:
        """Start the old source again, with the state it exported."""
        manifest, level, snapshot = old.manifest, old.level, old.snapshot
        record.found, record.manifest, record.level = found, manifest, level
        record.snapshot = snapshot  # set first, so that it is restarted from this one even if it crashes now
        try:
            again = self._launcher.launch(record, self._supervisor, manifest, level, snapshot)
            self._launcher.start(again, state, manifest.version)
        except (KernelError, StartupExit) as error:
            self._supervisor.abort_start(record, error)
        else:
            self._release(record, again)

    def _release(self, record: PluginRecord, instance: Instance) -> None:
        self._reactor.run(partial(self._registrar.commit, record, instance))
        self._supervisor.connect(record, instance)

    def _reload_failed(
        self,
        record: PluginRecord,
        version: str,
        error: KernelError,
        paused_ms: float,
        left: Sequence[str] = (),
        *,
        is_kept: bool = True,
    ) -> ReloadFailed:
        old, waiting = record.manifest.version, len(record.mailbox)
        report = ReloadReport(record.name, record.generation, old, round(paused_ms, 2), [*left], error)
        failed = ReloadFailed(
            ("MK0305" if is_kept else "MK0314") if record.state == "active" else "MK0310",
            **_sources(version, old), version=version, reason=str(error), old=old, waiting=waiting, state=record.state,
        )  # fmt: skip
        self._journal.report("error", record.name, failed)
        failed.fields["report"] = report
        return failed


def _unended(instance: Instance) -> list[str]:
    return [f"generation {instance.generation}: its thread could not be ended"]


def _sources(version: str, old: str) -> dict[str, str]:
    """Return the names of the new and the kept source in a message: their versions, if these differ."""
    return {
        "new": "the reload" if version in (old, NO_VERSION) else version,
        "kept": "The old source" if version == old or old == NO_VERSION else old,
    }
