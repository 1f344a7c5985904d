"""Serving threads of floors and peers that work within one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.placement import Workspace


@contextmanager
def thread(serve: Callable[[], object], end: Callable[[], object], stage: Workspace | None = None) -> Iterator[None]:
    """Run ``serve`` in a thread, which ``end`` makes return; in a workspace, on the core of the workers."""

    def placed() -> None:
        if stage is not None:
            stage.place_thread(threading.get_native_id())
        serve()

    serving = threading.Thread(target=placed)
    serving.start()
    try:
        yield
    finally:
        end()
        serving.join()
