"""Looks again and again at what no limit of the system holds. One thread for all; none while there is nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_EVERY = 1.0
_SHARE = 50
"""At most this part of one core goes into looking: with very many plugins it is done less often."""


class Watch:
    """``look`` is called on the watch's thread. It must not raise."""

    def __init__(self) -> None:
        self._looks: dict[object, Callable[[], object]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def add(self, who: object, look: Callable[[], object]) -> None:
        with self._lock:
            self._looks[who] = look
            if self._thread is None and not self._ending.is_set():
                self._thread = threading.Thread(target=self._run, name="microkernel-watch", daemon=True)
                self._thread.start()

    def remove(self, who: object) -> None:
        """A second time does nothing."""
        self._looks.pop(who, None)

    def close(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = _EVERY
        while not self._ending.wait(pause):
            began = time.monotonic()
            with self._lock:
                if not self._looks:
                    self._thread = None
                    return
                looks = list(self._looks.values())
            for look in looks:
                look()
            pause = max(_EVERY, _SHARE * (time.monotonic() - began))
