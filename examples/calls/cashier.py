# /// script
# [tool.microkernel]
# requires = ["prices"]
# ///
"""Calls another plugin. Look at: it imports nothing of ``prices``, and a mistake there is an error here, not a crash.

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
    """What we use of the service. Its hints say what the answers are: payloads travel as plain data."""

    def price(self, item: str, count: int = 1) -> Decimal: ...


class Plugin(IPlugin):
    """Adds up what people buy."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.prices = api.service("prices", Prices)

    def start(self) -> None:
        """``prices`` is active by now: this plugin ``requires`` it."""

    @expose
    def total(self, basket: list[Line]) -> Decimal:
        return sum((self.prices.price(line.item, line.count) for line in basket), Decimal(0))

    @expose
    def sells(self, item: str) -> bool:
        """The same without a Protocol: ``api.call`` and ``returns``."""
        try:
            return self.api.call("prices.price", item, timeout=1.0, returns=Decimal) > 0
        except CallFailed as failed:  # it has the remote type, message and traceback
            if failed.remote_type == "KeyError":
                return False
            raise

    def stop(self) -> None:
        """Nothing to clean up."""
