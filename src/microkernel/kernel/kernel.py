"""The kernel: its parts, wired, and what can be asked of it. It holds no plugin object, and meets hosts and loaders
only through their ports."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from microkernel.errors import KernelClosed, KernelError, PluginLoadError, PluginNotActive
from microkernel.kernel.admission import name_clashes, writable_overlaps
from microkernel.kernel.admission.approval_policy import ApprovalPolicy
from microkernel.kernel.admission.effective_config import choose_level, effective, held_to, misnamed
from microkernel.kernel.admission.gate import KERNEL_TOPICS
from microkernel.kernel.admission.permissions import CONFINED, Grant
from microkernel.kernel.admission.weakening import check_configuration, check_manifest
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.lifecycle.cleanup import InstanceCleanup
from microkernel.kernel.lifecycle.launcher import Launcher
from microkernel.kernel.lifecycle.termination import Terminator
from microkernel.kernel.manifest import Level, Limits, Manifest, Permissions
from microkernel.kernel.messaging.buffers import BufferPool
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.topic_index import TopicIndex
from microkernel.kernel.operations.controller import PluginController
from microkernel.kernel.operations.leak_audit import LeakAuditor
from microkernel.kernel.operations.reload import Reloader, ReloadReport
from microkernel.kernel.operations.reload_all import ReloadSummary, reload_all
from microkernel.kernel.operations.start_order import layers, plan
from microkernel.kernel.ports import Clock, Exit, Host, Loader, Lock, PluginCandidate, Runner
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import LogRecord, PluginRecord, Registry, cure_of, did_you_mean
from microkernel.kernel.registry.states import RUNNING, SETTLED
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.reporting.message_texts import MessageTextService, level_of
from microkernel.kernel.reporting.plugin_info import (
    BRIEF,
    FULL,
    PluginInfo,
    ShownValues,
    Sources,
    describe,
    read_of,
    sources_of,
)
from microkernel.kernel.routing.call_router import CallRouter
from microkernel.kernel.routing.data_store import DataStore
from microkernel.kernel.routing.ingress import Ingress
from microkernel.kernel.routing.registration import Registrar
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.runtime.threads import for_each
from microkernel.kernel.service.approval_service import ApprovalService
from microkernel.kernel.service.dead_letter_service import DeadLetterService
from microkernel.kernel.service.service import KernelService
from microkernel.kernel.supervision.groups import predecessors
from microkernel.kernel.supervision.heartbeat import Heartbeat
from microkernel.kernel.supervision.supervisor import Supervisor
from microkernel.kernel.supervision.watchdog import Watchdog
from microkernel.wire.topics import MAX_TOPIC

Infos = list[PluginInfo]
Leftovers = list[str]
Lines = list[LogRecord]

_AT_ONCE = 16
"""How many plugins are started or stopped at the same time."""
_UNLIMITED = Limits(kernel_memory=0)
# Bytes of log lines in one answer; it has room for 16 MiB.
_LONGEST_LOG = 12 * 1024 * 1024

_RESTARTS_AWAITED = 30.0
"""Seconds that opening waits for the restarts of plugins which died at their first start."""

Hosts = Callable[[Level], Host]


class Core(ApprovalService, DeadLetterService, MessageTextService):
    """Everything but the embedder's conveniences. ``run`` brings all plugins up, ``close`` takes all down."""

    def __init__(
        self,
        name: str,
        loader: Loader,
        hosts: Callable[[Core], Hosts],
        clock: Clock,
        config: KernelConfig,
        data_dir: Path | None,
        override: Level | None,
        grants: Mapping[str, Grant],
        lock: Lock | None = None,
        project: str = "",
    ) -> None:
        """``project`` owns the folder around the data folders; empty if nobody has to."""
        self.name = name
        self.config = config
        self.clock = clock
        self.reactor = Reactor(name, clock)
        self.registry = Registry()
        self.loader = loader
        self._override = override
        self._granted = tuple(grants)
        self.reread: Callable[[], KernelConfig] | None = None
        """Reads the configuration again, where it is a file's. Raises ConfigError."""
        self.places: list[str] = []
        self.own_files: list[str] = []
        """The lock and the configuration, where they are files."""
        self._looking = threading.Lock()
        self._left_out: set[str] = set()
        """Where plugins lie whose names others have: each is told once."""
        self.approvals = ApprovalPolicy(config, grants, lock, self._complain, has_level=override is not None)
        self._wire(hosts, data_dir, project)
        self.reactor.start()

    def _wire(self, hosts: Callable[[Core], Hosts], data_dir: Path | None, project: str) -> None:
        watchdog = Watchdog(self.reactor, self.clock, self._overdue)
        heartbeat = Heartbeat(self.reactor, self.clock, self._overdue)
        self.journal = Journal(self.registry, self.reactor, self.clock, self._ended)
        self.journal.began, self.journal.leaves, self.journal.alive = watchdog.arm, self._leaves, heartbeat.heard
        self.topics, watchers = TopicIndex(KERNEL_TOPICS), TopicIndex()
        self.bus = EventBus(self.topics, self.reactor, self.clock, self.journal.bury)
        self.journal.bus = self.bus
        self.router = CallRouter(self.registry, self.bus, self.reactor, self.clock)
        self.journal.answer_ask = self.router.fail
        self.subscribing = Registrar(self.topics, watchers)
        self.context = DataStore(watchers, self.subscribing.notify, self._limits_of, self.reactor.post)
        self.subscribing.context, self.subscribing.bus = self.context, self.bus
        self.service = KernelService()
        self.service.controls = self
        self.buffers = BufferPool(self.reactor.later)
        births = Launcher(self.registry, self.loader, hosts(self), self.config, data_dir, self.approvals, project)
        births.switch = self.switch = Ingress(
            self.bus, self.router, self.context, self.subscribing, self.service, self.buffers, self.reactor,
            self.journal,
        )  # fmt: skip
        self.births = births
        births.report, births.exposed_by = self._complain, self._exposed_by
        self._audits = LeakAuditor(self.journal)
        endings = Terminator(self.journal)
        remains = InstanceCleanup(self.router, self.subscribing, self.reactor, self.journal)
        groups = list(self.config.group.values())
        self._after = predecessors(groups)
        self.deaths = Supervisor(self.registry, endings, remains, self.reactor, self.journal, groups)
        self.operations = PluginController(
            self.registry, births, endings, remains, self.subscribing, self.reactor, self.journal, self.deaths,
            heartbeat,
        )  # fmt: skip
        self._reloading = Reloader(
            self.loader, births, self.operations, endings, remains, self.subscribing, self.reactor, self.journal,
            self._effective, self._start_anew,
        )  # fmt: skip

    # All plugins

    def run(self) -> None:
        """Discover and bring up; returns when every plugin is active or not going to be."""
        _ = KernelClosed("MK0612", reason="").text  # read now: an error must be told also when no file can be opened
        with self._looking:
            here = self.loader.discover(self.places)
            found = self._settled(here)
            names = dict.fromkeys(each.name for each in found)
            self.journal.publish("kernel.found", kernel=self.name, names=[*names])
            self._tell_misnamed({*self.registry.names(), *(each.name for each in here)})
            self._bring_in(found)

    def discover(self) -> Leftovers:
        """Look for plugins that have come since, and bring them up; their names. Returns when they are settled."""
        with self._looking:
            known = {record.found.path for record in self.registry} | self._left_out
            here = self._found()
            found = [each for each in here if each.path not in known]
            self._bring_in(found)
            self._start_undisputed(here)
            return [each.name for each in found]

    def _found(self) -> list[PluginCandidate]:
        return self._settled(self.loader.discover(self.places))

    def _settled(self, found: list[PluginCandidate]) -> list[PluginCandidate]:
        """Those that the operator does not leave out, each name given to one plugin at most."""
        fit = (each for each in found if not name_clashes.is_fit(each) or self._is_enabled(each.manifest))
        return name_clashes.settle(fit, self._owns_name, self._is_confined)

    def _is_enabled(self, manifest: Manifest) -> bool:
        return effective(manifest, self.config).enabled

    def _is_confined(self, found: PluginCandidate) -> bool:
        return choose_level(effective(found.manifest, self.config), self.config, self._override)[0] in CONFINED

    def _owns_name(self, found: PluginCandidate) -> bool:
        """A plugin that the kernel has keeps its name; of the others, the approved one gets it."""
        if found.name in self.registry:
            record = self.registry.get(found.name)
            if not name_clashes.is_disputed(record.error):
                return record.found.path == found.path
        return self.approvals.has_approved(found)

    def _start_undisputed(self, found: list[PluginCandidate]) -> None:
        """Start plugins whose names were disputed when they were found first, and no longer are."""
        for each in found:
            if each.error is None and each.name in self.registry:
                record = self.registry.get(each.name)
                if name_clashes.is_disputed(record.error):
                    with suppress(KernelError):  # reported by the start
                        self._start_anew(record)

    def _tell_misnamed(self, known: set[str]) -> None:
        """Who looks nowhere, and loads one by one, may name who is still to come."""
        for table, name in misnamed(self.config, self._granted, known) if self.places else ():
            self.journal.announce("MK0712", "warn", name, key=table, suggestion=did_you_mean(name, known))

    def _bring_in(self, found: list[PluginCandidate]) -> None:
        for each in found:
            self._admit(each)
        fit = {r.name: r for r in self.registry if r.error is None or r.state in RUNNING}
        planned = plan(
            {name: record.manifest.version for name, record in fit.items()},
            {name: record.manifest.requires for name, record in fit.items()},
            self._after,
        )
        for name, error in planned.refused.items():
            if fit[name].state == "discovered":
                self._refuse(fit[name], error)
        for layer in planned.layers:
            new = [fit[name] for name in layer if fit[name].state == "discovered"]  # not who came before, or visits
            self._for_each(new, self._bring_up)
            until = self.clock.now() + _RESTARTS_AWAITED
            for record in new:  # here: a thread for each that waits might be those that their restarts need
                self._wait_until_settled(record, until)

    def close(self, now: bool = False) -> None:
        """Stop all, in reverse order of requirement and of groups, those of one layer at the same time; so each layer
        takes at most as long as its slowest plugin. ``now``: nothing is drained. Says how many events were not handled.
        """
        self.deaths.closing = True
        running = {record.name: record for record in self.registry if not record.visitor}
        before = self.journal.unhandled
        for layer in reversed(layers({name: r.manifest.requires for name, r in running.items()}, self._after)):
            stop = partial(self.operations.stop, cascade=True, now=now)
            for_each([running[name] for name in layer], stop, len(layer), f"{self.name}-end")
        self.reactor.run(int)  # dead letters are counted there
        if count := self.journal.unhandled - before:
            self.journal.announce("MK0226", "warn", "", count=count)

    def _for_each(self, records: list[PluginRecord], work: Callable[[PluginRecord], object]) -> None:
        for_each(records, work, _AT_ONCE, f"{self.name}-life")

    def _bring_up(self, record: PluginRecord) -> None:
        record.turned.clear()
        with record.lock:
            self.operations.bring_up(record, None)

    def _wait_until_settled(self, record: PluginRecord, until: float) -> None:
        """A plugin that dies at each start is waited for only so long: its manifest says how often it is restarted."""
        while record.state not in SETTLED and not self.deaths.closing and (left := until - self.clock.now()) > 0:
            record.turned.wait(left)
            record.turned.clear()

    def _admit(self, found: PluginCandidate) -> PluginRecord:
        """Make a record of what was found; a second one of a name is told about, and left out."""
        if found.name in self.registry:
            first = self.registry.get(found.name)
            if error := found.error or _clash(first.found, found):
                self._left_out.add(found.path)
                if not name_clashes.is_disputed(error):  # that was reported of the first
                    self.journal.report("error", found.name, error)
            return first
        manifest = effective(found.manifest, self.config)
        level, weaker = choose_level(manifest, self.config, self._override)
        if weaker:
            self.journal.announce("MK0502", "notice", found.name, asked=manifest.isolation, level=level)
        manifest = held_to(manifest, self.config, level, self.approvals.limits(found))
        record = PluginRecord(found, manifest, level, Mailbox(int(manifest.limits.mailbox)))
        self.registry.add(record)
        if found.error is not None:
            self._refuse(record, found.error)
        return record

    def _refuse(self, record: PluginRecord, error: KernelError) -> None:
        record.error = error
        record.step("refused")
        self.journal.report("error", record.name, error)
        self.journal.changed(record)

    def _effective(self, found: PluginCandidate) -> tuple[PluginCandidate, Manifest, Level]:
        if found.error is not None:
            raise found.error
        for record in self.registry:
            if record.found.path == found.path and record.name != found.name:
                raise PluginLoadError("MK0126", name=record.name, other=found.name, path=found.path)
        self._read_again()
        if found.name in self.registry and not name_clashes.is_disputed(self.registry.get(found.name).error):
            known = self.registry.get(found.name).found.manifest
            check_manifest(known, found.manifest, self.config, self._override)
        manifest = effective(found.manifest, self.config)
        level, _ = choose_level(manifest, self.config, self._override)
        return found, held_to(manifest, self.config, level, self.approvals.limits(found)), level

    def _exposed_by(self, folder: str) -> str:
        """What a plugin could change of the kernel's own if it may write below this folder; empty for nothing."""
        plugins = [record.found.path for record in self.registry if os.path.isabs(record.found.path)]
        places = [os.path.abspath(place) for place in self.places if os.path.exists(place)]
        return writable_overlaps.exposed(folder, places, [*plugins, *self.own_files])

    def _find_again(self, record: PluginRecord) -> PluginCandidate:
        """The plugin as it is now. One whose name was disputed may be another file by now, or still have no right to
        it; none of its code has run."""
        if not name_clashes.is_disputed(record.error):
            return self.loader.find(record.found.path)
        rivals = [each for each in self._found() if each.name == record.name]
        rivals.sort(key=lambda each: each.error is not None)
        return rivals[0] if rivals else self.loader.find(record.found.path)

    def _read_again(self) -> None:
        """What the operator wants by now holds for who starts from now on, not for who runs. Where plugins are found,
        and who restarts with whom, stays. Raises ConfigError MK0721 for a file that lost a part of what protects."""
        if self.reread is not None:
            now = replace(self.reread(), plugins=self.config.plugins, group=self.config.group)
            manifests = [record.found.manifest for record in self.registry if not record.visitor]
            check_configuration(self.config, now, manifests, self._override)
            self.config = self.approvals.config = self.births.config = now

    # One plugin: the service `kernel`, and the embedder

    def list(self) -> Infos:
        return [self._describe(record, BRIEF) for record in self.registry if not record.visitor]

    def info(self, name: str) -> PluginInfo:
        return self._describe(self.registry.get(name))

    def _describe(self, record: PluginRecord, room: int = FULL) -> PluginInfo:
        lacking = self.journal.lacks(record) if record.state in RUNNING else None
        return describe(record, self.clock.wall(), self.context.used(record.name), lacking, room)

    def names(self) -> dict[str, Leftovers]:
        """What a console completes: plugins, methods and topics."""
        records = [record for record in self.registry if not (record.visitor or record.built_in)]
        return {
            "plugins": [record.name for record in records],
            "methods": sorted(f"{record.name}.{method}" for record in records for method in _short([*record.methods])),
            "topics": sorted({s.pattern for r in records for s in list(r.subscriptions.values()) if not s.board}),
        }

    def listeners(self, topic: str) -> Leftovers:
        """The plugins that would get an event of this topic, and ``kernel`` for the embedding program; once each. What
        only looks on, a console or another terminal, does not count."""
        owners = dict.fromkeys(subscription.owner for subscription in self.topics.matches[topic])
        looking = {record.name for record in self.registry if record.visitor or record.built_in}
        return [owner for owner in owners if owner not in looking]

    def start(self, name: str, reset: bool = False) -> PluginInfo:
        """Raises PluginLoadError and its kin if it does not become active; quarantine is left only by ``reset``."""
        record = self.registry.get(name)
        if record.state == "quarantined" and not reset:
            what, cure = "it died too often", cure_of(name, record.state)
            raise PluginNotActive("MK0213", name=name, state=record.state, what=what, cure=cure)
        self._start_anew(record)
        return self.info(name)

    def _start_anew(self, record: PluginRecord) -> None:
        """From the source as it is now; what keeps it from that is told, as what goes wrong later is."""
        with record.lock:
            if record.state in ("failed", "stopped", "quarantined", "discovered", "backoff", "held"):
                try:
                    record.found, record.manifest, record.level = self._effective(self._find_again(record))
                except KernelError as error:
                    record.error = error
                    self.journal.report("error", record.name, error)
                    self.journal.changed(record)
                    raise
        self.operations.start(record)

    def stop(self, name: str, cascade: bool = False, now: bool = False) -> PluginInfo:
        self.operations.stop(self.registry.get(name), cascade=cascade, now=now)
        return self.info(name)

    def kill(self, name: str) -> PluginInfo:
        record = self.registry.get(name)
        self.operations.kill(record)
        return self._describe(record)  # a visitor is not among us any more

    def reload(self, name: str, expect: str = "") -> ReloadReport:
        """Take the source as it is now; with ``expect`` only in this state. Raises ReloadFailed when the old one goes
        on, PluginNotActive for another state."""
        record = self.registry.get(name)
        report = self._reloading.reload(record, expect)
        return replace(report, leaked=[*report.leaked, *self._audits.of(record)])

    def reload_all(self) -> ReloadSummary:
        """Reload all that somebody wants to run, in the order of their requirements; goes on after one that fails."""
        return reload_all(self.registry, self.reload, self._for_each, self._after)

    def sources(self) -> Sources:
        """Where the plugins come from."""
        return sources_of(self.places, self.registry)

    def source(self, name: str) -> dict[str | bytes, str]:
        """What was read of a plugin: SHA-256 by path."""
        return read_of(self.registry.get(name))

    def announce(self, id: str, plugin: str = "", fields: dict[str, Any] | None = None) -> bool:
        """Tell people a message of the catalogs, as the kernel's own are told. Raises KernelError MK0720."""
        self.journal.announce(id, level_of(id), plugin, **(fields or {}))
        return True

    def load(self, path: str | bytes, built_in: bool = False) -> PluginInfo:
        """Add and start one plugin. Raises PluginLoadError and its kin; what was refused before it ran is not kept."""
        found = self.loader.find(os.fsdecode(path))
        if found.error is not None:
            raise found.error
        if found.name in self.registry:
            first = self.registry.get(found.name).found.path
            raise PluginLoadError("MK0107", name=found.name, first=first, second=found.path)
        record = self._admit(found)
        record.built_in = built_in
        self.operations.start(record)
        return self.info(found.name)

    def unload(self, name: str) -> Leftovers:
        """Stop it and forget it; returns what is left of it, each a line."""
        record = self.registry.get(name)
        self.operations.stop(record)
        self.reactor.run(partial(self.context.forget, name))
        if record.state == "zombie":
            return [f"generation {record.generation}: its thread could not be ended"]
        left = self._audits.of(record)
        self.registry.remove(name)
        return left

    def data(self, prefix: str = "") -> dict[str, Any]:
        """The keys of the board that begin so, with value and revision. Of very large values only the size is shown."""
        shown = ShownValues()
        values = {key: self.context.get(key) for key in self.context.names() if key.startswith(prefix)}
        return {
            key: {"value": shown.value(value.owner, value.data), "revision": value.revision, "owner": value.owner}
            for key, value in values.items()
            if value is not None
        }

    def logs(self, name: str = "", last: int = 100) -> Lines:
        """The last records of one plugin or of all, oldest first."""
        records = [self.registry.get(name)] if name else list(self.registry)
        lines = [line for record in records for line in list(record.logs)]
        return _newest(sorted(lines, key=lambda line: line.time)[-last:])

    def shutdown(self) -> bool:
        """Ask whoever runs this kernel to end it."""
        self.journal.publish("kernel.shutdown")
        return True

    # Visitors: a console at the other end of a socket is an instance like any other, in a place we did not make

    def attach(self, name: str, permissions: Permissions, settle: Callable[[Instance], Runner]) -> Instance:
        """Let in an instance that came by itself; ``settle`` makes its place. ``name`` must be free."""
        manifest = Manifest(name, description="attached", limits=Limits(handler=0))  # nobody hurries a person
        found = PluginCandidate(name, "", manifest)
        record = PluginRecord(found, manifest, "process", Mailbox(int(manifest.limits.mailbox)), visitor=True)
        instance = Instance(record, 1, "process", manifest, None, permissions, self.switch)
        instance.runner = settle(instance)
        record.instance, record.state, record.generation = instance, "active", 1
        record.mailbox.connect(instance.runner.wake, instance.runner.pump)
        self.registry.add(record)
        return instance

    def detach(self, instance: Instance) -> None:
        """It has gone: what it registered goes, and whoever waited for it is told. On the reactor's thread."""
        instance.dismissed = instance.cut = True
        self.operations.forget_visitor(instance.record)
        self.registry.remove(instance.name)

    # What hosts and the watchdog tell

    def _ended(self, instance: Instance, exit: Exit) -> None:
        self.reactor.post(self.buffers.sweep)
        if not instance.dismissed:
            self._beside(partial(self.deaths.died, instance, exit), f"{instance.name}-death")
        elif instance.record.state == "zombie":
            self._beside(partial(self.deaths.died, instance, exit), f"{instance.name}-end")

    def _leaves(self, instance: Instance) -> None:
        see_off = partial(self._beside, partial(self.deaths.see_off, instance), f"{instance.name}-farewell")
        self.reactor.later(instance.manifest.limits.kill_grace, see_off)

    def _overdue(self, instance: Instance, seconds: float, what: str) -> None:
        self._beside(partial(self.deaths.overdue, instance, seconds, what), f"{instance.name}-overdue")

    def _limits_of(self, owner: str) -> Limits:
        """The embedder has none."""
        return self.registry.get(owner).manifest.limits if owner in self.registry else _UNLIMITED

    def _complain(self, level: str, name: str, error: KernelError) -> None:
        self.journal.report(level, name, error)

    def _beside(self, work: Callable[[], object], name: str) -> None:
        self.reactor.post(partial(self.reactor.beside, work, name))


def _newest(lines: Lines) -> Lines:
    """As many of the last ones as an answer has room for."""
    left, kept = _LONGEST_LOG, 0
    for line in reversed(lines):
        left -= 4 * len(line.text)  # in UTF-8, at most
        if left < 0:
            break
        kept += 1
    return lines[len(lines) - kept :]


def _short(names: Leftovers) -> Leftovers:
    """Those that somebody may want to type."""
    return [name for name in names if len(name) <= MAX_TOPIC]


def _clash(first: PluginCandidate, second: PluginCandidate) -> PluginLoadError | None:
    if first.path == second.path:
        return None
    return PluginLoadError("MK0107", name=second.name, first=first.path, second=second.path)
