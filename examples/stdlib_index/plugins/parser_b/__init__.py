"""The second parser, as a folder with a ``plugin.toml`` and a relative import. The demo runs it at ``wasm`` if that
level is available; the source is the same."""

from pathlib import Path

from microkernel import IPlugin, PluginAPI, on

from .counting import count


class Plugin(IPlugin):
    """Parses one file per event."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.by = f"{api.name} {api.version}"

    def start(self) -> None:
        """Events arrive after this method has returned."""

    @on("file.found.b")
    def parse(self, path: str) -> None:
        counts = count(Path(path).read_bytes())
        if counts["unparsable"] and self.api.isolation == "wasm":
            # The guest's Python has another version and fewer encodings. Let the Python whose library this is decide
            # whether the file is at fault.
            self.api.emit("file.found.a", path=path)
        else:
            self.api.emit("file.counted", path=path, by=self.by, counts=counts)

    def stop(self) -> None:
        """There is nothing to clean up."""
