"""Offer methods to other plugins with ``@expose``. Type hints check the arguments; ``mk info prices`` shows them.

mk run examples/calls        then:    call prices.price tea count=3
"""

from decimal import Decimal

from microkernel import IPlugin, PluginAPI, expose


class Plugin(IPlugin):
    """Knows the prices."""

    def __init__(self, api: PluginAPI) -> None:
        self.prices = {"tea": Decimal("2.40"), "cake": Decimal("3.15")}

    def start(self) -> None:
        """Calls arrive after this method has returned."""

    @expose
    def price(self, item: str, count: int = 1) -> Decimal:
        """Return the price of ``count`` items. Raises KeyError for an unknown item."""
        return self.prices[item] * count

    @expose
    def change(self, item: str, price: Decimal) -> None:
        """Set a price. A caller may send the text "2.60": the hint converts it to a Decimal, or the call is refused."""
        self.prices[item] = price

    def stop(self) -> None:
        """There is nothing to clean up."""
