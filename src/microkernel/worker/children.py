"""Let processes that a plugin starts import its modules, from the snapshot that the plugin itself runs.

``multiprocessing`` (spawn, forkserver) and ``subprocess`` start new interpreters, which know a function by its module's
name and get this worker's ``sys.path``. So a folder on that path has a package ``mkplugin`` that serves the snapshot.
"""

from __future__ import annotations

import marshal
import os
import sys

from microkernel.wire.messages import Load

_INIT = """\
# The modules of a microkernel plugin, for processes that it starts.
from microkernel.sdk.loading.importer import serve

serve(__path__[0])
"""


def keep_sources(folder: bytes, load: Load) -> None:
    """Write the snapshot into ``folder``, and append that folder to ``sys.path``.

    Does nothing without a folder for temporary files; children cannot import the plugin then.
    """
    if not folder:
        return
    path = os.fsdecode(folder)
    try:
        _write(f"{path}/mkplugin", load)
    except OSError as error:
        sys.stderr.write(f"processes that the plugin starts cannot import it: {path}: {error.strerror}\n")
        return
    sys.path.append(path)


def _write(package: str, load: Load) -> None:
    os.makedirs(package, 0o700)
    content = (load.name, load.root, load.entry, load.package, load.sources, load.peers)
    with open(f"{package}/snapshot", "wb") as file:
        marshal.dump(content, file)
    with open(f"{package}/__init__.py", "w", encoding="utf-8") as file:
        file.write(_INIT)
