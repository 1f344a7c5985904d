"""What makes the subject an asynchronous one: written below ``subject.py`` in the same file."""

from __future__ import annotations

import asyncio

from tests.chaos.subject import DEEDS
from tests.chaos.subject import Plugin as Subject

# copied from here


class Plugin(Subject):
    """Its handlers interleave: each is suspended once before its deed and once after."""

    async def handle(self, event, id, do="", times=1, **more):
        self.tell("began", id, event.delivery)
        await asyncio.sleep(0)
        if event.delivery <= times:
            DEEDS[do](self, more)
        await asyncio.sleep(0.001)
        self.tell("done", id, event.delivery)
