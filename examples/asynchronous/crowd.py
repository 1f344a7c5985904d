# /// script
# [tool.microkernel]
# requires = ["oracle"]
# ///
"""Ask many questions at once. ``acall`` waits without blocking the plugin; ``call`` would block it.

mk run examples/asynchronous     then:    emit wonder questions='["rain", "snow", "tea"]'
"""

import asyncio

from microkernel import IPlugin, PluginAPI, on


class Plugin(IPlugin):
    """Asks ten questions of 0.1 s each in 0.1 s."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api

    def start(self) -> None:
        """Events arrive after this method has returned."""

    @on("wonder")
    async def wonder(self, questions: list[str]) -> None:
        answers = await asyncio.gather(*(self.api.acall("oracle.answer", question) for question in questions))
        self.api.emit("crowd.answered", answers=answers)

    @on("ping")
    async def ping(self, number: int) -> None:
        """Answer while ``wonder`` is still waiting."""
        self.api.emit("crowd.pong", number=number)

    def stop(self) -> None:
        """There is nothing to clean up."""
