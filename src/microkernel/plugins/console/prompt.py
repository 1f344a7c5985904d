"""Reading lines: completion, a history, and a prompt below everything else that is printed."""

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
    """``names`` gives what can be completed, quickly; ``folder`` None: the history lasts as long as the console."""

    def __init__(self, translator: Translator, names: Callable[[], Names], folder: Path | None) -> None:
        history: History = InMemoryHistory() if folder is None else _History(folder)
        self._session: PromptSession[str] = PromptSession(
            translator.word("console.prompt"),
            history=history,
            completer=Words(names, translator),
            complete_in_thread=True,
        )
        self._terminal = sys.stdout
        self._beginning = threading.Lock()
        """Held until the line that begins is there to write above."""
        self._reading = False
        self._left = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Meanwhile what others print comes above the prompt, and what is typed between two lines is kept."""
        source = self._session.input
        with _all_keys_kept(source.fileno()), source.raw_mode(), patch_stdout(raw=True):
            yield

    def read(self) -> str | None:
        """The next line; None for the end: Ctrl-D, or Ctrl-C where nothing is typed."""
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
        """Above the line that is being read; where none is, at once, so that it comes before the next."""
        with self._beginning:
            stream = sys.stdout if self._reading else self._terminal
            stream.write(text)
            stream.flush()

    def _begun(self) -> None:
        self._reading = True
        self._beginning.release()
        self._end_if_left()

    def leave(self) -> None:
        """Have ``read`` return None, whatever is typed. From any thread."""
        self._left = True
        loop = self._session.app.loop
        if loop is not None:
            with suppress(RuntimeError):  # it was closed this moment: the next line is not begun
                loop.call_soon_threadsafe(self._end_if_left)

    def _end_if_left(self) -> None:
        app = self._session.app
        if self._left and app.is_running and not app.is_done:
            app.exit(exception=EOFError())


@contextmanager
def _all_keys_kept(terminal: int) -> Iterator[None]:
    """Ctrl-D and Ctrl-C mean nothing to the terminal itself: while a line is printed above the prompt it would take
    them for its own, and they would be lost."""
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
    """A history that is a convenience: without a place for it, it lives in memory. Commands may hold secrets, so its
    file, and the folder that it is in, are its user's alone."""

    def __init__(self, folder: Path) -> None:
        file = folder / "history"
        with suppress(OSError):  # another's, or read-only: then nothing is written either
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
    """Completes verbs, then what the verb wants. ``names`` must be quick."""

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
