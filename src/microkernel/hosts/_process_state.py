"""State of the whole process that a plugin in a thread may change: what differs after it has ended is named.

Nothing tells who changed it. So the lines say what differs from the time before the plugin was loaded, each difference
once: whoever is compared later starts from what was named.
"""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from microkernel.kernel.ports import steady

_states: weakref.WeakSet[ProcessState] = weakref.WeakSet()


class ProcessState:
    """As it was when this was made. ``changes`` is asked when nothing of the plugin runs any more."""

    def __init__(self) -> None:
        self._before = _look()
        _states.add(self)

    def changes(self) -> list[str]:
        """What is different now, each a line."""
        before, now = self._before, _look()
        self._before = now
        changed = [key for key in now if key in before and now[key] != before[key]]
        for other in list(_states):
            other._before.update({key: now[key] for key in changed})
        return [line for key in changed for line in _WORDS.get(key, _values)(key, before[key], now[key])]


def _values(key: str, before: Any, now: Any) -> Iterator[str]:
    yield f"{key} is {now}, and was {before}"


def _entries(key: str, before: tuple[Any, ...], now: tuple[Any, ...]) -> Iterator[str]:
    """Of a list: what came, what went, or that the order is another."""
    came, went = [each for each in now if each not in before], [each for each in before if each not in now]
    yield from (f"{key}: {each!r} was added" for each in came)
    yield from (f"{key}: {each!r} was removed" for each in went)
    if not came and not went:
        yield f"{key} is in another order"


def _variables(key: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Names only: the values may be secrets."""
    for name in sorted({**before, **now}):
        if before.get(name) != now.get(name):
            how = "was set" if name not in before else "was removed" if name not in now else "was changed"
            yield f"{key} {name} {how}"


def _disabled(key: str, before: frozenset[str], now: frozenset[str]) -> Iterator[str]:
    yield from (f"{key} {name!r} is disabled" for name in sorted(now - before))
    yield from (f"{key} {name!r} is no longer disabled" for name in sorted(before - now))


def _filters() -> tuple[str, ...]:
    """As they are written for ``-W``. No object of a plugin is kept here, not its class of warnings either."""
    return tuple(_written(*entry) for entry in list(warnings.filters))


def _written(action: str, message: Any, category: Any, module: Any, line: int) -> str:
    parts = (action, getattr(message, "pattern", message), category.__name__, getattr(module, "pattern", module), line)
    return ":".join("" if part in (None, 0) else str(part) for part in parts).rstrip(":")


_OF_PYTEST = "PYTEST_CURRENT_TEST"
"""A test runner changes this one all the time."""
_WORDS: dict[str, Callable[[str, Any, Any], Iterator[str]]] = {
    "environment variable": _variables,
    "sys.path": _entries,
    "warning filters": _entries,
    "logger": _disabled,
}


def _look() -> dict[str, Any]:
    with steady:
        return {key: look() for key, look in _LOOKS.items()}


def _folder() -> str:
    with contextlib.suppress(OSError):  # the folder is gone
        return os.getcwd()
    return "a folder that is gone"


def _umask() -> str:
    """Read without setting it, which other threads would see."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next((line.split()[1] for line in status if line.startswith("Umask:")), "")
    return ""


def _of_module(module: str, name: str) -> Callable[[], Any]:
    """What a function of a module says, or a value in it; None where the module is not loaded."""

    def look() -> Any:
        found = getattr(sys.modules.get(module), name, None)
        return found() if callable(found) and not isinstance(found, type) else found

    return look


def _policy() -> str:
    policy = getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
    default = getattr(sys.modules.get("asyncio"), "DefaultEventLoopPolicy", None)
    return "the default" if policy is None or type(policy) is default else type(policy).__name__


def _disabled_loggers() -> frozenset[str]:
    return frozenset(
        name
        for name, logger in list(logging.Logger.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.disabled and not name.startswith("mkplugin.")
    )


_LOOKS: dict[str, Callable[[], Any]] = {
    "environment variable": lambda: {**os.environ, _OF_PYTEST: ""},
    "the working folder": _folder,
    "the umask": _umask,
    "the garbage collector": lambda: "on" if gc.isenabled() else "off",
    "gc.get_debug()": gc.get_debug,
    "socket.getdefaulttimeout()": _of_module("socket", "getdefaulttimeout"),
    "sys.path": lambda: tuple(map(str, sys.path)),
    "the locale": lambda: locale.setlocale(locale.LC_ALL),
    "asyncio's event loop policy": _policy,
    "warning filters": _filters,
    "sys.getrecursionlimit()": sys.getrecursionlimit,
    "sys.getswitchinterval()": sys.getswitchinterval,
    "sys.get_int_max_str_digits()": sys.get_int_max_str_digits,
    "sys.dont_write_bytecode": lambda: sys.dont_write_bytecode,
    "sys.tracebacklimit": lambda: getattr(sys, "tracebacklimit", "not set"),
    "sys.argv": lambda: tuple(sys.argv),
    "tempfile.tempdir": lambda: getattr(sys.modules.get("tempfile"), "tempdir", None),
    "logging.disable()": lambda: logging.root.manager.disable,
    "logging.raiseExceptions": lambda: logging.raiseExceptions,
    "logging.getLoggerClass()": lambda: logging.getLoggerClass().__qualname__,
    "logger": _disabled_loggers,
    "the niceness": lambda: os.getpriority(os.PRIO_PROCESS, 0),
}
