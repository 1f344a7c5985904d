"""Writes to the shared board. Look at: each write gives the key's new revision; a key goes with its owner's unload.

mk run examples/context      then:    emit quoted currency=CNY rate=7.1    and:    data
"""

from microkernel import IPlugin, PluginAPI, on


class Plugin(IPlugin):
    """Keeps exchange rates on the board, where anybody can read them without asking."""

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
        """What is on the board stays until this plugin is unloaded."""
