"""From paths that something was done to, to changes that are worth something."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .files import FileDigests, Stamp

_GRACE = {"doubtful": 0.25, "gone": 0.2}
"""Seconds without a change for a file to be written to its end, or to be there again: editors save in several steps,
and on a busy machine whoever writes may wait long for its turn between two of them."""
_STEP = 0.025
"""Seconds between two looks at a file in doubt: one that is written to its end meanwhile is not kept waiting."""


@dataclass(slots=True)
class SettledChanges:
    """Files that are other than before, and files that are gone."""

    changed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)


class ChangeDebouncer:
    """Files under suspicion until it is known what was done to them."""

    def __init__(self, digests: FileDigests) -> None:
        self._digests = digests
        self._since: dict[str, tuple[Stamp | None, float] | None] = {}
        """What the file was when it was first seen to be so, and at what moment."""

    def add(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._since.setdefault(path, None)

    def judge(self, now: float) -> SettledChanges:
        """What is known by now; taken note of, so that it is told once."""
        verdict = SettledChanges()
        for path in list(self._since):
            status = self._digests.check(path)
            if status in _GRACE and not self._is_over(path, now, _GRACE[status]):
                continue
            del self._since[path]
            if status == "gone":
                verdict.gone.add(path)
            elif status != "same":
                self._digests.record(path)
                verdict.changed.add(path)
        return verdict

    def _is_over(self, path: str, now: float, grace: float) -> bool:
        """A file that is still being changed begins its grace again with each change."""
        stamp, since = self._digests.stamp(path), self._since[path]
        if since is None or since[0] != stamp:
            self._since[path] = since = (stamp, now)
        return now - since[1] >= grace

    @property
    def due(self) -> float | None:
        """Seconds until they are to be judged again, if nothing happens before; None where there are none."""
        return _STEP if self._since else None
