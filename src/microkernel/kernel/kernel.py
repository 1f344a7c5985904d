"""The kernel, as an embedding program, the control socket and the command line see it.

It holds no plugin object, and uses hosts and loaders only through their ports. ``assembly.make_core`` creates it.
"""

from __future__ import annotations

from microkernel.kernel.admission.config_source import ConfigSource
from microkernel.kernel.messaging.buffers import BufferPool
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.topic_index import TopicIndex
from microkernel.kernel.operations.plugin_set import PluginSet
from microkernel.kernel.ports import Clock
from microkernel.kernel.registry.record import Registry
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.reporting.message_texts import MessageTexts
from microkernel.kernel.routing.call_router import CallRouter
from microkernel.kernel.routing.call_table import CallTable
from microkernel.kernel.routing.data_store import DataStore
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.service.approval_service import ApprovalService
from microkernel.kernel.service.dead_letter_service import DeadLetterService
from microkernel.kernel.service.plugin_service import PluginService
from microkernel.kernel.service.remote_clients import RemoteClients
from microkernel.kernel.service.service import KernelService
from microkernel.wire.light_dataclasses import dataclass


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Core:
    """A kernel without the embedding program's conveniences.

    ``run`` starts all plugins, ``close`` stops all. Operations on one plugin are in ``plugins``, ``approvals`` and
    ``dead_letters``. Events, calls and shared data go through ``bus``, ``router`` and ``data``.
    """

    name: str
    config: ConfigSource
    clock: Clock
    reactor: Reactor
    registry: Registry
    topics: TopicIndex
    bus: EventBus
    calls: CallTable
    router: CallRouter
    data: DataStore
    buffers: BufferPool
    journal: Journal
    texts: MessageTexts
    all_plugins: PluginSet
    plugins: PluginService
    approvals: ApprovalService
    dead_letters: DeadLetterService
    remote_clients: RemoteClients
    service: KernelService

    def run(self) -> None:
        """Discover and start all plugins. Return when each is active, or will not become active."""
        self.all_plugins.run()

    def close(self, now: bool = False) -> None:
        """Stop all plugins, in reverse order. ``now``: without draining."""
        self.all_plugins.close(now)
