"""Answer slowly. ``async def`` handlers of one plugin interleave on one thread, at each ``await``."""

import asyncio

from microkernel import IPlugin, PluginAPI, expose


class Plugin(IPlugin):
    """Takes time for each question, and answers many at once."""

    def __init__(self, api: PluginAPI) -> None:
        self.thinking = 0
        self.most = 0

    async def start(self) -> None:
        """Do nothing. ``start`` and ``stop`` may be async too."""

    @expose
    async def answer(self, question: str, seconds: float = 0.1) -> str:
        self.thinking += 1
        self.most = max(self.most, self.thinking)
        await asyncio.sleep(seconds)  # the other questions continue here
        self.thinking -= 1
        return f"{question}? Perhaps."

    @expose
    def most_at_once(self) -> int:
        return self.most

    async def stop(self) -> None:
        """Do nothing. Handlers in progress have ended before ``stop`` is called."""
