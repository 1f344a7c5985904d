"""Remote clients: instances at the other end of the control socket, on runners that the kernel did not launch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from microkernel.errors import KernelError
from microkernel.kernel.lifecycle.cleanup import InstanceCleanup
from microkernel.kernel.manifest import Limits, Manifest, Permissions
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.quota import Quota
from microkernel.kernel.ports import PluginCandidate, Runner
from microkernel.kernel.registry.instance import Instance, InstanceOwner, kind_of
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.routing.ingress import Ingress
from microkernel.wire.secrets import Secrets


class RemoteClients:
    """Attaches and detaches instances that connect by themselves. On the reactor's thread."""

    def __init__(self, registry: Registry, ingress: Ingress, cleanup: InstanceCleanup, owner: InstanceOwner) -> None:
        self._registry = registry
        self._ingress = ingress
        self._cleanup = cleanup
        self._owner = owner

    def attach(self, name: str, permissions: Permissions, connect: Callable[[Instance], Runner]) -> Instance:
        """Attach a remote client. ``connect`` creates its runner. ``name`` must be free."""
        manifest = Manifest(name, description="attached", limits=Limits(handler=0))  # no deadline for a person
        found = PluginCandidate(name, "", manifest)
        mailbox = Mailbox(int(manifest.limits.mailbox))
        record = PluginRecord(found, manifest, "process", mailbox, is_remote_client=True, generation=1)
        instance = Instance(
            name, 1, "process", manifest, None, permissions, mailbox, Quota(kind_of), self._ingress.observe(record),
            self._owner, Secrets(), connect, in_memory=False,
        )  # fmt: skip
        record.instance = instance
        record.transition("loaded")
        record.transition("start")
        record.transition("started")
        mailbox.connect(instance.runner.wake, instance.runner.pump, instance)
        self._registry.add(record)
        return instance

    def detach(self, instance: Instance) -> None:
        """Detach a remote client that has disconnected: remove its registrations, and fail its callers."""
        instance.exit_expected = instance.disconnected = True
        record = self._registry.get(instance.name)
        with suppress(KernelError):  # it was stopped concurrently
            if record.state == "active":
                record.transition("stop")
            if record.state == "stopping":
                record.transition("ended")
        self._cleanup.discard_pending(record, f"{record.name} has gone")
        self._registry.remove(instance.name)
