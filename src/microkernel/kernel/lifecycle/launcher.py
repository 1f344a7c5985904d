"""Launch an instance: create its runner on a host, load the source, call ``__init__``, and later ``start``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from microkernel.errors import IsolationUnavailable, KernelError, NotPlainData, PluginDied, PluginLoadError
from microkernel.kernel.admission import gate, writable_overlaps
from microkernel.kernel.admission.approval_policy import ApprovalPolicy
from microkernel.kernel.admission.config_source import ConfigSource
from microkernel.kernel.admission.effective_config import is_common, resolve_secrets, secret_values, variables
from microkernel.kernel.admission.permissions import CONFINED
from microkernel.kernel.manifest import Determinism, Level, Manifest, Permissions
from microkernel.kernel.messaging.quota import Quota
from microkernel.kernel.ports import Exit, Host, LaunchSpec, Loader, Snapshot
from microkernel.kernel.registry.instance import Instance, InstanceOwner, kind_of
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.reporting.plugin_info import source_path
from microkernel.kernel.routing.ingress import Ingress
from microkernel.kernel.routing.registration import charge_quota
from microkernel.wire import codec, messages
from microkernel.wire.data_folder import folder_name
from microkernel.wire.failures import suffix_fields, to_error
from microkernel.wire.secrets import Secrets, size_of

_PHASES = {"load": "MK0112", "init": "MK0113", "start": "MK0201", "stop": "MK0208", "export_state": "MK0311"}
_PASSED_THROUGH = (PluginLoadError, PluginDied, IsolationUnavailable)
_LOG_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
# Most texts that a confined plugin may mark as secret (each line counts as one), and their characters.
_MOST_SECRETS = 256
_LONGEST_SECRETS = 64 * 1024


class StartupExit(Exception):
    """The instance exited before it was active."""

    def __init__(self, instance: Instance, exit: Exit) -> None:
        super().__init__(exit.reason)
        self.instance = instance
        self.exit = exit


def as_error(reason: StartupExit | KernelError) -> KernelError:
    """Return the error to report for an instance that did not become active."""
    if isinstance(reason, KernelError):
        return reason
    return PluginLoadError("MK0203", reason=reason.exit.reason, traceback=reason.exit.stack)


class Launcher:
    """Creates instances. Nothing else starts a process or a thread for a plugin.

    ``hosts`` returns the host of a level, or raises IsolationUnavailable. ``places`` are searched for plugins;
    ``own_files`` are the lock and the configuration, if they are files. ``project`` owns the folder around the data
    folders; empty if it needs no owner.
    """

    def __init__(
        self,
        registry: Registry,
        loader: Loader,
        hosts: Callable[[Level], Host],
        config: ConfigSource,
        data_dir: Path | None,
        approvals: ApprovalPolicy,
        ingress: Ingress,
        journal: Journal,
        places: Sequence[str],
        own_files: Sequence[str],
        project: str = "",
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._hosts = hosts
        self._config = config
        self._data_dir = data_dir
        self._project = project
        self._approvals = approvals
        self._ingress = ingress
        self._journal = journal
        self._places = places
        self._own_files = own_files

    def launch(
        self, record: PluginRecord, owner: InstanceOwner, manifest: Manifest, level: Level, snapshot: Snapshot | None
    ) -> Instance:
        """Launch the next generation: loaded and constructed, not started. ``owner`` is responsible for it.

        It runs the source as it is now, or a ``snapshot`` that was admitted before. Raises PluginLoadError and its kin,
        PluginHeld, StartupExit.
        """
        if snapshot is None:
            snapshot = self._loader.snapshot(record.found, self._peers(record), level)
            self._report_links(record, snapshot, level)
            permissions = self._approvals.admit(record.found, manifest, level, snapshot)
        else:
            permissions = self._approvals.effective(manifest, level)
        host = self._host(level)
        if host.level != "wasm" and manifest.determinism != Determinism():
            raise PluginLoadError("MK0128", level=host.level)
        if host.level in CONFINED:
            self._check_writable(record, permissions, is_new=snapshot is not record.snapshot)
        record.generation += 1
        record.candidate = instance = self._make_instance(record, owner, host, manifest, permissions, snapshot)
        self._accept_registrations(instance)
        record.candidate = None
        record.snapshot = snapshot
        return instance

    def _make_instance(
        self,
        record: PluginRecord,
        owner: InstanceOwner,
        host: Host,
        manifest: Manifest,
        permissions: Permissions,
        snapshot: Snapshot,
    ) -> Instance:
        """Have the host run the instance. It is loading when this returns."""
        secrets = Secrets()
        secrets.add(secret_values(manifest.config, os.environ))
        load = self._load_message(record, manifest, host.level, permissions, snapshot, sorted(secrets.values))
        spec = LaunchSpec(
            load,
            asdict(manifest.limits),
            self._secret_env_names(),
            permissions,
            source_path(record, snapshot),
            manifest.dependencies,
            manifest.determinism,
            self._writable_paths(),
        )
        return Instance(
            record.name,
            record.generation,
            host.level,
            manifest,
            snapshot,
            permissions,
            record.mailbox,
            Quota(kind_of),
            self._ingress.observe(record),
            owner,
            secrets,
            lambda instance: host.launch(spec, instance, instance),
            in_memory=host.level in ("thread", "process"),
        )

    def _accept_registrations(self, instance: Instance) -> None:
        """Wait until the instance has loaded, and check all that it registers. Raises what ``launch`` raises."""
        event = self._wait(instance, messages.Loaded, instance.manifest.limits.load, "MK0120")
        assert isinstance(event, messages.Loaded)
        for handler in event.handlers:
            gate.admit(instance.name, instance.permissions, messages.Subscribe(0, handler))
        charge_quota(instance, event)
        _check_secrets(instance, event.secrets)
        instance.secrets.add(event.secrets, in_any_mixture=False)
        instance.staged = event

    def start(self, instance: Instance, state: codec.Raw | None, from_version: str) -> None:
        """Pass its state to an instance and start it. Raises PluginLoadError, StartupExit."""
        instance.runner.send(messages.Start(state or messages.NOTHING, from_version))
        self._wait(instance, messages.Started, instance.manifest.limits.start, "MK0202")

    def _check_writable(self, record: PluginRecord, permissions: Permissions, *, is_new: bool) -> None:
        """Raise PluginLoadError MK0158 if a confined plugin's data folder overlaps the kernel's own files.

        An overlapping grant is the operator's decision, and only reported.
        """
        folder = str(self._data_dir / folder_name(record.name)) if self._data_dir else ""
        if folder and (other := self._exposed_by(folder)):
            raise PluginLoadError("MK0158", path=folder, other=other)
        for path in permissions.fs_write if is_new else ():
            if other := self._exposed_by(os.path.expanduser(path)):
                self._journal.report("warn", record.name, PluginLoadError("MK0425", path=path, other=other))

    def _exposed_by(self, folder: str) -> str:
        """Return a plugin's or a kernel's own path that writing below this folder could change; empty if none."""
        plugins = [record.found.path for record in self._registry if os.path.isabs(record.found.path)]
        places = [os.path.abspath(place) for place in self._places if os.path.exists(place)]
        return writable_overlaps.exposed(folder, places, [*plugins, *self._own_files])

    def _report_links(self, record: PluginRecord, snapshot: Snapshot, level: Level) -> None:
        """Report the links that lead out of the plugin's folder, except those reported before."""
        known = record.snapshot.leaving if record.snapshot is not None else ()
        for link in snapshot.leaving:
            if link not in known:
                path = os.path.join(snapshot.root, link)
                fields = {"path": path, "target": os.path.realpath(path), "level": level}
                self._journal.report("notice", record.name, PluginLoadError("MK0156", **fields))

    def _wait(self, instance: Instance, kind: type, seconds: float, too_late: str) -> object:
        event = instance.wait_for(kind, seconds)
        if isinstance(event, Exit):
            raise StartupExit(instance, event)
        if isinstance(event, messages.Failed):
            instance.start_failed = True
            raise load_error(event)
        if event is None:
            raise PluginLoadError(too_late, name=instance.name, seconds=seconds)
        return event

    def _secret_env_names(self) -> frozenset[str]:
        """Return the variables from which configurations read secrets. They are in no plugin's environment."""
        configs = [each.config for each in self._config.current().plugin.values()]
        configs += [record.manifest.config for record in self._registry]
        return frozenset(name for config in configs if config for name in variables(config) if not is_common(name))

    def _writable_paths(self) -> tuple[str, ...]:
        """Return all folders where any confined plugin may write, regardless of the order in which they start."""
        given = (self._approvals.writes(record.manifest, record.level) for record in list(self._registry))
        own = (str(self._data_dir),) if self._data_dir else ()
        return (*own, *(path for paths in given for path in paths))

    def _peers(self, record: PluginRecord) -> list[str]:
        return [name for name in self._registry.names() if name != record.name]

    def _host(self, level: Level) -> Host:
        try:
            return self._hosts(level)
        except IsolationUnavailable:
            for weaker in self._config.current().fallback:
                with suppress(IsolationUnavailable):
                    return self._hosts(weaker)
            raise

    def _load_message(
        self,
        record: PluginRecord,
        manifest: Manifest,
        level: Level,
        may: Permissions,
        snapshot: Snapshot,
        secrets: list[str],
    ) -> messages.Load:
        config = resolve_secrets(manifest.config, os.environ)
        return messages.Load(
            name=record.name,
            version=manifest.version,
            generation=record.generation,
            isolation=level,
            root=snapshot.root,
            entry=snapshot.entry,
            sources=dict(snapshot.sources),
            package=snapshot.package,
            peers=self._peers(record),
            config=codec.Raw(_encoded(config)),
            secrets=secrets,
            data_dir=str(self._data_dir / folder_name(record.name)) if self._data_dir else "",
            concurrency=manifest.concurrency,
            log_level=_LOG_LEVELS.get(self._config.current().log_level.upper(), 20),
            emits=_with_own(may.emit, record.name),
            listens=_listed(may.on),
            calls=_listed(may.call),
            reads=_with_own(may.data_read, record.name),
            writes=_with_own(may.data_write, record.name),
            project=self._project,
        )


