"""Work that waits, beside everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable


def in_thread(work: Callable[[], object], name: str) -> None:
    """Do something that waits beside everything else."""
    threading.Thread(target=work, name=name, daemon=True).start()
