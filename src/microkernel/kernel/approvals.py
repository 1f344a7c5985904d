"""Who may run with what at the confined levels: the operator's word, by configuration, by ``grants`` or by the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from microkernel.errors import ConfigError, PluginHeld
from microkernel.kernel import grants
from microkernel.kernel.grants import CONFINED, Grant, Review, Wish
from microkernel.kernel.manifest import NO_PERMISSIONS, Approval, KernelConfig, Level, Manifest, Permissions
from microkernel.kernel.ports import Found, Lock, Snapshot
from microkernel.kernel.settings import variables

MOST_FILES = 200
"""How many files of a plugin an approval lists by name; of more, only that something changed is known."""


class Approvals:
    """``lock`` None: what is approved lasts as long as the kernel."""

    def __init__(
        self,
        config: KernelConfig,
        given: Mapping[str, Grant],
        lock: Lock | None,
        complain: Callable[[str, ConfigError], object],
    ) -> None:
        self.config = config
        self._given = given
        self._lock = lock
        self._complain = complain
        self._once: dict[str, Approval] = {}

    def admit(self, found: Found, manifest: Manifest, level: Level, snapshot: Snapshot) -> Permissions:
        """What it may do. Raises PluginHeld where somebody has to approve it first."""
        if level in CONFINED:
            try:
                review = self.review(found, manifest, level, snapshot)
            except ConfigError as broken:
                raise PluginHeld(broken.id, **broken.fields) from None
            if not review.is_fine:
                raise _held(review)
            if review.approved_version not in ("", manifest.version):
                self._follow(manifest, snapshot)
        return self.effective(manifest, level)

    def effective(self, manifest: Manifest, level: Level) -> Permissions:
        """What it may do once it was let in."""
        words = list(self._words(manifest.name))
        if level in CONFINED:
            return grants.confined(manifest.permissions, words)
        return grants.trusted(manifest.permissions, words[0] if words else None)

    def writes(self, manifest: Manifest, level: Level) -> tuple[str, ...]:
        """The folders in which a confined plugin may write, as far as the operator let it; whether it runs or not."""
        wanted = self.effective(manifest, level).fs_write if level in CONFINED else ()
        if not wanted:
            return ()
        try:
            approval = self._approval(manifest.name)
        except ConfigError:
            return wanted
        given = grants.union([self._operators(manifest), *([approval.permissions] if approval else [])]).fs_write
        return tuple(path for path in wanted if given is None or path in given)

    def review(self, found: Found, manifest: Manifest, level: Level, snapshot: Snapshot) -> Review:
        """What it asks for beside what was approved. Raises ConfigError MK0414 for a lock that cannot be read."""
        name, version, path = manifest.name, manifest.version, found.path
        wanted = self._wishes(found, manifest) if level in CONFINED else []
        left = grants.missing(wanted, self._operators(manifest))
        approval = self._approval(name) if left else None
        approved = approval.permissions if approval is not None else NO_PERMISSIONS
        altered = approval is not None and grants.is_altered(snapshot, version, approval)
        return Review(
            name, version, level, path, snapshot.digest, grants.lines(wanted),
            added=grants.lines(grants.missing(left, approved)),
            removed=grants.lines(grants.missing(grants.wishes(name, approved), grants.of_wishes(wanted))),
            approved_version=approval.version if approval is not None else "",
            altered=altered,
            changed=grants.changed_files(snapshot, approval) if altered and approval is not None else (),
        )  # fmt: skip

    def approve(self, found: Found, manifest: Manifest, level: Level, snapshot: Snapshot, *, remember: bool) -> Review:
        """All that it asks for, for these files; the Review is of before. Raises ConfigError MK0414 where it cannot be
        remembered; then nothing is approved."""
        review = self.review(found, manifest, level, snapshot)
        if review.asked and not review.is_fine:
            permissions = grants.of_wishes(self._wishes(found, manifest))
            approval = Approval(manifest.version, snapshot.digest, permissions, _few(snapshot))
            self._keep(manifest.name, approval, remember=remember)
        return review

    def _keep(self, name: str, approval: Approval, *, remember: bool) -> None:
        if remember and self._lock is not None:
            self._lock.keep(name, approval)
            self._once.pop(name, None)
        else:
            self._once[name] = approval

    def _follow(self, manifest: Manifest, snapshot: Snapshot) -> None:
        """A new version that asks for no more is let in; from now on it is its files that must not change."""
        approval = self._approval(manifest.name)
        if approval is None:
            return
        newer = Approval(manifest.version, snapshot.digest, approval.permissions, _few(snapshot))
        try:
            self._keep(manifest.name, newer, remember=manifest.name not in self._once)
        except ConfigError as trouble:
            self._once[manifest.name] = newer
            self._complain(manifest.name, trouble)

    def _approval(self, name: str) -> Approval | None:
        if name in self._once:
            return self._once[name]
        return self._lock.read().get(name) if self._lock is not None else None

    def _words(self, name: str) -> Iterator[Grant]:
        """What the operator said of a plugin, the most pressing first."""
        if name in self._given:
            yield self._given[name]
        own = self.config.plugin.get(name)
        if own is not None and own.permissions is not None:
            yield own.permissions

    def _operators(self, manifest: Manifest) -> Permissions:
        declared = manifest.permissions or NO_PERMISSIONS
        return grants.union(declared if word == "declared" else word for word in self._words(manifest.name))

    def _wishes(self, found: Found, manifest: Manifest) -> list[Wish]:
        """What is declared, and the variables its own configuration reads: only the operator's may do so freely."""
        own = self.config.plugin.get(manifest.name)
        theirs = {k: v for k, v in found.manifest.config.items() if own is None or k not in own.config}
        wanted = grants.wishes(manifest.name, self.effective(manifest, "sandbox"))
        return list(dict.fromkeys([*wanted, *(("env", name) for name in sorted(variables(theirs)))]))


def _few(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.files if len(snapshot.files) <= MOST_FILES else {}


def _held(review: Review) -> PluginHeld:
    names = {"name": review.name, "version": review.version}
    if review.added:
        return PluginHeld("MK0412", **names, diff=", ".join(review.difference))
    files = ", ".join(review.changed) or "its files"
    return PluginHeld("MK0413", **names, files=files)
