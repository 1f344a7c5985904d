"""Line input with completion, a history, and a prompt that stays below all other output."""

from __future__ import annotations

import sys
import termios
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from .commands import COMMANDS, Names
from .translator import Translator


class Prompt:
    """The prompt. ``names`` returns completions and must be quick. With ``folder`` None, the history is not saved."""

    def __init__(self, translator: Translator, names: Callable[[], Names], folder: Path | None) -> None:
        history: History = InMemoryHistory() if folder is None else _History(folder)
        self._session: PromptSession[str] = PromptSession(
            translator.word("console.prompt"),
            history=history,
            completer=Words(names, translator),
            complete_in_thread=True,
        )
        self._terminal = sys.stdout
        # Held until a new line exists above which output can be written.
        self._beginning = threading.Lock()
        self._reading = False
        self._left = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Show other output above the prompt, and keep what is typed between two lines."""
        source = self._session.input
        with _all_keys_kept(source.fileno()), source.raw_mode(), patch_stdout(raw=True):
            yield

    def read(self) -> str | None:
        """Return the next line; None at the end: Ctrl-D, or Ctrl-C on an empty line."""
        self._beginning.acquire()
        try:
            return self._session.prompt(pre_run=self._begun)
        except KeyboardInterrupt:
            return "" if self._session.default_buffer.text else None
        except EOFError:
            return None
        finally:
            if not self._reading:
                self._beginning.release()
            self._reading = False

    def show(self, text: str) -> None:
        """Show text above the current line; immediately if no line is being read, so that it precedes the next."""
        with self._beginning:
            stream = sys.stdout if self._reading else self._terminal
            stream.write(text)
            stream.flush()

    def _begun(self) -> None:
        self._reading = True
        self._beginning.release()
        self._end_if_left()

    def leave(self) -> None:
        """Make ``read`` return None, whatever is typed. May be called from any thread."""
        self._left = True
        loop = self._session.app.loop
        if loop is not None:
            with suppress(RuntimeError):  # it was just closed; the next line is not started
                loop.call_soon_threadsafe(self._end_if_left)

    def _end_if_left(self) -> None:
        app = self._session.app
        if self._left and app.is_running and not app.is_done:
            app.exit(exception=EOFError())


@contextmanager
def _all_keys_kept(terminal: int) -> Iterator[None]:
    """Keep Ctrl-D and Ctrl-C from the terminal driver, which would swallow them while a line is printed above the
    prompt."""
    before = termios.tcgetattr(terminal)
    ours = [*before[:6], list(before[6])]
    for key in (termios.VEOF, termios.VINTR, termios.VQUIT, termios.VSUSP):
        ours[6][key] = b"\0"
    termios.tcsetattr(terminal, termios.TCSANOW, ours)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)


class _History(FileHistory):
    """A history file readable only by its user, because commands may contain secrets. If it cannot be used, the history
    stays in memory."""

    def __init__(self, folder: Path) -> None:
        file = folder / "history"
        with suppress(OSError):  # owned by another user, or read-only; then nothing is written
            folder.chmod(0o700)
            file.touch(0o600)
            file.chmod(0o600)
        super().__init__(str(file))

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


class Words(Completer):
    """Completes verbs, then the words that the verb takes. ``names`` must be quick."""

    def __init__(self, names: Callable[[], Names], translator: Translator) -> None:
        self._names = names
        self._translator = translator

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:  # noqa: ARG002
        before = document.text_before_cursor
        words = before.split()
        last = "" if before[-1:].isspace() or not words else words.pop()
        for choice in self._choices(words):
            if choice.startswith(last) and choice != last:
                about = "" if words else self._translator.word(f"help.{choice}")
                yield Completion(choice, -len(last), display_meta=about)

    def _choices(self, words: Sequence[str]) -> Iterable[str]:
        if not words:
            return COMMANDS
        command = COMMANDS.get(words[0])
        if command is None or len(words) > len(command.wants):
            return ()
        requested = command.wants[len(words) - 1]
        if requested == "commands":
            return COMMANDS
        if requested.startswith("--") or "|" in requested:
            return requested.split("|")
        return self._names().get(requested, ())
