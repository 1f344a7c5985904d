"""The second parser, as a folder. Look at: ``plugin.toml`` beside this file, and the relative import. The demo runs it
at ``wasm`` where that can be had: the source is the same."""

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
        counts = count(Path(path).read_bytes())
        if counts["unparsable"] and self.api.isolation == "wasm":
            # A guest's Python is another version, with fewer encodings: whether this is a fault of the file's is for
            # the Python to say whose library it is.
            self.api.emit("file.found.a", path=path)
        else:
            self.api.emit("file.counted", path=path, by=self.by, counts=counts)

    def stop(self) -> None:
        """Nothing to clean up."""
