"""The commands that work on a kernel, shared by the command line and the console."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from rich.console import RenderableType
from rich.text import Text

from microkernel.errors import KernelError, PluginHeld, PluginLoadError, ReloadFailed, valid_text
from microkernel.sdk.binding.command_arguments import CommandText
from microkernel.sdk.durations import seconds_in

from . import approval_view, view
from .translator import Translator, plain

# Timeout in seconds for requests that the kernel answers by itself.
QUICK = 5.0
# Timeout in seconds for an operation on all plugins.
ALL = 600.0
# Timeout in seconds for operations that wait for a plugin's own deadlines: load, start, stop.
LONG = 120.0
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


class KernelClient(Protocol):
    """Access to a kernel. ``PluginAPI`` and ``ControlClient`` implement it."""

    def call(self, target: str, /, *args: Any, timeout: float = 5.0, **kwargs: Any) -> Any: ...
    def emit(self, topic: str, /, **data: Any) -> None: ...
    def get_data(self, key: str, default: Any = None) -> Any: ...
    def set_data(self, key: str, value: Any, *, expect: int | None = None) -> int: ...
    def delete_data(self, key: str) -> None: ...


class Notices(Protocol):
    """Knows which kernel messages were reported. ``Feed`` implements it."""

    def reported(self, plugin: str) -> int: ...
    def wait(self, plugin: str, before: int, seconds: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a command: ``data`` for JSON, ``shown`` for people."""

    data: Any
    shown: Sequence[RenderableType] = ()
    # False if part of the request failed.
    ok: bool = True


def parse_arguments(words: Sequence[str]) -> tuple[list[CommandText], dict[str, CommandText]]:
    """Parse ``3 currency=EUR`` into the arguments of a call. The type hint of each parameter decides what its text
    means."""
    args: list[CommandText] = []
    kwargs: dict[str, CommandText] = {}
    for word in words:
        match = _KEY.fullmatch(word)
        if match:
            kwargs[match[1]] = CommandText(match[2])
        else:
            args.append(CommandText(word))
    return args, kwargs


def not_understood(reason: str, suggestion: str = "") -> KernelError:
    return KernelError("MK0710", reason=reason, suggestion=suggestion)


