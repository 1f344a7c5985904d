# /// script
# [tool.microkernel]
# requires = ["oracle"]
# ///
"""Asks many questions at once. Look at: ``acall`` waits without occupying the plugin, where ``call`` would.

mk run examples/asynchronous     then:    emit wonder questions='["rain", "snow", "tea"]'
"""

import asyncio

from microkernel import IPlugin, PluginAPI, on


class Plugin(IPlugin):
    """Ten questions of 0.1 s take it 0.1 s, not 1 s."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api

    def start(self) -> None:
        """Events come after this has returned."""

    @on("wonder")
    async def wonder(self, questions: list[str]) -> None:
        answers = await asyncio.gather(*(self.api.acall("oracle.answer", question) for question in questions))
        self.api.emit("crowd.answered", answers=answers)

    @on("ping")
    async def ping(self, number: int) -> None:
        """Answered while ``wonder`` still waits."""
        self.api.emit("crowd.pong", number=number)

    def stop(self) -> None:
        """Nothing to clean up."""