def _check_secrets(instance: Instance, values: list[str]) -> None:
    """Raise PluginLoadError if a confined plugin has so many secrets that redacting its output would be slow."""
    if instance.level not in CONFINED:
        return
    texts, characters = size_of(values)
    if texts > _MOST_SECRETS or characters > _LONGEST_SECRETS:
        most = {"limit": _MOST_SECRETS, "longest": _LONGEST_SECRETS}
        raise PluginLoadError("MK0633", name=instance.name, texts=texts, characters=characters, **most)


def _listed(patterns: tuple[str, ...] | None) -> list[str] | None:
    return None if patterns is None else list(patterns)


def _with_own(patterns: tuple[str, ...] | None, name: str) -> list[str] | None:
    return None if patterns is None else [*patterns, f"{name}.**"]


def _encoded(config: dict[str, Any]) -> bytes:
    try:
        return codec.encode(config)
    except NotPlainData as error:
        error.fields["path"] = f"config{'' if error.path[:1] in '.[' else ' '}{error.path}"
        raise


def load_error(event: messages.Failed) -> KernelError:
    """Return the error to report for a Failed message."""
    failure = event.failure
    if failure.kind:
        error = to_error(failure, event.phase)
        return error if isinstance(error, _PASSED_THROUGH) else PluginLoadError(error.id, **error.fields)
    return PluginLoadError(
        _PHASES.get(event.phase, "MK0201"),
        kind=failure.type,
        reason=failure.message,
        traceback=failure.traceback,
        **suffix_fields(failure),
    )
