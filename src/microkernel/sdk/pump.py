"""A runtime's turns inside an asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LoopPump:
    """Takes a turn whenever the channel is readable or a timer is due, until a turn says that it was the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, turn: Callable[[], float | None]) -> None:
        self._loop = loop
        self._fd = fd
        self._turn = turn
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] = loop.create_future()

    async def run(self) -> None:
        self._loop.add_reader(self._fd, self._pump)
        try:
            self._pump()
            await self._ended
        finally:
            self._loop.remove_reader(self._fd)
            self._forget_timer()

    def end(self) -> None:
        """This was the last turn."""
        if not self._ended.done():
            self._ended.set_result(None)

    def _pump(self) -> None:
        if self._ended.done():
            return
        self._forget_timer()
        try:
            wait = self._turn()
        except BaseException as death:  # asyncio would swallow what is no Exception
            self._ended.set_exception(death)
            return
        if wait is not None and wait < 0:
            self.end()
        elif wait is not None:
            self._timer = self._loop.call_later(wait, self._pump)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
