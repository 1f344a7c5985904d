"""Listens. Look at: patterns (``*`` is one word, ``**`` any tail), ``once``, and how parameters are filled by name."""

from typing import Any

from microkernel import Event, IPlugin, PluginAPI, on


class Plugin(IPlugin):
    """Writes down the weather. Handlers run one at a time, in the order they are written here: no locks needed."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.highest: dict[str, float] = {}

    def start(self) -> None:
        """Events come after this has returned."""

    @on("weather.*.temperature")
    def remember(self, city: str, celsius: float) -> None:
        if celsius > self.highest.get(city, -274.0):
            self.highest[city] = celsius
            self.api.emit("almanac.record", city=city, celsius=celsius)

    @on("weather.**")
    def note(self, event: Event, celsius: float, **rest: Any) -> None:
        """``event`` is the event itself, ``**rest`` what of its data is not asked for by name."""
        self.api.emit("almanac.noted", topic=event.topic, by=event.source, celsius=celsius, rest=sorted(rest))

    @on("weather.*.frost", once=True)
    def first_frost(self, event: Event) -> None:
        self.api.emit("almanac.first_frost", city=event.topic.split(".")[1])

    def stop(self) -> None:
        """Nothing to clean up."""
