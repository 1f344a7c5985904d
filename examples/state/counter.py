# /// script
# [tool.microkernel]
# version = "1.0"
# ///
"""State over a reload. Look at: ``export_state`` and ``import_state``; what waits in the mailbox is kept anyway.

mk run examples/state        then:    emit hit    call counter.hits    reload counter    call counter.hits
Change ``STEP`` and ``version`` before the reload, or break the syntax: then the old code goes on, and is told so.
"""

from typing import Any

from microkernel import IPlugin, PluginAPI, expose, on

STEP = 1


class Plugin(IPlugin):
    """Counts hits. A crash loses the count, a reload does not."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.count = 0

    def start(self) -> None:
        """``import_state`` was called before, if there was a state."""

    def export_state(self) -> Any:
        """Any value that could be a payload."""
        return {"count": self.count}

    def import_state(self, state: Any, from_version: str) -> None:
        """``from_version`` is the version of the plugin that exported: the place for conversions."""
        self.count = state["count"]
        self.api.emit("counter.took_over", count=self.count, from_version=from_version)

    @on("hit")
    def hit(self) -> None:
        self.count += STEP

    @expose
    def hits(self) -> int:
        return self.count

    def stop(self) -> None:
        """Called after ``export_state``."""
