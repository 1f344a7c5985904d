# /// script
# [tool.microkernel]
# requires = ["prices"]
# ///
"""Call another plugin without importing it. An exception there is a ``CallFailed`` here.

mk run examples/calls        then:    call cashier.total '[{"item": "tea", "count": 2}]'
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from microkernel import IPlugin, PluginAPI, expose
from microkernel.errors import CallFailed


@dataclass
class Line:
    item: str
    count: int = 1


class Prices(Protocol):
    """The part of the service that is used here. Its hints are the types of the answers, which travel as plain data."""

    def price(self, item: str, count: int = 1) -> Decimal: ...


class Plugin(IPlugin):
    """Adds up a basket."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.prices = api.service("prices", Prices)

    def start(self) -> None:
        """Do nothing. ``prices`` is active already, because this plugin requires it."""

    @expose
    def total(self, basket: list[Line]) -> Decimal:
        return sum((self.prices.price(line.item, line.count) for line in basket), Decimal(0))

    @expose
    def sells(self, item: str) -> bool:
        """Return whether there is such an item. Uses ``api.call`` with ``returns`` instead of a Protocol."""
        try:
            return self.api.call("prices.price", item, timeout=1.0, returns=Decimal) > 0
        except CallFailed as failed:  # has the remote type, message and traceback
            if failed.remote_type == "KeyError":
                return False
            raise

    def stop(self) -> None:
        """There is nothing to clean up."""
