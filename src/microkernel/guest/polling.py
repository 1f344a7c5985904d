"""``select`` in a guest: ``select.select`` and ``select.poll`` of connections, which are not descriptors there."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from typing import Any, Protocol

from microkernel.guest.sockets import is_connection

_SYSTEM_SELECT, _SYSTEM_POLL = select.select, select.poll
_READ, _WRITE = select.POLLIN, select.POLLOUT
_MIXED = "at the level wasm, connections and files are not waited for together"


class PollWorld(Protocol):
    def wait(
        self, sources: int, reading: list[int], writing: list[int], timeout: float
    ) -> tuple[int, list[int], list[int]]: ...


_world: PollWorld


def wait_by(world: PollWorld) -> None:
    global _world
    _world = world


def shim(module: Any) -> None:
    """Replace the functions of ``select``."""
    module.select, module.poll = _select, _Poll


def _select(rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None) -> Any:
    readers, writers = ([(_number(each), each) for each in ends] for ends in (rlist, wlist))
    if not _are_connections([number for number, _ in (*readers, *writers)]):
        return _SYSTEM_SELECT([each for _, each in readers], [each for _, each in writers], xlist, timeout)
    descriptors = [number for number, _ in readers], [number for number, _ in writers]
    readable, writable = _wait(*descriptors, timeout)
    return (
        [end for number, end in readers if number in readable],
        [end for number, end in writers if number in writable],
        [],
    )


class _Poll:
    """A ``select.poll`` object."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, end: Any, eventmask: int = select.POLLIN | select.POLLPRI | select.POLLOUT) -> None:
        self._wanted[_number(end)] = eventmask

    def modify(self, end: Any, eventmask: int) -> None:
        if _number(end) not in self._wanted:
            raise FileNotFoundError(2, "No such file or directory")
        self.register(end, eventmask)

    def unregister(self, end: Any) -> None:
        del self._wanted[_number(end)]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Wait for ``timeout`` milliseconds; forever if it is None or negative."""
        if not _are_connections(self._wanted):
            return list(self._of_system().poll(timeout))
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        reading, writing = ([n for n, mask in self._wanted.items() if mask & event] for event in (_READ, _WRITE))
        readable, writable = _wait(reading, writing, seconds)
        events = {n: _READ * (n in readable) | _WRITE * (n in writable) for n in self._wanted}
        return [(number, event) for number, event in events.items() if event]

    def _of_system(self) -> Any:
        poll = _SYSTEM_POLL()
        for number, mask in self._wanted.items():
            poll.register(number, mask)
        return poll


def _number(end: Any) -> int:
    return end if isinstance(end, int) else int(end.fileno())


def _are_connections(numbers: Iterable[int]) -> bool:
    kinds = set(map(is_connection, numbers))
    if len(kinds) > 1:
        raise OSError(_MIXED)
    return True in kinds


def _wait(reading: list[int], writing: list[int], timeout: float | None) -> tuple[list[int], list[int]]:
    """Wait for connections. The worker may return before any is ready."""
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        left = -1.0 if until is None else max(0.0, until - time.monotonic())
        _, readable, writable = _world.wait(0, reading, writing, left)
        if readable or writable or left == 0.0:
            return readable, writable
