"""A service. Look at: ``@expose``, and what the type hints do for it (mk info prices shows the signatures).

mk run examples/calls        then:    call prices.price tea count=3
"""

from decimal import Decimal

from microkernel import IPlugin, PluginAPI, expose


class Plugin(IPlugin):
    """Knows what things cost."""

    def __init__(self, api: PluginAPI) -> None:
        self.prices = {"tea": Decimal("2.40"), "cake": Decimal("3.15")}

    def start(self) -> None:
        """Calls come after this has returned."""

    @expose
    def price(self, item: str, count: int = 1) -> Decimal:
        """What so many of an item cost. Raises KeyError where there is no such item."""
        return self.prices[item] * count

    @expose
    def change(self, item: str, price: Decimal) -> None:
        """A caller may send the price as text, "2.60": the hint makes it a Decimal, or refuses it."""
        self.prices[item] = price

    def stop(self) -> None:
        """Nothing to clean up."""
