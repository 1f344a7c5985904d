"""Use timers and background work. ``@every`` and ``after`` run like handlers, one at a time; ``spawn`` runs apart.

mk run examples/timers       then:    emit alarm.set seconds=2 text=tea    and:    stop ticker
"""

from functools import partial

from microkernel import IPlugin, PluginAPI, every, on


class Plugin(IPlugin):
    """Ticks, rings, and works in the background until it is stopped."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.beats = 0

    def start(self) -> None:
        self.api.spawn(self.work)

    @every(0.05)
    def beat(self) -> None:
        """Count a beat. A beat that is due while the previous one still runs is skipped and not made up for."""
        self.beats += 1
        self.api.emit("ticker.beat", number=self.beats)

    @on("alarm.set")
    def set_alarm(self, seconds: float, text: str) -> None:
        self.api.after(seconds, partial(self.api.emit, "alarm.rings", text=text))

    def work(self) -> None:
        """Work in a separate thread. Unlike ``time.sleep``, ``api.sleep`` ends early when the plugin is to stop."""
        steps = 0
        while self.api.is_active:
            steps += 1
            self.api.emit("ticker.worked", steps=steps)
            if not self.api.sleep(0.05):
                break

    def stop(self) -> None:
        self.api.emit("ticker.stopped", beats=self.beats)
