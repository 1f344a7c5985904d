"""Read and watch shared data. A watcher receives the present values first, then each change."""

from microkernel import IPlugin, PluginAPI, expose


class Plugin(IPlugin):
    """Shows rates and converts with them."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        api.watch_data("rates.*", self.show)

    def start(self) -> None:
        """The watcher is called after this method has returned."""

    def show(self, key: str, value: float | None, revision: int) -> None:
        """Show a change. A deleted key has value None and revision 0."""
        self.api.emit("display.shows", key=key, value=value, revision=revision)

    @expose
    def convert(self, euros: float, currency: str) -> float:
        return euros * self.api.get_data(f"rates.{currency}", 0.0)

    def stop(self) -> None:
        """There is nothing to clean up."""
