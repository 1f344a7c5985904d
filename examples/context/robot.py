"""Count in ``shop.sold`` at the same time as ``clerk``. ``expect`` replaces a lock."""

from microkernel import IPlugin, PluginAPI, on
from microkernel.errors import RevisionConflict


class Plugin(IPlugin):
    """Adds its share of the sales to ``shop.sold``."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.revision = 0  # 0: the key must not exist yet

    def start(self) -> None:
        """Events arrive after this method has returned."""

    @on("sold")
    def sell(self, count: int) -> None:
        for _ in range(count):
            self.add_one()
        self.api.emit("shop.added", by=self.api.name, count=count)

    def add_one(self) -> None:
        while True:
            sold = self.api.get_data("shop.sold", 0)
            try:
                self.revision = self.api.set_data("shop.sold", sold + 1, expect=self.revision)
            except RevisionConflict as conflict:  # the other plugin was faster: read again
                self.revision = conflict.revision
            else:
                return

    def stop(self) -> None:
        """There is nothing to clean up."""
