"""The other side of floors and peers that work between two threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.placement import Workspace


@contextmanager
def thread(serve: Callable[[], object], end: Callable[[], object], stage: Workspace | None = None) -> Iterator[None]:
    """``end`` has ``serve`` return. With a stage it runs where the workers are."""

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
