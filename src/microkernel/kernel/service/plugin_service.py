"""Operations on plugins: list, info, start, stop, kill, reload, load, unload, logs, data."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from microkernel.errors import PluginLoadError, PluginNotActive
from microkernel.kernel.messaging.topic_index import TopicIndex
from microkernel.kernel.operations.catalog import PluginCatalog
from microkernel.kernel.operations.controller import PluginController
from microkernel.kernel.operations.leak_audit import LeakAuditor
from microkernel.kernel.operations.plugin_set import PluginSet
from microkernel.kernel.operations.reload import Reloader, ReloadReport
from microkernel.kernel.operations.reload_all import ReloadSummary
from microkernel.kernel.ports import Clock
from microkernel.kernel.registry.record import LogRecord, PluginRecord, Registry
from microkernel.kernel.registry.states import RUNNING, cure_of
from microkernel.kernel.reporting.journal import Journal
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
from microkernel.kernel.routing.data_store import DataStore
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.supervision.restart_schedule import RestartSchedule
from microkernel.wire.topics import MAX_TOPIC

Infos = list[PluginInfo]
Names = list[str]
Leftovers = list[str]
Lines = list[LogRecord]

# Bytes of log lines in one answer, which has room for 16 MiB.
_LONGEST_LOG = 12 * 1024 * 1024


class PluginService:
    """Part of the service ``kernel``. On threads that may wait."""

    def __init__(
        self,
        registry: Registry,
        catalog: PluginCatalog,
        plugins: PluginSet,
        controller: PluginController,
        reloader: Reloader,
        schedule: RestartSchedule,
        auditor: LeakAuditor,
        topics: TopicIndex,
        data: DataStore,
        reactor: Reactor,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._plugins = plugins
        self._controller = controller
        self._reloader = reloader
        self._schedule = schedule
        self._auditor = auditor
        self._topics = topics
        self._data = data
        self._reactor = reactor
        self._clock = clock
        self._journal = journal

    # Queries

    def list(self) -> Infos:
        return [self._describe(record, BRIEF) for record in self._registry if not record.is_remote_client]

    def info(self, name: str) -> PluginInfo:
        return self._describe(self._registry.get(name))

    def _describe(self, record: PluginRecord, room: int = FULL) -> PluginInfo:
        lacking = self._journal.lacks(record) if record.state in RUNNING else None
        used, next_start = self._data.used(record.name), self._schedule.next_start(record)
        return describe(record, self._clock.wall(), used, lacking, room, next_start)

    def names(self) -> dict[str, Names]:
        """Return the names that a console can complete: plugins, methods and topics."""
        records = [record for record in self._registry if not (record.is_remote_client or record.built_in)]
        return {
            "plugins": [record.name for record in records],
            "methods": sorted(f"{record.name}.{method}" for record in records for method in _short([*record.methods])),
            "topics": sorted({s.pattern for r in records for s in [*r.subscriptions.values()] if not s.watches_data}),
        }

    def listeners(self, topic: str) -> Names:
        """Return the plugins that would get an event of this topic, and ``kernel`` for the embedding program.

        Each is named once. Consoles and other terminals, which only observe, are left out.
        """
        owners = dict.fromkeys(subscription.owner for subscription in self._topics.matches[topic])
        looking = {record.name for record in self._registry if record.is_remote_client or record.built_in}
        return [owner for owner in owners if owner not in looking]

    def sources(self) -> Sources:
        """Return the places and the source of each plugin."""
        return sources_of(self._catalog.places, self._registry)

    def source(self, name: str) -> dict[str | bytes, str]:
        """Return the SHA-256 of each source file of a plugin as it was read, by path."""
        return read_of(self._registry.get(name))

    def data(self, prefix: str = "") -> dict[str, Any]:
        """Return the keys of shared data with this prefix, with value, revision and owner. Only the size of very large
        values is shown."""
        shown = ShownValues()
        values = {key: self._data.get(key) for key in self._data.names() if key.startswith(prefix)}
        return {
            key: {"value": shown.value(value.owner, value.data), "revision": value.revision, "owner": value.owner}
            for key, value in values.items()
            if value is not None
        }

    def logs(self, name: str = "", last: int = 100) -> Lines:
        """Return the last records of one plugin or of all, oldest first."""
        records = [self._registry.get(name)] if name else [*self._registry]
        lines = [line for record in records for line in [*record.logs]]
        return _newest(sorted(lines, key=lambda line: line.time)[-last:])

    # Changes

    def discover(self) -> Names:
        return self._plugins.discover()

    def start(self, name: str, reset: bool = False) -> PluginInfo:
        """Start a plugin. Only ``reset`` takes it out of quarantine. Raises PluginLoadError or a related error if it
        does not become active."""
        record = self._registry.get(name)
        if record.state == "quarantined" and not reset:
            what, cure = "it died too often", cure_of(name, record.state)
            raise PluginNotActive("MK0213", name=name, state=record.state, what=what, cure=cure)
        self._controller.start_from_source(record)
        return self.info(name)

    def stop(self, name: str, cascade: bool = False, now: bool = False) -> PluginInfo:
        self._controller.stop(self._registry.get(name), cascade=cascade, now=now)
        return self.info(name)

    def kill(self, name: str) -> PluginInfo:
        record = self._registry.get(name)
        self._controller.kill(record)
        return self._describe(record)  # a remote client has left the registry by now

    def reload(self, name: str, expect: str = "") -> ReloadReport:
        """Reload a plugin from its source as it is now; with ``expect``, only in this state.

        Raises ReloadFailed if the old source continues, PluginNotActive in another state.
        """
        record = self._registry.get(name)
        report = self._reloader.reload(record, expect)
        return replace(report, leaked=[*report.leaked, *self._auditor.audit(record)])

    def reload_all(self) -> ReloadSummary:
        return self._plugins.reload_all(self.reload)

    def load(self, path: str | bytes, built_in: bool = False) -> PluginInfo:
        """Add and start one plugin. Raises PluginLoadError or a related error; a plugin refused before it ran is not
        kept."""
        found = self._catalog.find(os.fsdecode(path))
        if found.error is not None:
            raise found.error
        if found.name in self._registry:
            first = self._registry.get(found.name).found.path
            cure = ""
            if first == found.path:
                first, cure = "the same file", f"; to load a changed source: mk reload {found.name}"
            raise PluginLoadError("MK0107", name=found.name, first=first, second=found.path, cure=cure)
        self._controller.start(self._catalog.admit(found, built_in=built_in))
        return self.info(found.name)

    def unload(self, name: str) -> Leftovers:
        """Stop a plugin and remove it. Return a line for each of its remains."""
        record = self._registry.get(name)
        self._controller.stop(record)
        self._reactor.run(partial(self._data.forget, name))
        if record.state == "zombie":
            return [f"generation {record.generation}: its thread could not be ended"]
        left = self._auditor.audit(record)
        self._registry.remove(name)
        return left

    def shutdown(self) -> bool:
        """Ask the program that runs this kernel to end it."""
        self._journal.publish("kernel.shutdown")
        return True

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return the methods of the service, by name."""
        return {
            "list": self.list,
            "info": self.info,
            "names": self.names,
            "listeners": self.listeners,
            "start": self.start,
            "stop": self.stop,
            "kill": self.kill,
            "reload": self.reload,
            "reload_all": self.reload_all,
            "discover": self.discover,
            "source": self.source,
            "sources": self.sources,
            "load": self.load,
            "unload": self.unload,
            "logs": self.logs,
            "data": self.data,
            "shutdown": self.shutdown,
        }


def _newest(lines: Lines) -> Lines:
    """Return as many of the last lines as fit in an answer."""
    left, kept = _LONGEST_LOG, 0
    for line in reversed(lines):
        left -= 4 * len(line.text)  # in UTF-8, at most
        if left < 0:
            break
        kept += 1
    return lines[len(lines) - kept :]


def _short(names: Names) -> Names:
    """Return the names that are short enough to be typed."""
    return [name for name in names if len(name) <= MAX_TOPIC]
