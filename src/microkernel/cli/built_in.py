"""The location of the plugins that come with ``mk``."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path


def source_folder(name: str) -> str:
    """Return the folder of a plugin in ``microkernel.plugins``.

    If the package lies in a zip file, that is a copy, which is removed when this process ends.
    """
    source = files("microkernel.plugins") / name
    if isinstance(source, Path):
        return str(source)
    folder = Path(tempfile.mkdtemp(prefix="microkernel-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / name).mkdir()
    for file in source.iterdir():
        if file.name.endswith(".py"):
            (folder / name / file.name).write_bytes(file.read_bytes())
    return str(folder / name)
