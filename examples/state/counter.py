# /// script
# [tool.microkernel]
# version = "1.0"
# ///
"""Keep state over a reload with ``export_state`` and ``import_state``. Waiting messages are kept in any case.

mk run examples/state        then:    emit hit    call counter.hits    reload counter    call counter.hits
Change ``STEP`` and ``version`` before the reload. Or break the syntax: the old code continues, and the error is shown.
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
        """Do nothing. If there was a state, ``import_state`` was called before."""

    def export_state(self) -> Any:
        """Return the state: any value that could be a payload."""
        return {"count": self.count}

    def import_state(self, state: Any, from_version: str) -> None:
        """Take the state over, converting it if ``from_version``, the version that exported it, needs that."""
        self.count = state["count"]
        self.api.emit("counter.took_over", count=self.count, from_version=from_version)

    @on("hit")
    def hit(self) -> None:
        self.count += STEP

    @expose
    def hits(self) -> int:
        return self.count

    def stop(self) -> None:
        """Do nothing. ``export_state`` was called before."""
