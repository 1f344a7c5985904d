"""Approve a plugin's requests: review its files as they are now, store the approval, and start or reload the plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microkernel.errors import KernelError, PluginHeld
from microkernel.kernel.admission.approval_policy import ApprovalPolicy
from microkernel.kernel.admission.permissions import CONFINED, Review
from microkernel.kernel.manifest import Level, Manifest
from microkernel.kernel.operations.catalog import PluginCatalog
from microkernel.kernel.ports import Loader, PluginCandidate, Snapshot
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.reporting.plugin_info import PluginInfo
from microkernel.kernel.service.plugin_service import PluginService
from microkernel.wire.light_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """A plugin that will be held unless its requests are approved."""

    review: Review
    found: PluginCandidate
    manifest: Manifest
    level: Level
    snapshot: Snapshot


class ApprovalService:
    """Part of the service ``kernel``. On threads that may wait."""

    def __init__(
        self,
        registry: Registry,
        catalog: PluginCatalog,
        approvals: ApprovalPolicy,
        loader: Loader,
        plugins: PluginService,
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._approvals = approvals
        self._loader = loader
        self._plugins = plugins

    def review(self, name: str) -> Review:
        """Compare the requests of a plugin, as it is on the disk now, with its approval.

        Raises PluginLoadError if the source cannot run, ConfigError MK0414 if the lock is unreadable.
        """
        return self._request(self._registry.get(name)).review

    def approve(self, name: str, digest: str = "", remember: bool = True) -> PluginInfo:
        """Approve all requests of a plugin, and run it.

        An active plugin is reloaded to take the new source. If there is nothing to approve, only a held plugin is
        started. ``digest``: approve exactly these files.

        Raises PluginHeld MK0415 if the files are different by now, and as ``review``, ``start`` and ``reload`` do.
        """
        record = self._registry.get(name)
        with record.lock:
            request = self._request(record)
            if digest not in ("", request.review.digest):
                raise PluginHeld("MK0415", name=name)
            self.accept(request, remember=remember)
        if record.state == "active" and not request.review.is_fine:
            self._plugins.reload(name)
        elif record.state == "held" or not request.review.is_fine:
            self._plugins.start(name, True)
        return self._plugins.info(name)

    def accept(self, request: Request, *, remember: bool) -> None:
        """Approve a plugin before it is loaded. Raises ConfigError MK0414 if the approval cannot be stored."""
        self._approvals.approve(request.found, request.manifest, request.level, request.snapshot, remember=remember)

    def requests(self) -> list[Request]:
        """Return the plugins in the kernel's places that need an approval.

        Errors of other plugins are reported when they are loaded.
        """
        return [
            request
            for found in self._catalog.found()
            if found.error is None and found.name not in self._registry
            if (request := self._possible(found)) is not None and not request.review.is_fine
        ]

    def _possible(self, found: PluginCandidate) -> Request | None:
        try:
            found, manifest, level = self._catalog.resolve(found)
            return self._look(found, manifest, level) if level in CONFINED else None
        except KernelError:
            return None

    def _request(self, record: PluginRecord) -> Request:
        found, manifest, level = self._catalog.resolve(self._catalog.find_again(record))
        return self._look(found, manifest, level)

    def _look(self, found: PluginCandidate, manifest: Manifest, level: Level) -> Request:
        peers = [name for name in self._registry.names() if name != found.name]
        snapshot = self._loader.snapshot(found, peers, level)
        return Request(self._approvals.review(found, manifest, level, snapshot), found, manifest, level, snapshot)

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return the methods of the service, by name."""
        return {"review": self.review, "approve": self.approve}
