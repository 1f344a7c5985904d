# /// script
# [tool.microkernel]
# version = "1.0"
# ///
"""Add up the counts. Offers four methods, and counts each path once although results may arrive twice.

mk run examples/stdlib_index/plugins      then:    call aggregator.totals    call aggregator.top 5 by=functions
"""

from collections import Counter
from typing import Any

from microkernel import IPlugin, PluginAPI, expose, on


class Plugin(IPlugin):
    """Knows which files exist and what was counted in them."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.found: set[str] = set()
        self.counted: dict[str, dict[str, int]] = {}
        self.shares: Counter[str] = Counter()
        self.again = 0
        self.expected = -1  # unknown until the walk is done

    def start(self) -> None:
        """Events arrive after this method has returned."""

    @on("file.found.*")
    def note(self, path: str) -> None:
        self.found.add(path)

    @on("walk.done")
    def note_end(self, files: int) -> None:
        self.expected = files
        self.emit_if_complete()

    @on("file.counted")
    def add(self, path: str, by: str, counts: dict[str, int]) -> None:
        """Add a result, unless its path was counted already.

        A parser may crash after it has emitted a result and before its event is complete. Its next generation then
        emits the result again: delivery is at least once, so the receiver checks the key.
        """
        if path in self.counted:
            self.again += 1
            return
        self.counted[path] = counts
        self.shares[by] += 1
        self.emit_if_complete()

    def emit_if_complete(self) -> None:
        if len(self.counted) == self.expected:
            self.api.emit("index.complete", **self.totals())

    @expose
    def totals(self) -> dict[str, int]:
        """Return the sums of all counts."""
        total: Counter[str] = Counter()
        for counts in self.counted.values():
            total.update(counts)
        return dict(total)

    @expose
    def top(self, n: int = 10, by: str = "lines") -> list[tuple[str, int]]:
        """Return the files with the most lines, functions, classes, imports or todos."""
        sizes = ((path, counts.get(by, 0)) for path, counts in self.counted.items())
        return sorted(sizes, key=lambda each: (-each[1], each[0]))[:n]

    @expose
    def missing(self) -> list[str]:
        """Return the files that were found but not counted so far."""
        return sorted(self.found - self.counted.keys())

    @expose
    def progress(self) -> dict[str, Any]:
        """Return how many files were counted, by which parsers, and how many results arrived twice."""
        return {"counted": len(self.counted), "again": self.again, "shares": dict(self.shares)}

    def export_state(self) -> dict[str, Any]:
        return {
            "found": sorted(self.found),
            "counted": self.counted,
            "shares": dict(self.shares),
            "again": self.again,
            "expected": self.expected,
        }

    def import_state(self, state: dict[str, Any], from_version: str) -> None:
        self.found = set(state["found"])
        self.counted = state["counted"]
        self.shares = Counter(state["shares"])
        self.again = state["again"]
        self.expected = state["expected"]

    def stop(self) -> None:
        """There is nothing to clean up."""
