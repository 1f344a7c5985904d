"""Catalog of plugins: found by the loader, given their names, and combined with the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from microkernel.errors import KernelError, PluginLoadError
from microkernel.kernel.admission import name_clashes
from microkernel.kernel.admission.approval_policy import ApprovalPolicy
from microkernel.kernel.admission.config_source import ConfigSource
from microkernel.kernel.admission.effective_config import cap_limits, choose_level, merge, unknown_names
from microkernel.kernel.admission.permissions import CONFINED
from microkernel.kernel.admission.weakening import check_manifest
from microkernel.kernel.manifest import Level, Manifest
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.ports import Loader, PluginCandidate
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.registry.suggestions import did_you_mean
from microkernel.kernel.reporting.journal import Journal


class PluginCatalog:
    """Finds plugins in ``places``, and creates their records.

    ``override``: the level at which the embedding program runs all plugins. ``granted``: the names to which it grants
    permissions.
    """

    def __init__(
        self,
        registry: Registry,
        loader: Loader,
        config: ConfigSource,
        approvals: ApprovalPolicy,
        journal: Journal,
        places: Sequence[str],
        override: Level | None,
        granted: Iterable[str],
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._config = config
        self._approvals = approvals
        self._journal = journal
        self.places = places
        self._override = override
        self._granted = tuple(granted)
        # Paths of plugins whose names belong to others. Each is reported once.
        self.left_out: set[str] = set()

    def discover(self) -> list[PluginCandidate]:
        """Return all candidates, including those disabled by the operator."""
        return self._loader.discover(self.places)

    def found(self) -> list[PluginCandidate]:
        """Return the plugins that exist now and are enabled. A name belongs to at most one without an error."""
        return self.settle(self.discover())

    def settle(self, found: list[PluginCandidate]) -> list[PluginCandidate]:
        """Return the enabled ones of these plugins. A name belongs to at most one without an error."""
        fit = (each for each in found if not name_clashes.is_fit(each) or self._is_enabled(each.manifest))
        return name_clashes.settle(fit, self._owns_name, self._is_confined)

    def _is_enabled(self, manifest: Manifest) -> bool:
        return merge(manifest, self._config.current()).enabled

    def _is_confined(self, found: PluginCandidate) -> bool:
        config = self._config.current()
        return choose_level(merge(found.manifest, config), config, self._override)[0] in CONFINED

    def _owns_name(self, found: PluginCandidate) -> bool:
        """Return whether a plugin owns its name: a known plugin keeps it, else the approved one gets it."""
        if found.name in self._registry:
            record = self._registry.get(found.name)
            if not name_clashes.is_disputed(record.error):
                return record.found.path == found.path
        return self._approvals.has_approved(found)

    def report_misnamed(self, known: set[str]) -> None:
        """Report configured plugins that were not found.

        Without places nothing is reported, because an embedding program that loads plugins one by one may configure
        plugins that are not loaded yet.
        """
        for table, name in unknown_names(self._config.current(), self._granted, known) if self.places else ():
            self._journal.announce("MK0712", "warn", name, key=table, suggestion=did_you_mean(name, known))

    def find(self, path: str) -> PluginCandidate:
        return self._loader.find(path)

    def find_again(self, record: PluginRecord) -> PluginCandidate:
        """Return the plugin as it is now.

        If its name was disputed, it may be another file by now, or still not own the name; none of its code has run.
        """
        if not name_clashes.is_disputed(record.error):
            return self._loader.find(record.found.path)
        rivals = [each for each in self.found() if each.name == record.name]
        rivals.sort(key=lambda each: each.error is not None)
        return rivals[0] if rivals else self._loader.find(record.found.path)

    def admit(self, found: PluginCandidate, *, built_in: bool = False) -> PluginRecord:
        """Create the record of a plugin. A second plugin of the same name is reported, and left out."""
        if found.name in self._registry:
            first = self._registry.get(found.name)
            if error := found.error or _clash(first.found, found):
                self.left_out.add(found.path)
                if not name_clashes.is_disputed(error):  # that was reported for the first
                    self._journal.report("error", found.name, error)
            return first
        config = self._config.current()
        manifest = merge(found.manifest, config)
        level, weaker = choose_level(manifest, config, self._override)
        if weaker:
            self._journal.announce("MK0502", "notice", found.name, asked=manifest.isolation, level=level)
        manifest = cap_limits(manifest, config, level, self._approvals.limits(found))
        mailbox = Mailbox(int(manifest.limits.mailbox))
        record = PluginRecord(found, manifest, level, mailbox, built_in=built_in)
        self._registry.add(record)
        if found.error is not None:
            self.refuse(record, found.error)
        return record

    def refuse(self, record: PluginRecord, error: KernelError) -> None:
        """Mark a plugin as failed, because it cannot run. None of its code has run."""
        record.error = error
        record.transition("refused")
        self._journal.report("error", record.name, error)
        self._journal.changed(record)

    def resolve(self, found: PluginCandidate) -> tuple[PluginCandidate, Manifest, Level]:
        """Return the manifest and level in force for a plugin that was found again, by the configuration as it is now.

        Raises the error that keeps it from being a plugin, and ConfigError MK0721.
        """
        if found.error is not None:
            raise found.error
        for record in self._registry:
            if record.found.path == found.path and record.name != found.name:
                raise PluginLoadError("MK0126", name=record.name, other=found.name, path=found.path)
        self._config.refresh(record.found.manifest for record in self._registry if not record.is_remote_client)
        config = self._config.current()
        if found.name in self._registry and not name_clashes.is_disputed(self._registry.get(found.name).error):
            known = self._registry.get(found.name).found.manifest
            check_manifest(known, found.manifest, config, self._override)
        manifest = merge(found.manifest, config)
        level, _ = choose_level(manifest, config, self._override)
        return found, cap_limits(manifest, config, level, self._approvals.limits(found)), level

    def resolve_again(self, record: PluginRecord) -> None:
        """Update a record from its source as it is now. With its lock held. Raises as ``resolve`` does."""
        record.found, record.manifest, record.level = self.resolve(self.find_again(record))


def _clash(first: PluginCandidate, second: PluginCandidate) -> PluginLoadError | None:
    if first.path == second.path:
        return None
    return PluginLoadError("MK0107", name=second.name, first=first.path, second=second.path)
