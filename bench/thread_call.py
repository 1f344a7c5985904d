"""P4: a call into an idle plugin in a thread of the kernel's process, and its answer.

Floor: two deques, and two eventfds that wake. The peers pass plain references, the kernel typed values.
"""

from __future__ import annotations

import asyncio
import os
import queue
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import get_native_id

from bench.kernels import kernel_of
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, at_most, native, pure
from bench.threads import thread
from bench.timing import calls

ECHO = """
from threading import get_native_id
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def thread(self) -> int:
        return get_native_id()
    @expose
    def echo(self, data: bytes) -> bytes:
        return data
"""
_CALLS = 300


@contextmanager
def _ours(stage: Workspace) -> Iterator[Measure]:
    with kernel_of("thread", echo=ECHO) as kernel:
        stage.place_thread(kernel.call("echo.thread"))
        yield calls(lambda data: kernel.call("echo.echo", data, returns=bytes), stage.count(_CALLS))


class _EventfdQueue:
    """Queue whose reader sleeps on an eventfd instead of a lock."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._eventfd = os.eventfd(0)

    def put(self, item: bytes) -> None:
        self._items.append(item)
        os.eventfd_write(self._eventfd, 1)

    def get(self) -> bytes:
        os.eventfd_read(self._eventfd)
        return self._items.popleft()

    def close(self) -> None:
        os.close(self._eventfd)


@contextmanager
def _between(
    there: _EventfdQueue | queue.SimpleQueue[bytes], back: _EventfdQueue | queue.SimpleQueue[bytes], stage: Workspace
) -> Iterator[Measure]:
    def serve() -> None:
        while data := there.get():
            back.put(data)

    def echo(data: bytes) -> bytes:
        there.put(data)
        return back.get()

    with thread(serve, lambda: there.put(b""), stage):
        yield calls(echo, stage.count(_CALLS))


@contextmanager
def _eventfd(stage: Workspace) -> Iterator[Measure]:
    there, back = _EventfdQueue(), _EventfdQueue()
    with _between(there, back, stage) as measure:
        yield measure
    there.close()
    back.close()


@contextmanager
def _simple_queue(stage: Workspace) -> Iterator[Measure]:
    with _between(queue.SimpleQueue(), queue.SimpleQueue(), stage) as measure:
        yield measure


@contextmanager
def _executor(stage: Workspace) -> Iterator[Measure]:
    with ThreadPoolExecutor(1) as pool:
        stage.place_thread(pool.submit(get_native_id).result())
        yield calls(lambda data: pool.submit(bytes, data).result(), stage.count(_CALLS))


@contextmanager
def _asyncio(stage: Workspace) -> Iterator[Measure]:
    loop = asyncio.new_event_loop()

    async def answer(data: bytes) -> bytes:
        return data

    def echo(data: bytes) -> bytes:
        return asyncio.run_coroutine_threadsafe(answer(data), loop).result()

    with thread(loop.run_forever, lambda: loop.call_soon_threadsafe(loop.stop), stage):
        yield calls(echo, stage.count(_CALLS))
    loop.close()


ROWS = (
    Row(
        "P4",
        "call into a thread plugin, idle",
        ours=Contender("call", _ours),
        floor=Contender("deque + eventfd", _eventfd),
        peers=(
            Contender("SimpleQueue", _simple_queue),
            Contender("ThreadPoolExecutor", _executor),
            Contender("run_coroutine_threadsafe", _asyncio),
        ),
        targets=(
            *pure(at_most(1.2, "SimpleQueue")),
            *native(at_most(0.6, "SimpleQueue", "same"), at_most(1.1, "SimpleQueue", "diff")),
        ),
    ),
)
