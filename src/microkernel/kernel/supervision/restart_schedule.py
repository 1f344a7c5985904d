"""When plugins that exited are restarted, and how long each has been in backoff.

Applies ``restart_policy`` to the clock and the reactor's timers; which work a restart consists of is passed in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

from microkernel.kernel.ports import Clock, Exit
from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.supervision.restart_policy import RestartDecision, decide
from microkernel.wire.light_dataclasses import dataclass

# Seconds that a plugin which is not ready may request until its next start, and the longest wait without a request.
_MIN_RETRY, _MAX_RETRY = 0.1, 86_400.0
_MAX_WAIT = 60


@dataclass(slots=True)
class _Backoff:
    """Backoff of one plugin.

    ``cancel``: cancels the planned restart. ``since``: start of the present backoff. ``total``: seconds in backoff so
    far, which do not count in the supervision's period. ``due``: when it is started again. ``tries``: how often it was
    not ready since it was last active.
    """

    cancel: Callable[[], object] | None = None
    since: float = 0.0
    total: float = 0.0
    due: float = 0.0
    tries: int = 0


class RestartSchedule:
    """Planned restarts of plugins. Each method is called with the lock of the record held."""

    def __init__(self, reactor: Reactor, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock
        self._backoffs: WeakKeyDictionary[PluginRecord, _Backoff] = WeakKeyDictionary()

    def decide(self, record: PluginRecord, exit: Exit) -> RestartDecision:
        """Decide whether a plugin is restarted after an exit that happens now, and add the exit to its history."""
        now = self._clock.now() - self._backoff(record).total
        abnormal = exit.code != 0 or exit.signal is not None
        policy = record.manifest.supervision
        decision = decide(policy, record.history, now, abnormal=abnormal, jitter=_jitter(), uncharged=exit.uncharged)
        record.history = decision.history
        return decision

    def begin_backoff(self, record: PluginRecord) -> None:
        """Measure the backoff from now on."""
        self._backoff(record).since = self._clock.now()

    def plan(self, record: PluginRecord, delay: float, restart: Callable[[], object]) -> None:
        """Begin the backoff, and run ``restart`` on a separate thread in ``delay`` seconds."""
        self.begin_backoff(record)
        self._backoff(record).due = self._clock.now() + delay
        start = partial(self._reactor.beside, restart, f"{record.name}-restart")
        self._backoff(record).cancel = self._reactor.later(delay, start)

    def count_try(self, record: PluginRecord, requested: object) -> float:
        """Return the seconds until a plugin that is not ready is started again: those that it requested, else 1 s,
        which doubles with each try up to 60 s.

        The request comes from the worker. One that is not a number, or out of bounds, counts as none.
        """
        backoff = self._backoff(record)
        backoff.tries += 1
        if type(requested) in (int, float) and _MIN_RETRY <= requested <= _MAX_RETRY:  # type: ignore[operator]
            return float(requested)  # type: ignore[arg-type]
        return float(min(_MAX_WAIT, 2 ** min(backoff.tries - 1, 10)))

    def reset_tries(self, record: PluginRecord) -> None:
        """The plugin is ready now."""
        self._backoff(record).tries = 0

    def next_start(self, record: PluginRecord) -> float | None:
        """Return the seconds until a plugin in backoff, or that is not ready, is started again; None without a plan."""
        backoff = self._backoff(record)
        return max(0.0, backoff.due - self._clock.now()) if backoff.cancel is not None else None

    def end_backoff(self, record: PluginRecord) -> None:
        """Add the backoff to the total, because the plugin is restarted now."""
        backoff = self._backoff(record)
        backoff.cancel = None
        backoff.total += self._clock.now() - backoff.since

    def cancel(self, record: PluginRecord) -> None:
        """Cancel the planned restart. Does nothing if none is planned."""
        backoff = self._backoff(record)
        if backoff.cancel is not None:
            backoff.cancel()
            backoff.cancel = None

    def _backoff(self, record: PluginRecord) -> _Backoff:
        return self._backoffs.setdefault(record, _Backoff())


def _jitter() -> float:
    """Return a random number from 0 to 1. Not by ``random``, which cannot be loaded if the system has run out of
    something."""
    return int.from_bytes(os.urandom(4)) / 2**32
