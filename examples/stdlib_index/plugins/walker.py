# /// script
# [tool.microkernel]
# version = "1.0"
# requires = ["aggregator", "parser_a", "parser_b", "runaway", "crasher"]
# ///
"""Find the files. A hash distributes them over topics; the events carry paths, not contents."""

import os
import sysconfig
from dataclasses import dataclass
from zlib import crc32

from microkernel import IPlugin, PluginAPI, expose

# One topic each: ``file.found.a`` is for parser_a, and so on. A file always has the same topic.
SHARES = ("a", "b", "runaway", "crasher")
NOT_OURS = {"site-packages", "dist-packages"}


@dataclass
class Config:
    """``root``: the folder to index, by default the standard library. ``limit``: the most files to index, 0 for all."""

    root: str = ""
    limit: int = 0
    at_once: bool = True


class Plugin(IPlugin):
    """Walks through a folder and emits ``file.found.<share>`` for each Python file."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api

    def start(self) -> None:
        """Start the walk. The required plugins are active already, so they receive every event."""
        if self.api.config.at_once:
            self.api.after(0.0, self.walk)

    @expose
    def walk(self) -> int:
        """Emit an event for each file and return their number."""
        paths = sorted(self.find())[: self.api.config.limit or None]
        for path in paths:
            self.api.emit(f"file.found.{share_of(path)}", path=path)
        self.api.emit("walk.done", files=len(paths))
        return len(paths)

    def find(self) -> list[str]:
        found: list[str] = []
        for folder, folders, files in os.walk(self.api.config.root or sysconfig.get_path("stdlib")):
            folders[:] = [name for name in folders if name not in NOT_OURS]
            paths = (os.path.join(folder, name) for name in files if name.endswith(".py"))
            found += [path for path in paths if os.path.isfile(path)]
        return found

    def stop(self) -> None:
        """There is nothing to clean up."""


def share_of(path: str) -> str:
    """Return the topic of a file. ``hash()`` would differ from process to process."""
    return SHARES[crc32(path.encode()) % len(SHARES)]
