"""Filters file system notifications down to real, settled changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .files import FileDigests, Stamp

# Seconds without a change after which a doubtful file counts as complete and a missing file as removed. Editors save in
# several steps, and on a busy machine the writer may wait long between two of them.
_GRACE = {"doubtful": 0.25, "gone": 0.2}
# Seconds between two checks of a doubtful file, so that a completed file is reloaded without delay.
_STEP = 0.025


@dataclass(slots=True)
class SettledChanges:
    """Files that have changed, and files that are gone."""

    changed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)


class ChangeDebouncer:
    """Holds changed files until it is clear what happened to them."""

    def __init__(self, digests: FileDigests) -> None:
        self._digests = digests
        # By path, the file's stamp when it was first seen in its present state, and the time.
        self._since: dict[str, tuple[Stamp | None, float] | None] = {}

    def add(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._since.setdefault(path, None)

    def settle(self, now: float) -> SettledChanges:
        """Return the settled changes. They are recorded, so that each is reported once."""
        settled = SettledChanges()
        for path in list(self._since):
            status = self._digests.check(path)
            if status in _GRACE and not self._is_over(path, now, _GRACE[status]):
                continue
            del self._since[path]
            if status == "gone":
                settled.gone.add(path)
            elif status != "same":
                self._digests.record(path)
                settled.changed.add(path)
        return settled

    def _is_over(self, path: str, now: float, grace: float) -> bool:
        """Return whether the file has been unchanged for its grace period. Each further change restarts the period."""
        stamp, since = self._digests.stamp(path), self._since[path]
        if since is None or since[0] != stamp:
            self._since[path] = since = (stamp, now)
        return now - since[1] >= grace

    @property
    def due(self) -> float | None:
        """Seconds until ``settle`` is to be called again if nothing happens before; None if no file is held."""
        return _STEP if self._since else None
