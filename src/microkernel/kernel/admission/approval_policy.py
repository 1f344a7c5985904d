"""Decide which plugins may run at the confined levels, and with which permissions.

The operator decides: in the configuration, by ``grants``, or by approvals, which the lock file remembers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from microkernel.errors import ConfigError, ManifestError, PluginHeld, valid_text
from microkernel.kernel.admission import limit_bounds, permissions
from microkernel.kernel.admission.approval_texts import unmistakable
from microkernel.kernel.admission.config_source import ConfigSource
from microkernel.kernel.admission.effective_config import cap_limits, fixed_limits, merge, variables
from microkernel.kernel.admission.permissions import CONFINED, Grant, Review, Wish
from microkernel.kernel.manifest import NO_PERMISSIONS, Approval, Level, Manifest, Permissions
from microkernel.kernel.ports import Lock, PluginCandidate, Snapshot

# Files that an approval lists by name. For a plugin with more, only the fact of a change is known.
MOST_FILES = 200


class ApprovalPolicy:
    """Reviews and approves plugins. Without a ``lock``, approvals last as long as the kernel."""

    def __init__(
        self,
        config: ConfigSource,
        given: Mapping[str, Grant],
        lock: Lock | None,
        complain: Callable[[str, str, ConfigError], object],
        *,
        has_level: bool = False,
    ) -> None:
        """Create the policy. ``has_level``: the embedding program has chosen one level for all plugins."""
        self._config = config
        self._given = given
        self._lock = lock
        self._complain = complain
        self._once: dict[str, Approval] = {}
        self._has_level = has_level

    def admit(self, found: PluginCandidate, manifest: Manifest, level: Level, snapshot: Snapshot) -> Permissions:
        """Return the permissions a plugin runs with.

        Raises PluginHeld if the operator has to approve it first, ManifestError MK0134 if it was approved at a
        confined level and would leave it.
        """
        if level not in CONFINED:
            self._check_level(found, level)
        else:
            try:
                review = self.review(found, manifest, level, snapshot)
            except ConfigError as broken:
                raise PluginHeld(broken.id, **broken.fields) from None
            if review.is_held:
                raise _held(review)
            if review.approved_version not in ("", manifest.version):
                self._follow(found, manifest, snapshot)
        self._report_limits(found, manifest, level)
        return self.effective(manifest, level)

    def _check_level(self, found: PluginCandidate, level: Level) -> None:
        """Raise ManifestError if a plugin approved at a confined level would leave it.

        Neither a changed manifest nor a new name may move it to a level of trust. Only the operator, by configuration,
        or the embedding program may.
        """
        own = self._config.current().plugin.get(found.name)
        if self._has_level or (own is not None and own.isolation is not None) or not self._is_known(found):
            return
        reason = f"it was approved at a confined level, and would run at {level}"
        cure = f'; if that is meant, write isolation = "{level}" below [plugin.{found.name}]'
        raise ManifestError("MK0134", name=found.name, reason=reason, cure=cure)

    def _is_known(self, found: PluginCandidate) -> bool:
        """Return whether anything at exactly this path was approved."""
        try:
            kept = self._lock.read() if self._lock is not None else {}
        except ConfigError:
            kept = {}
        return place_of(found.path) in {approval.path for approval in (*kept.values(), *self._once.values())}

    def effective(self, manifest: Manifest, level: Level) -> Permissions:
        """Return the permissions a plugin has once it is admitted."""
        words = list(self._words(manifest.name))
        if level in CONFINED:
            return permissions.confined(manifest.permissions, words)
        return permissions.trusted(manifest.permissions, words[0] if words else None)

    def writes(self, manifest: Manifest, level: Level) -> tuple[str, ...]:
        """Return the folders where a confined plugin may write, as far as the operator allows, running or not."""
        requested = self.effective(manifest, level).fs_write if level in CONFINED else ()
        if not requested:
            return ()
        try:
            approval = self._approval(manifest.name)
        except ConfigError:
            return requested
        given = permissions.union([self._operators(manifest), *([approval.permissions] if approval else [])]).fs_write
        return tuple(path for path in requested if given is None or path in given)

    def review(self, found: PluginCandidate, manifest: Manifest, level: Level, snapshot: Snapshot) -> Review:
        """Compare the requests of a plugin with its approval. Raises ConfigError MK0414 if the lock is unreadable."""
        name, version, path = manifest.name, manifest.version, found.path
        requested = self._wishes(found, manifest) if level in CONFINED else []
        left = permissions.missing(requested, self._operators(manifest))
        approval = self._compared(name, is_needed=bool(left)) if level in CONFINED else None
        elsewhere = "" if approval is None or _is_of(approval, found) else approval.path
        approved = approval.permissions if approval is not None and not elsewhere else NO_PERMISSIONS
        altered = approval is not None and not elsewhere and self._is_altered(snapshot, version, approval)
        return Review(
            name, version, level, path, snapshot.digest, permissions.lines(requested),
            approved_path=elsewhere,
            added=permissions.lines(permissions.missing(left, approved)),
            removed=permissions.lines(
                permissions.missing(permissions.requested(name, approved), permissions.from_requests(requested))
            ),
            approved_version=approval.version if approval is not None else "",
            altered=altered,
            changed=permissions.changed_files(snapshot, approval) if altered and approval is not None else (),
        )  # fmt: skip

    def approve(
        self, found: PluginCandidate, manifest: Manifest, level: Level, snapshot: Snapshot, *, remember: bool
    ) -> Review:
        """Approve all requests of a plugin, for these files. Return the review from before the approval.

        Raises ConfigError MK0414 if the approval cannot be stored; then nothing is approved.
        """
        review = self.review(found, manifest, level, snapshot)
        is_pinned = self._config.current().approvals.pin == "bytes" and level in CONFINED
        if not review.is_fine or (is_pinned and self._approval(manifest.name) is None):
            granted = permissions.from_requests(self._wishes(found, manifest))
            approval = Approval(manifest.version, snapshot.digest, granted, _few(snapshot), place_of(found.path))
            self._keep(manifest.name, approval, remember=remember)
        return review

    def _keep(self, name: str, approval: Approval, *, remember: bool) -> None:
        if remember and self._lock is not None:
            self._lock.keep(name, approval)
            self._once.pop(name, None)
        else:
            self._once[name] = approval

    def _follow(self, found: PluginCandidate, manifest: Manifest, snapshot: Snapshot) -> None:
        """Move the approval to a new version that requests nothing new. From now on its files must not change."""
        approval = self._approval(manifest.name)
        if approval is None:
            return
        place = place_of(found.path)
        newer = Approval(manifest.version, snapshot.digest, approval.permissions, _few(snapshot), place)
        try:
            self._keep(manifest.name, newer, remember=manifest.name not in self._once)
        except ConfigError as trouble:
            self._once[manifest.name] = newer
            self._complain("warn", manifest.name, trouble)

    def _report_limits(self, found: PluginCandidate, manifest: Manifest, level: Level) -> None:
        """Report values of the manifest that take effect differently from how they were set."""
        asked = merge(found.manifest, self._config.current())
        bounded = cap_limits(asked, self._config.current(), level, None)
        for change in limit_bounds.changes(asked, bounded):
            self._complain("notice", manifest.name, ConfigError("MK0138", asked=change.asked, holds=change.holds))
        if lowered := limit_bounds.changes(bounded, manifest):
            fields = {key: ", ".join(getattr(change, key) for change in lowered) for key in ("asked", "holds")}
            self._complain("warn", manifest.name, ConfigError("MK0422", name=manifest.name, **fields))

    def limits(self, found: PluginCandidate) -> tuple[str, ...] | None:
        """Return the limits above the defaults that a plugin may have, each as a line; None for all."""
        given = self._operators(found.manifest).limits
        try:
            approval = self._approval(found.manifest.name)
        except ConfigError:  # reported for the plugins that cannot run without the lock
            approval = None
        if given is None or approval is None or not _is_of(approval, found):
            return given
        return None if approval.permissions.limits is None else (*given, *approval.permissions.limits)

    def has_approved(self, found: PluginCandidate) -> bool:
        """Return whether the plugin of this name at exactly this path was approved; False if the lock is unreadable."""
        try:
            approval = self._approval(found.name)
        except ConfigError:
            return False
        return approval is not None and approval.path == place_of(found.path)

    def _compared(self, name: str, *, is_needed: bool) -> Approval | None:
        """Return the approval that a plugin is compared with; None if it needs none.

        A plugin that the operator decides about by name needs none. If a plugin requests nothing, only the path of its
        name is compared, and an unreadable lock is ignored.
        """
        if is_needed or self._config.current().approvals.pin == "bytes":
            return self._approval(name)
        if any(self._words(name)):
            return None
        try:
            return self._approval(name)
        except ConfigError:
            return None

    def _is_altered(self, snapshot: Snapshot, version: str, approval: Approval) -> bool:
        # Approvals of an older lock have no path. Then the files must be the same.
        pin = self._config.current().approvals.pin if approval.path else "bytes"
        return permissions.is_altered(snapshot, version, approval, pin)

    def _approval(self, name: str) -> Approval | None:
        if name in self._once:
            return self._once[name]
        return self._lock.read().get(name) if self._lock is not None else None

    def _words(self, name: str) -> Iterator[Grant]:
        """Yield the operator's grants for a plugin, the one that takes precedence first."""
        if name in self._given:
            yield self._given[name]
        own = self._config.current().plugin.get(name)
        if own is not None and own.permissions is not None:
            yield own.permissions

    def _operators(self, manifest: Manifest) -> Permissions:
        declared = replace(manifest.permissions or NO_PERMISSIONS, limits=None)
        return permissions.union(declared if word == "declared" else word for word in self._words(manifest.name))

    def _wishes(self, found: PluginCandidate, manifest: Manifest) -> list[Wish]:
        """Return all requests of a plugin: declared permissions, environment variables and raised limits.

        The variables are those that the manifest's own configuration reads. Only the operator's configuration may read
        variables without approval.
        """
        own = self._config.current().plugin.get(manifest.name)
        theirs = {k: v for k, v in found.manifest.config.items() if own is None or k not in own.config}
        requested = permissions.requested(manifest.name, self.effective(manifest, "sandbox"))
        requested += [("env", name) for name in sorted(variables(theirs))]
        config = self._config.current()
        raised = limit_bounds.raised(merge(found.manifest, config), fixed_limits(config, manifest.name))
        return list(dict.fromkeys([*requested, *(("limits", line) for line in raised)]))


def place_of(path: str) -> str:
    """Return the path that identifies a plugin: its own name, which may be a link, in its folder's real path."""
    if path.startswith("entry-point:"):
        return path
    folder, name = os.path.split(path)
    return valid_text(os.path.join(os.path.realpath(folder), name))


def _is_of(approval: Approval, found: PluginCandidate) -> bool:
    return approval.path in ("", place_of(found.path))


def _few(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.files if len(snapshot.files) <= MOST_FILES else {}


def _held(review: Review) -> PluginHeld:
    names = {"name": review.name, "version": review.version}
    if review.approved_path:
        path, approved = unmistakable(review.path), unmistakable(review.approved_path)
        return PluginHeld("MK0424", **names, path=path, approved=approved)
    if review.added:
        return PluginHeld("MK0412", **names, diff=_enumerate(review.difference))
    files = _enumerate(map(unmistakable, review.changed)) or "its files"
    return PluginHeld("MK0413", **names, files=files)


def _enumerate(lines: Iterable[str]) -> str:
    """Join the items in one line, with their commas escaped, so that each item remains recognizable."""
    return ", ".join(line.replace(",", "\\x2c") for line in lines)
