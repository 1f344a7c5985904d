"""Write shared data. Each write returns the key's new revision. Unloading the owner deletes its keys.

mk run examples/context      then:    emit quoted currency=CNY rate=7.1    and:    data
"""

from microkernel import IPlugin, PluginAPI, on


class Plugin(IPlugin):
    """Keeps exchange rates in shared data, where every plugin can read them."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api

    def start(self) -> None:
        self.api.set_data("rates.EUR", 1.0)

    @on("quoted")
    def quote(self, currency: str, rate: float) -> None:
        revision = self.api.set_data(f"rates.{currency}", rate)
        self.api.emit("exchange.quoted", currency=currency, revision=revision)

    @on("withdrawn")
    def withdraw(self, currency: str) -> None:
        self.api.delete_data(f"rates.{currency}")

    def stop(self) -> None:
        """Do nothing. The keys remain until this plugin is unloaded."""
