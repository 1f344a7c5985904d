"""Process-wide state that a plugin in a thread may change: report what differs after it has ended.

Nothing shows which code changed it, so the report says what differs from the time before the plugin was loaded. Each
difference is reported once: later comparisons start from what was reported.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import locale
import logging
import os
import resource
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from microkernel.hosts.thread import log_changes
from microkernel.kernel.ports import steady

_PLUGIN_PREFIX = log_changes.MODULE_PREFIX

_states: weakref.WeakSet[ProcessState] = weakref.WeakSet()


class ProcessState:
    """The state at the time this was created. Call ``changes`` when nothing of the plugin runs any more."""

    def __init__(self) -> None:
        self._before = _read_all()
        _states.add(self)

    def changes(self) -> list[str]:
        """Return what is different now, a line for each."""
        before, now = self._before, _read_all()
        self._before = now
        changed = [key for key in now if key in before and now[key] != before[key]]
        for other in list(_states):
            other._before.update({key: now[key] for key in changed})
        return [line for key in changed for line in _DESCRIBERS.get(key, _values)(key, before[key], now[key])]


def _values(key: str, before: Any, now: Any) -> Iterator[str]:
    yield f"{key} is {now}, and was {before}"


def _entries(key: str, before: tuple[Any, ...], now: tuple[Any, ...]) -> Iterator[str]:
    """Compare lists: entries that were added or removed, or a different order."""
    came, went = [each for each in now if each not in before], [each for each in before if each not in now]
    yield from (f"{key}: {each!r} was added" for each in came)
    yield from (f"{key}: {each!r} was removed" for each in went)
    if not came and not went:
        yield f"{key} is in another order"


def _variables(key: str, before: Mapping[str, object], now: Mapping[str, object]) -> Iterator[str]:
    """Report names only, because the values may be secrets."""
    for name in sorted({**before, **now}):
        if before.get(name) != now.get(name):
            how = "was set" if name not in before else "was removed" if name not in now else "was changed"
            yield f"{key} {name} {how}".lstrip()


def _disabled(key: str, before: frozenset[str], now: frozenset[str]) -> Iterator[str]:
    yield from (f"{key} {name!r} is disabled" for name in sorted(now - before))
    yield from (f"{key} {name!r} is no longer disabled" for name in sorted(before - now))


def _members(key: str, before: Mapping[str, int], now: Mapping[str, int]) -> Iterator[str]:
    """Report names that refer to a different object now."""
    yield from (f"{key}.{line}" for line in _variables("", before, now))


def _propagation(key: str, before: Mapping[str, bool], now: Mapping[str, bool]) -> Iterator[str]:
    """Compare loggers that existed before; a new one is configured by the code that creates it."""
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            yield f"{key} {name!r}: propagate is {now[name]}, and was {before[name]}"


Handlers = Mapping[str, Mapping[int, str]]


def _handlers_gone(key: str, before: Handlers, now: Handlers) -> Iterator[str]:
    """Report handlers that were removed without ``removeHandler``, as by ``handlers.clear()``."""
    for name in sorted(before.keys() & now.keys()):
        for id, kind in before[name].items():
            if id not in now[name] and not log_changes.was_removed(id):
                yield f"{key} {name!r}: its handler {kind} was removed"


def _filters() -> tuple[str, ...]:
    """Return the warning filters as written for ``-W``. No object of a plugin is kept here, not even its warning
    class."""
    return tuple(_written(*entry) for entry in list(warnings.filters))


def _written(action: str, message: Any, category: Any, module: Any, line: int) -> str:
    parts = (action, getattr(message, "pattern", message), category.__name__, getattr(module, "pattern", module), line)
    return ":".join("" if part in (None, 0) else str(part) for part in parts).rstrip(":")


def _kinds(key: str, before: Mapping[int, str], now: Mapping[int, str]) -> Iterator[str]:
    yield from (f"{key}: {now[id]} was added" for id in now.keys() - before.keys())
    yield from (f"{key}: {before[id]} was removed" for id in before.keys() - now.keys())


def _limits_changed(_: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in now:
        if now[name] != before[name]:
            yield f"the limit {name} is {now[name]}, and was {before[name]}"


# A test runner changes this variable all the time.
_OF_PYTEST = "PYTEST_CURRENT_TEST"
_DESCRIBERS: dict[str, Callable[[str, Any, Any], Iterator[str]]] = {
    "environment variable": _variables,
    "sys.path": _entries,
    "warning filters": _entries,
    "logger": _disabled,
    "loggers": lambda _, before, now: _propagation("logger", before, now),
    "log handlers": lambda _, before, now: _handlers_gone("logger", before, now),
    "builtins": _members,
    "sys.meta_path": _kinds,
    "sys.path_hooks": _kinds,
    "limits of the process": _limits_changed,
}


def _read_all() -> dict[str, Any]:
    with steady:
        return {key: read() for key, read in _READERS.items()}


def _folder() -> str:
    with contextlib.suppress(OSError):  # the folder was removed
        return os.getcwd()
    return "a folder that is gone"


def _umask() -> str:
    """Read the umask without setting it, which other threads would see."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next((line.split()[1] for line in status if line.startswith("Umask:")), "")
    return ""


