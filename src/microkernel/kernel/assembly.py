"""The only place that constructs the kernel's parts.

They are created in the order of the layers: each gets the parts below it, and nothing is set afterwards. A lower layer
passes work to a higher one through a queue that the higher one consumes (``DeadLetters``, ``ServiceQueue``), or through
the owner of an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from microkernel.kernel.admission.approval_policy import ApprovalPolicy
from microkernel.kernel.admission.config_source import ConfigSource
from microkernel.kernel.admission.gate import KERNEL_TOPICS
from microkernel.kernel.admission.permissions import Grant
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.kernel import Core
from microkernel.kernel.lifecycle.cleanup import InstanceCleanup
from microkernel.kernel.lifecycle.launcher import Launcher
from microkernel.kernel.lifecycle.termination import Terminator
from microkernel.kernel.manifest import Level, Limits
from microkernel.kernel.messaging.buffers import BufferPool
from microkernel.kernel.messaging.dead_letters import DeadLetters
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.topic_index import TopicIndex
from microkernel.kernel.operations.catalog import PluginCatalog
from microkernel.kernel.operations.controller import PluginController
from microkernel.kernel.operations.leak_audit import LeakAuditor
from microkernel.kernel.operations.plugin_set import PluginSet
from microkernel.kernel.operations.reload import Reloader
from microkernel.kernel.ports import Clock, Host, Loader, Lock
from microkernel.kernel.registry.record import Registry
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.reporting.message_texts import MessageTexts
from microkernel.kernel.routing.call_router import CallRouter
from microkernel.kernel.routing.call_table import CallTable
from microkernel.kernel.routing.data_store import DataStore
from microkernel.kernel.routing.direct_channels import DirectChannels
from microkernel.kernel.routing.ingress import Ingress
from microkernel.kernel.routing.registration import Registrar
from microkernel.kernel.routing.service_queue import ServiceQueue
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.service.approval_service import ApprovalService
from microkernel.kernel.service.dead_letter_service import DeadLetterService
from microkernel.kernel.service.plugin_service import PluginService
from microkernel.kernel.service.remote_clients import RemoteClients
from microkernel.kernel.service.service import KernelService
from microkernel.kernel.supervision.heartbeat import Heartbeat
from microkernel.kernel.supervision.restart_schedule import RestartSchedule
from microkernel.kernel.supervision.supervisor import Supervisor
from microkernel.kernel.supervision.watchdog import Watchdog
from microkernel.wire.light_dataclasses import dataclass

# The embedding program's keys of shared data have no limit.
_UNLIMITED = Limits(kernel_memory=0)

Announce = Callable[..., object]
Hosts = Callable[[Level], Host]


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Options of a kernel, apart from its adapters.

    ``data_dir``: the folder around the plugins' data folders; ``project`` owns it, empty if it needs no owner.
    ``override``: the level at which all plugins run. ``places`` are searched for plugins. ``own_files``: the lock and
    the configuration, if they are files. ``reread`` reads the configuration file again; raises ConfigError.
    """

    name: str
    config: KernelConfig
    data_dir: Path | None = None
    project: str = ""
    override: Level | None = None
    grants: Mapping[str, Grant] = field(default_factory=dict)
    places: Sequence[str] = ()
    own_files: Sequence[str] = ()
    reread: Callable[[], KernelConfig] | None = None


def make_core(
    options: KernelOptions,
    loader: Loader,
    hosts: Callable[[Reactor, Announce], Hosts],
    clock: Clock,
    lock: Lock | None = None,
) -> Core:
    """Create a kernel, with its reactor running. ``hosts`` returns the function that provides the host of a level.

    Raises OSError and RuntimeError if the system has too few descriptors or threads.
    """
    name, groups = options.name, list(options.config.group.values())

    # runtime
    reactor = Reactor(name, clock)

    # messaging
    dead_letters = DeadLetters(reactor)
    topics, watchers = TopicIndex(KERNEL_TOPICS), TopicIndex()
    bus = EventBus(topics, reactor, clock, dead_letters.add)
    buffers = BufferPool(reactor.later)

    # admission
    config = ConfigSource(options.config, options.override, options.reread)

    # registry and reporting
    registry = Registry()
    calls = CallTable(reactor, clock)
    journal = Journal(registry, reactor, clock, bus, dead_letters, calls.fail)
    texts = MessageTexts(journal)
    has_level = options.override is not None
    approvals = ApprovalPolicy(config, options.grants, lock, journal.report, has_level=has_level)

    # routing
    queue = ServiceQueue()
    router = CallRouter(registry, bus, calls, queue)

    def limits_of(owner: str) -> Limits:
        record = registry.find(owner)
        return record.manifest.limits if record is not None else _UNLIMITED

    data = DataStore(watchers, bus.notify, limits_of, reactor.post)
    registrar = Registrar(topics, watchers, data)
    direct = DirectChannels(registry, router, calls, reactor, config)
    ingress = Ingress(bus, router, calls, data, registrar, buffers, reactor, journal, dead_letters, direct)

    # lifecycle
    launcher = Launcher(
        registry, loader, hosts(reactor, texts.announce), config, options.data_dir, approvals, ingress, journal,
        options.places, options.own_files, options.project,
    )  # fmt: skip
    terminator = Terminator(reactor, direct, journal)
    cleanup = InstanceCleanup(calls, direct, registrar, dead_letters, reactor, journal)

    # supervision
    watchdog, heartbeat = Watchdog(reactor, clock), Heartbeat(reactor, clock)
    schedule = RestartSchedule(reactor, clock)
    supervisor = Supervisor(
        registry, launcher, terminator, cleanup, registrar, watchdog, heartbeat, schedule, reactor, journal, groups
    )

    # operations
    catalog = PluginCatalog(
        registry, loader, config, approvals, journal, options.places, options.override, options.grants
    )
    controller = PluginController(registry, catalog, supervisor, schedule, terminator, cleanup, journal)
    reloader = Reloader(catalog, launcher, supervisor, controller, terminator, cleanup, registrar, reactor, journal)
    plugin_set = PluginSet(name, registry, catalog, supervisor, controller, reactor, clock, journal, groups)

    # service
    auditor = LeakAuditor(journal)
    plugins = PluginService(
        registry, catalog, plugin_set, controller, reloader, schedule, auditor, topics, data, reactor, clock, journal
    )
    approval_service = ApprovalService(registry, catalog, approvals, loader, plugins)
    dead_letter_service = DeadLetterService(registry, dead_letters, bus, reactor)
    remote_clients = RemoteClients(registry, ingress, cleanup, supervisor)
    tables = [each.methods() for each in (plugins, approval_service, dead_letter_service, texts)]
    service = KernelService(queue, *tables)

    reactor.start()
    return Core(
        name=name, config=config, clock=clock, reactor=reactor, registry=registry, topics=topics, bus=bus, calls=calls,
        router=router, data=data, buffers=buffers, journal=journal, texts=texts, all_plugins=plugin_set,
        plugins=plugins, approvals=approval_service, dead_letters=dead_letter_service, remote_clients=remote_clients,
        service=service,
    )  # fmt: skip
