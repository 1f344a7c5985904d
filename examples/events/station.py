"""Emit events. ``emit`` does not wait for handlers, and this plugin does not know its subscribers.

mk run examples/events       then:    emit measured city=Oslo celsius=-4.5
"""

from microkernel import IPlugin, PluginAPI, on


class Plugin(IPlugin):
    """Turns measurements into weather events, with a topic for each city."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api

    def start(self) -> None:
        self.api.say.explain("send me: emit measured city=Oslo celsius=-4.5")

    @on("measured")
    def publish(self, city: str, celsius: float) -> None:
        # Type hints are checked before a handler runs: celsius="warm" becomes a dead letter (mk dead).
        self.api.emit(f"weather.{city.lower()}.temperature", celsius=celsius, city=city)
        if celsius < 0:
            self.api.emit(f"weather.{city.lower()}.frost", celsius=celsius)

    def stop(self) -> None:
        """Do nothing. The kernel removes the subscriptions."""