class KernelCommands:
    """One method per command. Each waits for the kernel, at most for the command's timeout."""

    def __init__(self, client: KernelClient, translator: Translator, notices: Notices, catch_up: float = 0.0) -> None:
        self._client = client
        self._translator = translator
        self._notices = notices
        # Seconds to wait for another thread to show the messages about an operation.
        self._catch_up = catch_up

    # Queries

    def ps(self, all: bool = False) -> Result:
        infos = [info for info in self._ask("list") if all or not info["built_in"]]
        return Result(infos, view.plugins(infos, self._translator))

    def info(self, name: str) -> Result:
        info = self._ask("info", name)
        return Result(info, view.plugin(info, self._translator))

    def logs(self, name: str = "", last: int = 20) -> Result:
        lines = self._ask("logs", name, last)
        cells = max((len(line["plugin"]) for line in lines), default=0)
        return Result(lines, [view.log_line(line, cells, stamped=True) for line in lines])

    def explain(self, id: str, columns: int = 0) -> Result:
        text = self._ask("explain", id, self._translator.language, columns)
        return Result(text, [Text(text)])

    def glossary(self, word: str = "") -> Result:
        found = self._ask("glossary", word, self._translator.language)
        return Result(found, view.terms(found, self._translator))

    # Operations on a plugin

    def start(self, name: str, reset: bool = False) -> Result:
        return self._act(name, lambda: self._ask("start", name, reset, timeout=LONG))

    def stop(self, name: str, cascade: bool = False, now: bool = False) -> Result:
        return self._act(name, lambda: self._ask("stop", name, cascade, now, timeout=LONG))

    def reload(self, name: str = "", all: bool = False) -> Result:
        if all == bool(name):
            raise not_understood(self._translator.word("usage.form", form="reload NAME | --all"))
        if all:
            return self._reload_all()
        return self._act(name, lambda: self._ask("reload", name, timeout=LONG))

    def _reload_all(self) -> Result:
        """Reload all plugins. The kernel's messages report each one; this returns the summary."""
        done = self._ask("reload_all", timeout=ALL)
        count, failed = len(done["reloaded"]), [each["plugin"] for each in done["failed"]]
        for name in (*done["reloaded"], *failed):
            self._notices.wait(name, 0, self._catch_up)  # shown before the summary
        if not failed:
            return Result(done, [view.line("success", self._translator.word("done.reloaded_all", count=count))])
        text = self._translator.word("done.reloaded_some", count=count, failed=failed)
        return Result(done, [view.line("error", text)], ok=False)

    def kill(self, name: str) -> Result:
        return self._act(name, lambda: self._ask("kill", name, timeout=LONG))

    def approve(self, name: str, ask: Callable[[approval_view.Review], str] = lambda _: "y") -> Result:
        """Approve what a plugin asks for.

        ``ask`` shows it and returns ``y`` (approve and remember), ``o`` (approve once), ``n`` (no), or ``again`` if the
        decision is still open.
        """
        review = self._ask("review", name, timeout=LONG)
        if approval_view.is_fine(review):
            done = self._act(name, lambda: self._ask("approve", name, timeout=LONG))
            return Result(done.data, [view.line("notice", name, self._translator.word("grant.nothing")), *done.shown])
        answer = ask(review)
        if answer == "again":
            return Result(review, [view.line("notice", name, self._translator.word("grant.again", name=plain(name)))])
        if answer == "n":
            word = "grant.lowered" if approval_view.is_limits_alone(review) else "grant.refused"
            return Result(review, [view.line("warn", name, self._translator.word(word))], ok=False)
        remember = answer == "y"
        done = self._act(name, lambda: self._ask("approve", name, review["digest"], remember, timeout=LONG))
        word = self._translator.word("grant.remembered" if remember else "grant.once")
        return Result(done.data, [view.line("success", name, word), *done.shown])

    def load(self, path: str) -> Result:
        info = self._ask("load", path if valid_text(path) == path else os.fsencode(path), timeout=LONG)
        return Result(info, self._settled(info["name"], info, 0))

    def unload(self, name: str) -> Result:
        before = self._notices.reported(name)
        leftovers = self._ask("unload", name, timeout=LONG)
        shown = [view.line("success", name, self._translator.word("done.unloaded"))]
        if not self._notices.wait(name, before, self._catch_up):  # otherwise the kernel's messages reported it
            shown += [
                view.line("warn", name, "MK0302", self._translator.tell("MK0302", {"what": e})) for e in leftovers
            ]
        return Result(leftovers, shown)

    def _act(self, name: str, do: Callable[[], Any]) -> Result:
        """Run an operation on a plugin. The kernel's messages report the result; without any, show the state."""
        before = self._notices.reported(name)
        try:
            data = do()
        except (PluginLoadError, PluginHeld, ReloadFailed) as error:
            if self._notices.wait(name, before, self._catch_up):
                raise AlreadyReported(error.id, **error.fields) from None
            raise
        return Result(data, self._settled(name, data, before))

    def _settled(self, name: str, data: Any, before: int) -> Sequence[RenderableType]:
        if self._notices.wait(name, before, self._catch_up):
            return ()
        state = data.get("state") if isinstance(data, dict) else None
        return [view.line("notice", name, self._translator.state(state or "active"))]

    # Events, calls and data

    def emit(self, topic: str, *words: str) -> Result:
        args, data = parse_arguments(words)
        if args:
            raise not_understood(self._translator.word("usage.pair", word=words[0]))
        listeners = self._ask("listeners", topic)  # before emitting: a subscription may be for one event only
        self._client.emit(topic, **data)
        meant = {key: text.value for key, text in data.items()}
        shown = view.line("success", topic, self._translator.word("done.emitted"))
        if not listeners:
            near = get_close_matches(topic, self._ask("names")["topics"], 1)
            suggestion = self._translator.word("done.near", topic=near[0]) if near else ""
            shown = view.line("warn", topic, self._translator.word("done.unheard", suggestion=suggestion))
        return Result({"topic": topic, "data": meant, "listeners": listeners}, [shown])

    def call(self, target: str, *words: str, timeout: float = QUICK) -> Result:
        args, kwargs = parse_arguments(words)
        if "timeout" in kwargs:
            raise not_understood(self._translator.word("usage.timeout"))
        value = self._client.call(target, *args, timeout=timeout, **kwargs)
        return Result(value, [Text(view.value_text(value))])

    def data(self, key: str = "", value: str | None = None, delete: bool = False) -> Result:
        if delete:
            self._client.delete_data(key)
            return Result(None, [view.line("success", key, self._translator.word("done.deleted"))])
        if value is not None:
            revision = self._client.set_data(key, CommandText(value).value)
            return Result(revision, [view.line("success", key, self._translator.word("done.set", revision=revision))])
        board = self._ask("data", key)
        if key in board:
            board = {key: board[key]}
        return Result(board, view.board(board, self._translator))

    def dead(
        self,
        what: str = "list",
        which: str = "",
        plugin: str = "",
        topic: str = "",
        since: str = "",
        each: bool = False,
    ) -> Result:
        """Work on dead letters.

        ``plugin``, ``topic`` (a pattern) and ``since`` (a duration up to now) choose those to replay or drop. ``each``:
        list them individually.
        """
        if what == "list":
            letters = self._ask("dead", which or plugin)
            return Result(letters, view.letters(letters, self._translator, each=each))
        if what in ("replay", "drop") and not which and (plugin or topic or since):
            return self._dead_of(what, plugin, topic, since)
        if what not in ("show", "replay", "drop") or not which.isdecimal() or plugin or topic or since:
            raise not_understood(self._translator.word("usage.dead"))
        number = int(which)
        if what == "show":
            found = next((each for each in self._ask("dead") if each["id"] == number), None)
            if found is None:
                raise KernelError("MK0614", letter=number)
            return Result(found, view.letter(found, self._translator))
        done = self._ask(what, number)
        return Result(done, [view.line("success", self._translator.word(f"done.{what}", id=number))])

    def _dead_of(self, what: str, plugin: str, topic: str, since: str) -> Result:
        try:
            begin = time.time() - seconds_in(since) if since else 0.0
        except ValueError:
            raise not_understood(self._translator.word("usage.duration", word=since[:40])) from None
        done = self._ask(f"{what}_all", plugin, topic, begin, timeout=ALL)
        if what == "drop":
            return Result(done, [view.line("success", self._translator.word("done.drop_all", count=done))])
        kind = "warn" if done["left"] else "success"
        word = "done.replay_some" if done["left"] else "done.replay_all"
        return Result(done, [view.line(kind, self._translator.word(word, **done))])

    def _ask(self, method: str, *args: Any, timeout: float = QUICK) -> Any:
        return self._client.call(f"kernel.{method}", *args, timeout=timeout)


class AlreadyReported(KernelError):
    """An operation failed, and the message that says so has been shown."""
