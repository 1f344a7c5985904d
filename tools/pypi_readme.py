"""The README as the package index shows it, where a link that is relative leads nowhere.

Hatchling runs ``get_metadata_hook`` when it builds. Where the repository is, ``Source`` in ``project.urls`` of
``pyproject.toml`` alone says. Links lead to the files as they were at the version that is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# An image or a link that is relative: no scheme, no place in the page itself.
_RELATIVE = re.compile(r"(?P<image>!?)(?P<text>\[[^\]]*\])\((?!\w+:|#)(?P<target>[^)\s]+)\)")


def absolute(text: str, repository: str, version: str) -> str:
    """``text`` with each relative link led into ``repository`` at ``version``."""

    def lead(link: re.Match[str]) -> str:
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}{link['text']}({repository}/{kind}/v{version}/{link['target']})"

    return _RELATIVE.sub(lead, text)


def get_metadata_hook() -> Any:
    # hatchling is there only while a package is built
    from hatchling.metadata.plugin.interface import MetadataHookInterface  # type: ignore[import-not-found]

    class ReadmeHook(MetadataHookInterface):  # type: ignore[misc]
        PLUGIN_NAME = "custom"

        def update(self, metadata: dict[str, Any]) -> None:
            text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
            text = absolute(text, metadata["urls"]["Source"], metadata["version"])
            metadata["readme"] = {"content-type": "text/markdown", "text": text}

    return ReadmeHook
