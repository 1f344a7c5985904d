"""What an input costs: processor time, and bytes that were allocated at the same time.

No wall clock: other work on the machine must not fail a test. Bounds have a wide margin; what they find is a cost of
another order than the size of the input.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

MIB = 1 << 20


def assert_cheap(
    act: Callable[[], object], length: int, *expected: type[Exception], times: int = 64, seconds: float = 2.0
) -> None:
    """Call ``act`` twice, since to trace memory takes time. It may raise what is expected.

    ``length`` is that of its input. It may take ``seconds`` and two microseconds a byte, and at any moment hold
    four MiB and ``times`` the length.
    """
    gc.collect()
    began = time.process_time()
    with suppress(*expected):
        act()
    took = time.process_time() - began
    assert took < seconds + length * 2e-6, f"{took:.2f} s for {length:,} bytes"
    tracemalloc.start()
    try:
        with suppress(*expected):
            act()
        size = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size < 4 * MIB + times * length, f"{size:,} bytes for {length:,}"
