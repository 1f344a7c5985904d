"""`mk run`: run a kernel in this terminal, or without one, until it is asked to end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import termios
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from types import FrameType
from typing import Any

from rich.console import RenderableType

import microkernel
from microkernel import Event
from microkernel.app import Kernel
from microkernel.cli import streams
from microkernel.cli.approval_prompt import ask_all
from microkernel.cli.built_in import source_folder
from microkernel.cli.output import Output, words_of
from microkernel.cli.shutdown import Ending
from microkernel.control.server import ControlServer
from microkernel.errors import KernelError
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.kernel import Core
from microkernel.kernel.manifest import Level, Permissions
from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.registry.states import RUNNING
from microkernel.plugins.console import view
from microkernel.plugins.console.as_json import json_text

CONSOLE, WATCHER = map(source_folder, ("console", "watcher"))
GRANT = Permissions(kernel=("observe", "control"))


def console_config(output: Output, **more: Any) -> dict[str, Any]:
    """Return the configuration of the console, which may not read files itself."""
    words, language = words_of(output.catalog), output.catalog.language
    return {"language": language, "words": words, "version": microkernel.__version__, "quiet": ["watcher"], **more}


class Run:
    """The life of one kernel."""

    def __init__(
        self, places: Sequence[str], config: KernelConfig, name: str, isolation: Level | None, output: Output,
        with_console: bool, watching: bool, lock: str | None = None,
        reread: Callable[[], KernelConfig] | None = None,
    ) -> None:  # fmt: skip
        """Create the kernel. ``reread`` returns the current configuration."""
        self._output = output
        self._watching = watching
        # Plugins that come with ``mk``. Their starts and stops are not reported.
        self._ours = [name for name, wanted in (("console", with_console), ("watcher", watching)) if wanted]
        self._with_console = with_console
        self._isolation = isolation
        self._reread = reread
        self._kernel = Kernel(places, config=self._completed(config), name=name, lock=lock)
        self._server: ControlServer | None = None
        self._end = Ending()
        self._begun = False
        self._printer = _Printer(output, self._ours, silent=with_console)
        self._terminal = _terminal_state() if with_console else None

    def run(self) -> int:
        """Run until asked to end. Raises KernelError if the kernel cannot start."""
        _quiet_logs(self._output)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup, or a shell's &
                signal.signal(number, self._on_signal)
        try:
            self._kernel.open(self._ready)
            self._end.wait()
        finally:
            self._close()
        return 0

    def _completed(self, config: KernelConfig) -> KernelConfig:
        """Add the level that the command line names for all plugins, and the built-in plugins."""
        plugin = _DefaultLevelMap(self._isolation, config.plugin) if self._isolation else dict(config.plugin)
        if self._with_console:
            reported = console_config(self._output)
            plugin["console"] = PluginConfig(isolation="thread", permissions=GRANT, config=reported)
        if self._watching and _can_watch():
            plugin["watcher"] = PluginConfig(isolation="thread", permissions=GRANT)
        return replace(config, plugin=plugin)

    def _ready(self, kernel: Kernel) -> None:
        """Add the listeners and the control socket, before the first plugin starts."""
        reread = self._reread
        if reread is not None:
            kernel.core.config.read_from(lambda: self._completed(reread()))
        self._printer.listen(kernel)
        kernel.on("kernel.shutdown", self._end.ask)
        self._server = ControlServer(kernel.core)
        self._server.open()
        self._begun = True
        if self._with_console:
            ask_all(kernel.core, self._output)
            kernel.core.plugins.load(CONSOLE, built_in=True)
        if self._watching:
            self._watch(kernel.core)

    def _watch(self, core: Core) -> None:
        if not _can_watch():
            core.texts.announce("MK0308", fields={"extra": "console"})
            return
        with suppress(KernelError):  # it has been reported
            core.plugins.load(WATCHER, built_in=True)

    def _close(self) -> None:
        try:
            core = self._kernel.core
        except KernelError:
            return  # the kernel did not start
        for name in self._ours if self._begun else ():
            with suppress(KernelError):
                core.plugins.stop(name, now=True)
        self._printer.unmute()
        if self._begun:
            self._output.notice(self._output.translator.word("run.stopping"), "direct")
        core.close()
        if self._server is not None:
            self._server.close()
        self._kernel.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Ask the kernel to stop at the first signal, and kill at the second. Processes of plugins end with the kernel
        in any case."""
        if not self._end.is_asked_again():
            self._end.ask()
            return
        if self._terminal is not None:
            termios.tcsetattr(0, termios.TCSANOW, self._terminal)
        if self._server is not None:
            self._server.path.unlink(missing_ok=True)
        left = not_stopped(self._kernel.core.registry)
        with suppress(OSError):
            os.write(2, f"! {self._output.translator.word('run.killed', count=len(left))}\n".encode())
        os._exit(128 + number)


