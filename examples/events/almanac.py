"""Handle events: patterns (``*`` is one word, ``**`` any tail), ``once``, and parameters filled by name."""

from typing import Any

from microkernel import Event, IPlugin, PluginAPI, on


class Plugin(IPlugin):
    """Records the weather. Handlers run one at a time, in the order of their definition, so no locks are needed."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.highest: dict[str, float] = {}

    def start(self) -> None:
        """Events arrive after this method has returned."""

    @on("weather.*.temperature")
    def remember(self, city: str, celsius: float) -> None:
        if celsius > self.highest.get(city, -274.0):
            self.highest[city] = celsius
            self.api.emit("almanac.record", city=city, celsius=celsius)

    @on("weather.**")
    def note(self, event: Event, celsius: float, **rest: Any) -> None:
        """Handle any weather event: ``event`` is the event itself, ``**rest`` its data without a parameter."""
        self.api.emit("almanac.noted", topic=event.topic, by=event.source, celsius=celsius, rest=sorted(rest))

    @on("weather.*.frost", once=True)
    def first_frost(self, event: Event) -> None:
        self.api.emit("almanac.first_frost", city=event.topic.split(".")[1])

    def stop(self) -> None:
        """There is nothing to clean up."""
