"""The console: a prompt on a running kernel. An ordinary plugin that uses only the public SDK.

In `mk run` it runs at the level thread, because it owns the terminal. In `mk attach` the same code runs at the other
end of the control socket. Its permissions come from the grant ``kernel.control``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from microkernel import Event, IPlugin, PluginAPI, Subscription
from microkernel.errors import KernelError

from . import approval_view, view
from .commands import COMMANDS, Commands, Names, command_lines, split, unknown_command
from .feed import Feed
from .kernel_commands import AlreadyReported, KernelCommands, Result
from .translator import Translator

if TYPE_CHECKING:
    from .prompt import Prompt

# Seconds that the prompt waits for a command; after that the answer is shown above the prompt.
_PATIENCE = 1.0
# Seconds for which names for completion are cached.
_FRESH = 1.0
# Seconds that ``stop`` waits for the prompt to end; a command in progress delays it by its patience.
_FAREWELL = 3.0
# Lines per second that are shown without a command. More could not be read.
_LINES = 200


# Topics whose events the console shows in lines of special form, watched or not.
_SHOWN = ("kernel.found", "kernel.message", "kernel.log.")


class Plugin(IPlugin):
    """A prompt on the terminal for all commands of the kernel, which also shows events as they happen."""

    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        config: dict[str, Any] = api.config
        self._quiet = {api.name, *config.get("quiet", ())}
        self._attached = bool(config.get("attached"))
        self.translator = Translator(config.get("language", "en"), config.get("words", {}), self._tell)
        self.feed = Feed(self.translator, config.get("version", ""))
        self._names: tuple[float, Names] = (0.0, {})
        self._watching: dict[str, Subscription] = {}
        self._last_event = 0
        self._flood = _LineLimiter(_LINES)
        # What was shown of plugins that ask for permissions: their files and their requests.
        self._shown: dict[str, tuple[Any, ...]] = {}
        own: dict[str, Callable[..., Result]] = {
            "help": self._help, "quit": self._quit, "watch": self._watch, "approve": self._approve,
        }  # fmt: skip
        self._verbs = KernelCommands(api, self.translator, self.feed, 0.3)
        self._commands = Commands(self._verbs, self.translator, own)
        self._prompt: Prompt | None = None
        self._gone = threading.Event()
        self._writing = threading.Lock()
        api.on("kernel.found", self._found, overflow="drop_oldest")
        api.on("kernel.message", self._message, overflow="drop_oldest")
        api.on("kernel.log.*", self._log, overflow="drop_oldest")

    def start(self) -> None:
        if self._attached:
            names = self.api.call("kernel.names", returns=dict[str, list[str]])["plugins"]
            self.feed.knows(names)
            kernel = self.api.config.get("kernel", "")
            self._show([Text(self.translator.word("console.attached", name=kernel, count=len(names)))])
        self.api.spawn(self._converse)

    def stop(self) -> None:
        """Remove the prompt, whatever is typed on it."""
        if self._prompt is not None:
            self._prompt.leave()
            self._gone.wait(_FAREWELL)  # output of others is lost until the terminal is restored

    # The prompt

    def _converse(self) -> None:
        from .prompt import Prompt  # loads prompt_toolkit, which only the prompt needs

        prompt = self._prompt = Prompt(self.translator, self._known, self._data_dir())
        with prompt.shared():
            while self.api.is_active and self._turn(prompt):
                pass
        self._gone.set()
        if self.api.is_active:
            self.api.call("kernel.shutdown")

    def _data_dir(self) -> Path | None:
        try:
            return self.api.data_dir
        except OSError:
            return None

    def _turn(self, prompt: Prompt) -> bool:
        """Run what was typed or pasted, one command per line. Returns False when the console ends."""
        text = prompt.read()
        if text is None:
            return False
        lines = command_lines(text)
        last = next((number for number, line in enumerate(lines) if line.split()[0] == "quit"), None)
        if lines[:last]:
            self._begin(lines[:last])
        return last is None

    def _begin(self, lines: Sequence[str]) -> None:
        """Run commands in turn in the background. The prompt waits a moment, because most answers arrive at once."""
        done = threading.Event()
        self.api.spawn(self._do_all, lines, done)
        if not done.wait(_PATIENCE):
            self._show([view.line("direct", lines[-1], self.translator.word("console.later"))])

    def _do_all(self, lines: Sequence[str], done: threading.Event) -> None:
        try:
            for line in lines:
                self._do(line)
        finally:
            done.set()

    def _do(self, line: str) -> None:
        try:
            self._show(self._commands.do(split(line, self.translator)).shown)
        except AlreadyReported:
            pass  # the message that says so has been shown
        except KernelError as error:
            self._fail(error)

    def _fail(self, error: KernelError) -> None:
        shown: list[RenderableType] = [view.line("error", error.id, self.translator.error(error))]
        self._show([*shown, *view.their_lines(str(error.fields.get("remote_traceback", "")))])

    def _show(self, what: Sequence[RenderableType]) -> None:
        text = view.render(what, _columns(), color=view.is_colored(os.environ))
        with self._writing:
            (self._prompt.show if self._prompt is not None else _write)(text)

    # Commands of the console

    def _help(self, verb: str = "") -> Result:
        if verb and verb not in COMMANDS:
            raise unknown_command(verb, self.translator)
        shown = {verb: COMMANDS[verb]} if verb else COMMANDS
        usages = [(name, f"{name} {command.usage}".strip()) for name, command in shown.items()]
        return Result(None, view.commands(usages, self.translator))

    def _quit(self) -> Result:
        return Result(None)

    def _approve(self, name: str) -> Result:
        """Show what a plugin asks for; entered again while that is unchanged, approve it."""
        return self._verbs.approve(name, self._show_or_agree)

    def _show_or_agree(self, review: approval_view.Review) -> str:
        name, asked = str(review["name"]), (review["digest"], *review["added"])
        if self._shown.pop(name, None) == asked:
            return "y"
        self._shown[name] = asked
        self._show(approval_view.question(review, self.translator))
        return "again"

    def _watch(self, pattern: str = "") -> Result:
        """Show events as they happen; entered again, or with ``off``, stop showing them."""
        if pattern == "off":
            while self._watching:
                self._watching.popitem()[1].cancel()
        elif pattern in self._watching:
            self._watching.pop(pattern).cancel()
        elif pattern:
            self._watching[pattern] = self.api.on(pattern, self._event, overflow="drop_oldest")
        watched = list(self._watching) or view.NOTHING
        return Result(None, [Text(self.translator.word("console.watching", what=watched))])

    # Events

    def _found(self, kernel: str, names: list[str]) -> None:
        self._show(self.feed.found(kernel, names))

    def _message(self, id: str, level: str, plugin: str, fields: dict[str, Any]) -> None:
        if plugin not in self._quiet or level == "error":
            self._show(self.feed.message(id, level, plugin, fields))

    def _log(self, event: Event) -> None:
        self._happened(self.feed.log(event.data))

    def _event(self, event: Event) -> None:
        """Show an event once, even if several watched patterns match it. Topics of special form are skipped."""
        if event.id == self._last_event or event.topic.startswith(_SHOWN):
            return
        self._last_event = event.id
        self._happened(self.feed.event(event.topic, event.source, event.data))

    def _happened(self, lines: Sequence[RenderableType]) -> None:
        missed = self._flood.missed(time.monotonic())
        if missed is None:
            return
        if missed:
            self._show([Text(self.translator.word("console.flood", count=f"{missed:,}"), "dim")])
        self._show(lines)

    # Names and texts

    def _tell(self, id: str, fields: Any) -> str:
        plain = {key: value for key, value in fields.items() if isinstance(value, str | int | float | list | None)}
        try:
            return str(self.api.call("kernel.tell", id, plain, self.translator.language, timeout=2.0))
        except KernelError:
            return KernelError(id, **plain).text

    def _known(self) -> Names:
        """Return names for completion, at most a second old; the last known ones if the kernel is slow."""
        moment, names = self._names
        if time.monotonic() - moment > _FRESH:
            try:
                names = self.api.call("kernel.names", timeout=0.5)
            except KernelError:
                return names
            self._names = (time.monotonic(), names)
        return names


class _LineLimiter:
    """Lets a limited number of lines per second through and counts the others."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._shown = 0
        self._missed = 0

    def missed(self, now: float) -> int | None:
        """Return how many lines were suppressed before this one may be shown; None if this one is suppressed."""
        if int(now) != self._second:
            self._second, self._shown = int(now), 0
        self._shown += 1
        if self._shown > self._limit:
            self._missed += 1
            return None
        missed, self._missed = self._missed, 0
        return missed


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _columns() -> int:
    try:
        return os.get_terminal_size().columns or view.ENDLESS
    except OSError:
        return view.ENDLESS
