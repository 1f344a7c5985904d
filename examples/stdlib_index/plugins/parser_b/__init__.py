"""The second parser, as a folder. Look at: ``plugin.toml`` beside this file, and the relative import."""

from pathlib import Path

from microkernel import IPlugin, PluginAPI, on

from .counting import count


class Plugin(IPlugin):
    """Parses files, one event each."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.by = f"{api.name} {api.version}"

    def start(self) -> None:
        """Events come after this has returned."""

    @on("file.found.b")
    def parse(self, path: str) -> None:
        self.api.emit("file.counted", path=path, by=self.by, counts=count(Path(path).read_bytes()))

    def stop(self) -> None:
        """Nothing to clean up."""
