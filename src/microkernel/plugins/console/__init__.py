"""The console: a prompt on a running kernel. A plugin like any other, on the public SDK alone.

In `mk run` it lives in the kernel's process at thread level, because it owns the terminal; in `mk attach` the same code
runs at the other end of the control socket. What it may do, it may do by the grant ``kernel.control``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import RenderableType
from rich.text import Text

from microkernel import Event, IPlugin, PluginAPI, Subscription
from microkernel.errors import KernelError

from . import view
from .commands import COMMANDS, Commands, Names, Words, split
from .feed import Feed
from .tongue import Tongue
from .verbs import AlreadyTold, Result, Verbs

_PATIENCE = 1.0
"""Seconds that the prompt waits for a command; then its answer comes above the prompt."""
_FRESH = 1.0
"""Seconds for which names are not asked for again."""
_LINES = 200
"""Lines a second that happen by themselves; more would be read by nobody."""


class Plugin(IPlugin):
    """A prompt on the terminal: all that can be asked of the kernel, and what happens as it happens."""

    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        config: dict[str, Any] = api.config
        self._attached = bool(config.get("attached"))
        self.tongue = Tongue(config.get("language", "en"), config.get("words", {}), self._tell)
        self.feed = Feed(self.tongue, config.get("version", ""))
        self._names: tuple[float, Names] = (0.0, {})
        self._watching: dict[str, Subscription] = {}
        self._flood = _Flood(_LINES)
        own = {"help": self._help, "quit": self._quit, "watch": self._watch}
        self._commands = Commands(Verbs(api, self.tongue, self.feed, 0.3), self.tongue, own)
        self._session: PromptSession[str]
        self._writing = threading.Lock()
        api.on("kernel.found", self._found, overflow="drop_oldest")
        api.on("kernel.message", self._message, overflow="drop_oldest")
        api.on("kernel.log.*", self._log, overflow="drop_oldest")

    def start(self) -> None:
        if self._attached:
            names = self.api.call("kernel.names", returns=dict[str, list[str]])["plugins"]
            self.feed.knows(names)
            kernel = self.api.config.get("kernel", "")
            self._show([Text(self.tongue.word("console.attached", name=kernel, count=len(names)))])
        self.api.spawn(self._converse)

    def stop(self) -> None:
        """Take the prompt away, whatever is on it."""
        app = getattr(self, "_session", None) and self._session.app
        if app and app.is_running and app.loop is not None:
            app.loop.call_soon_threadsafe(_leave, app)

    # The prompt

    def _converse(self) -> None:
        with patch_stdout(raw=True):
            self._session = PromptSession(
                self.tongue.word("console.prompt"),
                history=self._history(),
                completer=Words(self._known, self.tongue),
                complete_in_thread=True,
            )
            while self.api.is_active and self._turn():
                pass
        if self.api.is_active:
            self.api.call("kernel.shutdown")

    def _history(self) -> History:
        try:
            return _History(str(self.api.data_dir / "history"))
        except OSError:  # no place for it: it lasts as long as the console
            return InMemoryHistory()

    def _turn(self) -> bool:
        """One line; False for the last."""
        try:
            words = split(self._session.prompt(), self.tongue)
        except KeyboardInterrupt:
            return bool(self._session.default_buffer.text)
        except EOFError:
            return False
        except KernelError as error:
            self._fail(error)
            return True
        if words and words[0] == "quit":
            return False
        if words:
            self._begin(words)
        return True

    def _begin(self, words: Sequence[str]) -> None:
        """Do it beside the prompt, which waits a moment: most answers are there at once."""
        done = threading.Event()
        threading.Thread(target=self._do, args=(words, done), name=f"console-{words[0]}", daemon=True).start()
        if not done.wait(_PATIENCE):
            self._show([view.line("direct", " ".join(words), self.tongue.word("console.later"))])

    def _do(self, words: Sequence[str], done: threading.Event) -> None:
        try:
            self._show(self._commands.do(words).shown)
        except AlreadyTold:
            pass
        except KernelError as error:
            self._fail(error)
        finally:
            done.set()

    def _fail(self, error: KernelError) -> None:
        shown: list[RenderableType] = [view.line("error", error.id, self.tongue.error(error))]
        self._show([*shown, *view.their_lines(str(error.fields.get("remote_traceback", "")))])

    def _show(self, what: Sequence[RenderableType]) -> None:
        text = view.render(what, _columns(), color="NO_COLOR" not in os.environ)
        with self._writing:
            sys.stdout.write(text)
            sys.stdout.flush()

    # Its own commands

    def _help(self) -> Result:
        usages = [(verb, f"{verb} {command.usage}".strip()) for verb, command in COMMANDS.items()]
        return Result(None, view.commands(usages, self.tongue))

    def _quit(self) -> Result:
        return Result(None)

    def _watch(self, pattern: str = "") -> Result:
        """Show events as they happen; a second time, or ``off``, no more."""
        if pattern == "off":
            while self._watching:
                self._watching.popitem()[1].cancel()
        elif pattern in self._watching:
            self._watching.pop(pattern).cancel()
        elif pattern:
            self._watching[pattern] = self.api.on(pattern, self._event, overflow="drop_oldest")
        watched = ", ".join(self._watching) or view.NOTHING
        return Result(None, [Text(self.tongue.word("console.watching", what=watched))])

    # What happens

    def _found(self, kernel: str, names: list[str]) -> None:
        self._show(self.feed.found(kernel, names))

    def _message(self, id: str, level: str, plugin: str, fields: dict[str, Any]) -> None:
        if plugin != self.api.name or level == "error":
            self._show(self.feed.message(id, level, plugin, fields))

    def _log(self, event: Event) -> None:
        self._happened(self.feed.log(event.data))

    def _event(self, event: Event) -> None:
        self._happened(self.feed.event(event.topic, event.source, event.data))

    def _happened(self, lines: Sequence[RenderableType]) -> None:
        missed = self._flood.missed(time.monotonic())
        if missed is None:
            return
        if missed:
            self._show([Text(self.tongue.word("console.flood", count=f"{missed:,}"), "dim")])
        self._show(lines)

    # What it knows

    def _tell(self, id: str, fields: Any) -> str:
        plain = {key: value for key, value in fields.items() if isinstance(value, str | int | float | list | None)}
        try:
            return str(self.api.call("kernel.tell", id, plain, self.tongue.language, timeout=2.0))
        except KernelError:
            return KernelError(id, **plain).text

    def _known(self) -> Names:
        """Names to complete, not older than a second; the last known where the kernel does not answer at once."""
        moment, names = self._names
        if time.monotonic() - moment > _FRESH:
            try:
                names = self.api.call("kernel.names", timeout=0.5)
            except KernelError:
                return names
            self._names = (time.monotonic(), names)
        return names


class _Flood:
    """Lets so many lines a second through, and counts the others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._shown = 0
        self._missed = 0

    def missed(self, now: float) -> int | None:
        """None: not this one. Otherwise it may be shown, after so many that were not."""
        if int(now) != self._second:
            self._second, self._shown = int(now), 0
        self._shown += 1
        if self._shown > self._most:
            self._missed += 1
            return None
        missed, self._missed = self._missed, 0
        return missed


class _History(FileHistory):
    """A history that is a convenience: without a place for it, it lives in memory."""

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except OSError:
            return

    def load_history_strings(self) -> Sequence[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []


def _columns() -> int:
    try:
        return os.get_terminal_size().columns
    except OSError:
        return view.ENDLESS


def _leave(app: Any) -> None:
    if app.is_running:
        app.exit(exception=EOFError())
