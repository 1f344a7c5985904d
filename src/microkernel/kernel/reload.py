"""Reload is a transaction: the new generation comes to be beside the old one, takes over, or is dropped.

1. read the new source; 2. load it beside the old; 3. pause the mailbox, have the old one hand over its state and stop;
4. start the new one with the state; 5. release the mailbox to it. Whatever fails, the old source goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from microkernel.errors import KernelError, PluginLoadError, ReloadFailed
from microkernel.kernel.births import Births, DiedEarly
from microkernel.kernel.endings import Endings
from microkernel.kernel.instance import Instance
from microkernel.kernel.journal import Journal
from microkernel.kernel.manifest import Level, Manifest
from microkernel.kernel.operations import Operations
from microkernel.kernel.ports import Found, Loader
from microkernel.kernel.reactor import Reactor
from microkernel.kernel.registry import Record
from microkernel.kernel.subscribing import Subscribing
from microkernel.wire import codec


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """Which ``generation`` runs now, of which ``version``; how long the mailbox was paused; what of the old one is
    still held; ``error`` why the new source was not taken."""

    plugin: str
    generation: int
    version: str
    paused_ms: float
    leaked: list[str] = field(default_factory=list)
    error: KernelError | None = None


Effective = Callable[[Found], tuple[Found, Manifest, Level]]
"""What holds for a plugin found anew. Raises what makes it no plugin."""


class Reloading:
    """``reload`` may be called on any thread that may wait."""

    def __init__(
        self,
        loader: Loader,
        births: Births,
        operations: Operations,
        endings: Endings,
        subscribing: Subscribing,
        reactor: Reactor,
        journal: Journal,
        effective: Effective,
    ) -> None:
        self._loader = loader
        self._births = births
        self._operations = operations
        self._endings = endings
        self._subscribing = subscribing
        self._reactor = reactor
        self._journal = journal
        self._effective = effective

    def reload(self, record: Record) -> ReloadReport:
        """Take the source as it is now. Raises ReloadFailed, with ``report``, when the old source goes on."""
        with record.lock:
            old = record.instance
            if record.state != "active" or old is None:
                return self._afresh(record)
            candidate = self._loader.find(record.found.path)
            try:
                found, manifest, level = self._effective(candidate)
                self._operations.check_requirements(manifest)
                new = self._load(record, found, manifest, level)
            except (KernelError, DiedEarly) as error:
                raise self._not_taken(record, candidate.manifest.version, _as_error(error), 0.0) from None
            return self._swap(record, old, new, found)

    def _afresh(self, record: Record) -> ReloadReport:
        """There is no instance to go on: simply start from the new source."""
        if record.state not in ("zombie", "held"):
            record.found, record.manifest, record.level = self._effective(self._loader.find(record.found.path))
        self._operations.start(record)
        return ReloadReport(record.name, record.generation, record.manifest.version, 0.0)

    def _load(self, record: Record, found: Found, manifest: Manifest, level: Level) -> Instance:
        before, old_found = record.snapshot, record.found
        record.found = found
        try:
            return self._births.load(record, manifest, level, None)
        except BaseException:
            newborn, record.newborn = record.newborn, None
            if newborn is not None and newborn.exit is None:
                newborn.dismissed = True
                self._endings.end(newborn, gently=False)
            record.snapshot, record.found = before, old_found
            raise

    def _swap(self, record: Record, old: Instance, new: Instance, found: Found) -> ReloadReport:
        paused = time.monotonic()
        new_snapshot = new.snapshot
        stopped, ended = self._endings.retire(old, export=True)
        state = stopped.state if stopped else None
        self._operations.hand_over(record, old, stopped.unbegun if stopped else [])
        try:
            self._births.start(new, state, old.manifest.version)
        except (KernelError, DiedEarly) as error:
            new.dismissed = True
            if new.exit is None:
                self._endings.end(new, gently=False)
            self._go_back(record, old, state)
            took = (time.monotonic() - paused) * 1000
            raise self._not_taken(record, new.manifest.version, _as_error(error), took) from None
        record.found, record.snapshot, record.manifest, record.level = found, new_snapshot, new.manifest, new.level
        self._release(record, new)
        took = round((time.monotonic() - paused) * 1000, 2)
        leaked = [] if ended else [f"generation {old.generation}: its thread could not be ended"]
        version = new.manifest.version
        self._journal.announce(
            "MK0301", "success", record.name, generation=new.generation, version=version, ms=round(took, 1)
        )
        return ReloadReport(record.name, new.generation, version, took, leaked)

    def _go_back(self, record: Record, old: Instance, state: codec.Raw | None) -> None:
        """The old source again, with the state it left."""
        manifest, level, snapshot = old.manifest, old.level, old.snapshot
        record.snapshot = snapshot  # also if it dies over that: it comes back from this one
        try:
            again = self._births.load(record, manifest, level, snapshot)
            self._births.start(again, state, manifest.version)
        except (KernelError, DiedEarly) as error:
            self._operations.give_up(record, error)
        else:
            self._release(record, again)

    def _release(self, record: Record, instance: Instance) -> None:
        self._reactor.run(partial(self._subscribing.commit, instance))
        record.mailbox.connect(instance.place.wake, instance.place.pump)
        self._journal.changed(record)

    def _not_taken(self, record: Record, version: str, error: KernelError, paused_ms: float) -> ReloadFailed:
        old, waiting = record.manifest.version, len(record.mailbox)
        report = ReloadReport(record.name, record.generation, old, round(paused_ms, 2), error=error)
        failed = ReloadFailed("MK0305", version=version, reason=str(error), old=old, waiting=waiting)
        self._journal.report("error", record.name, failed)
        failed.fields["report"] = report
        return failed


def _as_error(error: KernelError | DiedEarly) -> KernelError:
    if isinstance(error, KernelError):
        return error
    return PluginLoadError("MK0203", reason=error.exit.reason)


