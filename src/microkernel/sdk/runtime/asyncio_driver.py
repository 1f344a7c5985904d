"""Drive a runtime inside an asyncio event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LoopDriver:
    """Calls ``turn`` whenever the channel is readable or a timer is due, until it returns a negative number.

    It is not a task, because a plugin can cancel every task (``asyncio.all_tasks``) and stop the loop; neither ends the
    driver or the plugin.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, turn: Callable[[], float | None]) -> None:
        self._loop = loop
        self._fd = fd
        self._turn = turn
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._ended = False

    def run(self) -> None:
        """Run the loop until the last turn. Raises what a turn raised. Callbacks in the loop have a copy of the
        caller's context."""
        self._loop.add_reader(self._fd, self.turn)
        self._loop.call_soon(self.turn)
        try:
            while not self._ended:
                self._loop.run_forever()
        finally:
            self._loop.remove_reader(self._fd)
            self._forget_timer()
        if self._error is not None:
            raise self._error

    def turn(self) -> None:
        """Take a turn now. On the loop's thread."""
        if self._ended:
            return
        self._forget_timer()
        try:
            wait = self._turn()
        except BaseException as error:  # asyncio would swallow it, unless it is SystemExit
            self._error = error
            wait = -1.0
        if wait is not None and wait < 0:
            self._ended = True
            self._loop.stop()
        elif wait is not None:
            self._timer = self._loop.call_later(wait, self.turn)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
