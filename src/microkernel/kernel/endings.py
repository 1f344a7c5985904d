"""How an instance is made to end: asked, then insisted on, then killed, each with its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from microkernel.kernel.births import load_error
from microkernel.kernel.instance import Instance
from microkernel.kernel.journal import Journal
from microkernel.kernel.ports import Exit
from microkernel.wire import messages

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.2
_FAREWELL = 1.0
"""Seconds for who has failed, and is ending, to be gone: an exception in the middle of that only makes noise."""
_KILL_PATIENCE = 5.0
"""Seconds for a killed place to be gone; a process always is, a thread may not be."""


class Endings:
    """Waits; not for a thread of a plugin, nor for the reactor's."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def retire(self, instance: Instance, *, export: bool) -> tuple[messages.Stopped | None, bool]:
        """Have an instance stop: what it said at the end, and whether it has ended."""
        instance.dismissed = True
        instance.record.mailbox.paused = True
        instance.record.retiring = instance
        limits = instance.manifest.limits
        instance.place.send(messages.Stop(export))
        stopped = instance.wait_for(messages.Stopped, limits.stop, self._on_stop_trouble(instance))
        instance.record.retiring = None
        if stopped is None:
            self._journal.announce("MK0209", "warn", instance.name, seconds=limits.stop)
        patience = 0.0 if stopped is None else min(2.0, limits.stop)
        ended = instance.exit is not None or self._wait_exit(instance, patience) or self.end(instance) is not None
        return (stopped if isinstance(stopped, messages.Stopped) else None), ended

    def _on_stop_trouble(self, instance: Instance) -> Callable[[object], None]:
        def tell(news: object) -> None:
            if isinstance(news, messages.Failed):
                self._journal.report("warn", instance.name, load_error(news))

        return tell

    def end(self, instance: Instance, *, gently: bool = True) -> Exit | None:
        """Insist, then kill; None if nothing helped. Callers of the instance are told before."""
        instance.cut_off()
        if instance.has_failed:
            self._wait_exit(instance, _FAREWELL)
        if gently and instance.exit is None:
            self._press(instance, instance.place.insist, instance.manifest.limits.insist)
        if instance.exit is None:
            self._press(instance, instance.place.kill, _KILL_PATIENCE)
        return instance.exit

    def _press(self, instance: Instance, press: Callable[[], None], seconds: float) -> None:
        """Again and again, each time after a longer pause: what is ending needs time for that."""
        until, pause = time.monotonic() + seconds, _FIRST_PAUSE
        while instance.exit is None and time.monotonic() < until:
            press()
            self._wait_exit(instance, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _wait_exit(self, instance: Instance, seconds: float) -> bool:
        instance.gone.wait(seconds)
        return instance.exit is not None