def _can_watch() -> bool:
    return find_spec("watchfiles") is not None


def not_stopped(records: Iterable[PluginRecord]) -> list[str]:
    """Return the operator's plugins that are still running."""
    return [r.name for r in records if r.state in (*RUNNING, "zombie") and not (r.built_in or r.is_remote_client)]


class _DefaultLevelMap(dict[str, PluginConfig]):
    """Plugin configuration that puts every plugin at one level.

    ``Kernel(isolation=...)`` would also move the console, which cannot run in a worker because a worker has no
    terminal.
    """

    def __init__(self, level: Level, plugin: Mapping[str, PluginConfig]) -> None:
        super().__init__({name: replace(own, isolation=level) for name, own in plugin.items()})
        self._others = PluginConfig(isolation=level)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 - there is one for everybody
        return super().get(name, self._others)


class _Printer:
    """Prints messages line by line, on the embedding program's event thread."""

    def __init__(self, output: Output, quiet: Sequence[str], silent: bool) -> None:
        self._output = output
        self._quiet = quiet
        self._silent = silent

    def unmute(self) -> None:
        self._silent = False

    def listen(self, kernel: Kernel) -> None:
        kernel.on("kernel.found", self._found, overflow="drop_oldest")
        kernel.on("kernel.message", self._message, overflow="drop_oldest")
        kernel.on("kernel.log.*", self._log, overflow="drop_oldest")

    def _found(self, event: Event) -> None:
        self._show(event, self._output.feed.found(**event.data))

    def _message(self, event: Event) -> None:
        data = event.data
        lines = self._output.feed.message(data["id"], data["level"], data["plugin"], data["fields"])
        if data["plugin"] not in self._quiet or data["level"] == "error":
            self._show(event, lines)

    def _log(self, event: Event) -> None:
        self._show(event, self._output.feed.log(event.data))

    def _show(self, event: Event, lines: Sequence[RenderableType]) -> None:
        if self._silent:
            return
        with suppress(OSError, ValueError):  # the reader is gone
            self._output.show(lines, {"event": event.topic, "time": event.time, **event.data})


class _Own(logging.Handler):
    """Prints the kernel's own log records, which appear nowhere else."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "mk_id") or record.name.startswith("microkernel.plugin."):
            return
        trouble = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() + (f" ({type(trouble).__name__}: {trouble})" if trouble else "")
        with suppress(OSError, ValueError):
            if self._output.as_json:
                streams.write(json_text({"event": "log", "text": text}) + "\n", sys.stderr)
            else:
                self._output.write([view.line("error", text)], sys.stderr)


def _quiet_logs(output: Output) -> None:
    """Silence the standard library's last-resort handler, which would print again what the listeners print."""
    logger = logging.getLogger("microkernel")
    logger.addHandler(_Own(output))
    logger.propagate = False


def _terminal_state() -> list[Any] | None:
    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None
