"""All plugins at once: discover and start them in order, and stop them in reverse order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from microkernel.errors import KernelClosed, KernelError
from microkernel.kernel.admission import name_clashes
from microkernel.kernel.config import Group
from microkernel.kernel.operations.catalog import PluginCatalog
from microkernel.kernel.operations.controller import PluginController
from microkernel.kernel.operations.reload import ReloadReport
from microkernel.kernel.operations.reload_all import ReloadSummary, reload_all
from microkernel.kernel.operations.start_order import layers, plan
from microkernel.kernel.ports import Clock, PluginCandidate
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.registry.states import RUNNING, SETTLED
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.requirements import split
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.runtime.threads import for_each
from microkernel.kernel.supervision.groups import predecessors
from microkernel.kernel.supervision.supervisor import Supervisor

# How many plugins are started or reloaded at the same time.
_AT_ONCE = 16
# Seconds that opening waits for the restarts of plugins that crashed at their first start.
_RESTARTS_AWAITED = 30.0


class PluginSet:
    """All plugins of one kernel. On threads that may wait."""

    def __init__(
        self,
        name: str,
        registry: Registry,
        catalog: PluginCatalog,
        supervisor: Supervisor,
        controller: PluginController,
        reactor: Reactor,
        clock: Clock,
        journal: Journal,
        groups: Iterable[Group],
    ) -> None:
        self._name = name
        self._registry = registry
        self._catalog = catalog
        self._supervisor = supervisor
        self._controller = controller
        self._reactor = reactor
        self._clock = clock
        self._journal = journal
        self._after = predecessors(groups)
        self._looking = threading.Lock()

    def run(self) -> None:
        """Discover and start all plugins. Return when each is active, or will not become active."""
        _ = KernelClosed("MK0612", reason="").text  # read now, because later no descriptor may be left for it
        with self._looking:
            here = self._catalog.discover()
            found = self._catalog.settle(here)
            names = dict.fromkeys(each.name for each in found)
            self._journal.publish("kernel.found", kernel=self._name, names=[*names])
            self._catalog.report_misnamed({*self._registry.names(), *(each.name for each in here)})
            self._start_all(found)

    def discover(self) -> list[str]:
        """Start plugins that have been added since. Return their names, when they are settled."""
        with self._looking:
            known = {record.found.path for record in self._registry} | self._catalog.left_out
            here = self._catalog.found()
            found = [each for each in here if each.path not in known]
            self._start_all(found)
            self._start_undisputed(here)
            return [each.name for each in found]

    def close(self, now: bool = False) -> None:
        """Stop all plugins, in reverse order of requirements and groups, those of one layer at the same time.

        Each layer takes at most as long as its slowest plugin. ``now``: without draining. Reports how many events were
        not handled.
        """
        self._supervisor.close()
        running = {record.name: record for record in self._registry if not record.is_remote_client}
        before = self._journal.unhandled
        requires = {name: record.manifest.requires for name, record in running.items()}
        for layer in reversed(layers(requires, self._predecessors(running.values()))):
            stop = partial(self._controller.stop, cascade=True, now=now)
            for_each([running[name] for name in layer], stop, len(layer), f"{self._name}-end")
        self._reactor.run(int)  # dead letters are counted there
        if count := self._journal.unhandled - before:
            self._journal.announce("MK0226", "warn", "", count=count)

    def reload_all(self, reload: Callable[[str], ReloadReport]) -> ReloadSummary:
        """Reload all wanted plugins, in the order of their requirements. Continue after one that fails."""
        return reload_all(self._registry, reload, self._for_each, self._predecessors(self._registry))

    def _start_undisputed(self, found: list[PluginCandidate]) -> None:
        """Start plugins whose names were disputed when they were found first, and no longer are."""
        for each in found:
            if each.error is None and each.name in self._registry:
                record = self._registry.get(each.name)
                if name_clashes.is_disputed(record.error):
                    with suppress(KernelError):  # reported by the start
                        self._controller.start_from_source(record)

    def _start_all(self, found: list[PluginCandidate]) -> None:
        for each in found:
            self._catalog.admit(each)
        fit = {r.name: r for r in self._registry if r.error is None or r.state in RUNNING}
        planned = plan(
            {name: record.manifest.version for name, record in fit.items()},
            {name: record.manifest.requires for name, record in fit.items()},
            self._predecessors(fit.values()),
        )
        for name, error in planned.refused.items():
            if fit[name].state == "discovered":
                self._catalog.refuse(fit[name], error)
        for layer in planned.layers:
            # Not those that were there before, nor remote clients.
            new = [fit[name] for name in layer if fit[name].state == "discovered"]
            self._for_each(new, self._start)
            until = self._clock.now() + _RESTARTS_AWAITED
            for record in new:  # on this thread, because waiting threads could use up those for restarts
                self._wait_until_settled(record, until)

    def _predecessors(self, records: Iterable[PluginRecord]) -> dict[str, set[str]]:
        """Return, for each plugin, those that start before it, if they start at all: by its group and its ``wants``."""
        wanted = {r.name: {split(requirement)[0] for requirement in r.manifest.wants} - {r.name} for r in records}
        return {name: names | self._after.get(name, set()) for name, names in wanted.items()}

    def _start(self, record: PluginRecord) -> None:
        record.state_changed.clear()
        with record.lock:
            self._supervisor.bring_up(record, None)

    def _wait_until_settled(self, record: PluginRecord, until: float) -> None:
        """Wait until a plugin is settled. The time is limited, because its manifest determines how often a plugin that
        crashes at each start is restarted."""
        while record.state not in SETTLED and not self._supervisor.is_closing:
            left = until - self._clock.now()
            if left <= 0:
                return
            record.state_changed.wait(left)
            record.state_changed.clear()

    def _for_each(self, records: list[PluginRecord], work: Callable[[PluginRecord], object]) -> None:
        for_each(records, work, _AT_ONCE, f"{self._name}-life")