def _module_value(module: str, name: str) -> Callable[[], Any]:
    """Return a reader of a module's function or value; it returns None where the module is not loaded."""

    def read() -> Any:
        found = getattr(sys.modules.get(module), name, None)
        return found() if callable(found) and not isinstance(found, type) else found

    return read


def _policy() -> str:
    policy = getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
    default = getattr(sys.modules.get("asyncio"), "DefaultEventLoopPolicy", None)
    return "the default" if policy is None or type(policy) is default else type(policy).__name__


def _disabled_loggers() -> frozenset[str]:
    return frozenset(
        name
        for name, logger in list(logging.Logger.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.disabled and not name.startswith(_PLUGIN_PREFIX)
    )


def _loggers() -> dict[str, logging.Logger]:
    """Return the loggers that are not a plugin's, by name; the root logger is ``root``."""
    known = list(logging.Logger.manager.loggerDict.items())
    ours = {
        name: each for name, each in known if isinstance(each, logging.Logger) and not name.startswith(_PLUGIN_PREFIX)
    }
    return {"root": logging.getLogger(), **ours}


def _handlers() -> Handlers:
    return {
        name: {id(handler): type(handler).__name__ for handler in list(logger.handlers)}
        for name, logger in _loggers().items()
    }


def _builtins() -> dict[str, int]:
    """Return identities only, so that nothing of a plugin is kept alive. ``_`` is what a prompt printed last."""
    return {name: id(value) for name, value in list(vars(builtins).items()) if name != "_"}


def _foreign_entries(entries: list[Any]) -> Callable[[], dict[int, str]]:
    """Return a reader of finders and hooks that are neither ours nor a plugin's; plugins' own come and go with them."""

    def read() -> dict[int, str]:
        named = ((each, each if hasattr(each, "__qualname__") else type(each)) for each in list(entries))
        return {
            id(each): str(what.__qualname__)
            for each, what in named
            if not str(what.__module__).startswith(("microkernel.", _PLUGIN_PREFIX))
        }

    return read


def _limits() -> dict[str, Any]:
    """Return soft limits by their names in Python; -1 is unlimited."""
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: resource.getrlimit(getattr(resource, name))[0] for name in names}


_READERS: dict[str, Callable[[], Any]] = {
    "environment variable": lambda: {**os.environ, _OF_PYTEST: ""},
    "the working folder": _folder,
    "the umask": _umask,
    "the garbage collector": lambda: "on" if gc.isenabled() else "off",
    "gc.get_debug()": gc.get_debug,
    "gc.get_threshold()": gc.get_threshold,
    "socket.getdefaulttimeout()": _module_value("socket", "getdefaulttimeout"),
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
    "logging.captureWarnings()": lambda: "on" if getattr(logging, "_warnings_showwarning", None) else "off",
    "logger": _disabled_loggers,
    "loggers": lambda: {name: logger.propagate for name, logger in _loggers().items()},
    "log handlers": _handlers,
    "builtins": _builtins,
    "sys.meta_path": _foreign_entries(sys.meta_path),
    "sys.path_hooks": _foreign_entries(sys.path_hooks),
    "sys.getdlopenflags()": sys.getdlopenflags,
    "threading.stack_size()": _module_value("threading", "stack_size"),
    "csv.field_size_limit()": _module_value("csv", "field_size_limit"),
    "time.tzname": lambda: time.tzname,
    "faulthandler.is_enabled()": _module_value("faulthandler", "is_enabled"),
    "limits of the process": _limits,
    "the niceness": lambda: os.getpriority(os.PRIO_PROCESS, 0),
}
