"""Record what plugins in threads change at loggers of others: handlers and levels.

A handler does not show which code added it, and one of ``logging``'s own classes shows nothing of its plugin. So while
plugins run in threads, three methods of ``Logger`` record the calls that have a plugin's code among their callers.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable
from logging import Handler, Logger
from typing import Any, NamedTuple
from weakref import ref

MODULE_PREFIX = "mkplugin."
_METHODS = ("addHandler", "removeHandler", "setLevel")
_original: dict[str, Callable[..., Any]] = {name: vars(Logger)[name] for name in _METHODS}
_noted: deque[_Change] = deque()
# One entry for each watcher.
_watched: deque[None] = deque()
# The ids of handlers that were properly removed meanwhile, by ``removeHandler``.
_removed: set[int] = set()


class _Change(NamedTuple):
    # Of the module whose code did it: the very string.
    name: str
    method: str
    logger: Logger
    handler: ref[Handler] | None
    # The level before.
    level: int


def watch() -> None:
    _watched.append(None)
    for name, noting in _NOTING.items():
        if vars(Logger)[name] is _original[name]:  # otherwise another program has wrapped it
            setattr(Logger, name, noting)


def unwatch() -> None:
    _watched.pop()
    if not _watched:
        for name, noting in _NOTING.items():
            if vars(Logger)[name] is noting:
                setattr(Logger, name, _original[name])
        _removed.clear()


def was_removed(handler: int) -> bool:
    """Return whether the handler of this id was removed by ``removeHandler``, and not added again since."""
    return handler in _removed


def undo(owns: Callable[[str], bool]) -> list[str]:
    """Remove the handlers that were added by code in modules that ``owns`` recognises. Return what that was."""
    undone = []
    for change in _noted_by(owns, "addHandler"):
        handler = change.handler() if change.handler is not None else None
        if handler is not None and handler in change.logger.handlers:
            _original["removeHandler"](change.logger, handler)
            _close(handler)
            undone.append((change.logger, f"log handler {type(handler).__name__} at logger {change.logger.name!r}"))
    return [line for logger, line in undone if not _is_of_plugin(logger)]


def report_changes(owns: Callable[[str], bool]) -> list[str]:
    """Return the other changes that are still in effect. Called once, after ``undo``."""
    lines: dict[str, None] = {}
    added = [(change.logger, change.handler) for change in _noted_by(owns, "addHandler")]
    for change in _noted_by(owns, "removeHandler"):
        handler = change.handler() if change.handler is not None else None
        own = _is_of_plugin(change.logger) or (change.logger, change.handler) in added
        if handler is not None and handler not in change.logger.handlers and not own:
            lines[f"logger {change.logger.name!r}: its handler {type(handler).__name__} was removed"] = None
    levels = {change.logger: change.level for change in reversed(_noted_by(owns, "setLevel"))}
    for logger, level in levels.items():
        if logger.level != level and not _is_of_plugin(logger):
            now, before = map(logging.getLevelName, (logger.level, level))
            lines[f"the level of logger {logger.name!r} is {now}, and was {before}"] = None
    for change in [each for each in list(_noted) if owns(each.name)]:
        _noted.remove(change)
    return [*lines]


def _noted_by(owns: Callable[[str], bool], method: str) -> list[_Change]:
    return [change for change in list(_noted) if change.method == method and owns(change.name)]


def _is_of_plugin(logger: Logger) -> bool:
    """Return whether the logger is a plugin's. Others do not use its name, so changes to it are not reported."""
    return logger.name.startswith(MODULE_PREFIX)


def _close(handler: Handler) -> None:
    """Close a file at once, if only Python's own code runs for that."""
    if isinstance(handler, logging.FileHandler) and type(handler).__module__ in ("logging", "logging.handlers"):
        handler.close()


def _is_shared(logger: Logger) -> bool:
    """Return whether others can get the logger by its name. ``api.log``, for example, is outside the tree of
    loggers."""
    return logger is logger.root or logger.manager.loggerDict.get(logger.name) is logger


def _note(method: str, logger: Logger, handler: Handler | None) -> None:
    if not _is_shared(logger):
        return
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name.startswith(MODULE_PREFIX):
            _noted.append(_Change(name, method, logger, None if handler is None else ref(handler), logger.level))
            return
        frame = frame.f_back  # type: ignore[assignment]


def _add_handler(self: Logger, hdlr: Handler) -> None:
    _note("addHandler", self, hdlr)
    _removed.discard(id(hdlr))
    _original["addHandler"](self, hdlr)


def _remove_handler(self: Logger, hdlr: Handler) -> None:
    _note("removeHandler", self, hdlr)
    _removed.add(id(hdlr))
    _original["removeHandler"](self, hdlr)


def _set_level(self: Logger, level: int | str) -> None:
    _note("setLevel", self, None)
    _original["setLevel"](self, level)


_NOTING: dict[str, Callable[..., Any]] = {
    "addHandler": _add_handler, "removeHandler": _remove_handler, "setLevel": _set_level,
}  # fmt: skip
