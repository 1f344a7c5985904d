"""A workspace and a harness for checks: plugins from source strings in a real kernel, and ways to wait for effects.

Nothing here sleeps: ``KernelHarness.until`` checks again whenever the kernel emits an event.
"""

from __future__ import annotations

import textwrap
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from microkernel.app import Kernel
from microkernel.errors import KernelError
from microkernel.kernel.admission.permissions import CONFINED, Grant
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.manifest import Level, Permissions
from microkernel.kernel.reporting.plugin_info import PluginInfo
from microkernel.sdk.event import Event

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

# Seconds after which a check gives up waiting. No check asserts a time.
TIMEOUT = 20.0
# Seconds between two checks of what no event reports, such as the end of a process.
_POLL_SECONDS = 0.02

# Plugins that checks load into a running kernel: at confined levels these need grants too.
_LATER = ("extra", "lazy", "watcher")

_HEAD = '''
import asyncio, os, sys, threading, time
from typing import Any
from microkernel import Event, IPlugin, PluginAPI, every, expose, on
from microkernel import errors

class Base(IPlugin):
    def start(self) -> None: ...

    def hold(self, key: str) -> None:
        """Do not return before somebody has set a key of the context."""
        while self.api.get_data(key) is None:
            time.sleep(0.001)
'''


def plugin(body: str, *, head: str = "", manifest: str = "") -> str:
    """Return the source of a plugin.

    ``body`` is the inside of ``class Plugin``, ``head`` precedes the class, ``manifest`` has the lines of its
    ``[tool.microkernel]`` table. ``start`` and ``stop`` default to doing nothing.
    """
    block = "".join(f"# {line}\n" for line in textwrap.dedent(manifest).strip().splitlines())
    script = f"# /// script\n# [tool.microkernel]\n{block}# ///\n" if block else ""
    inside = textwrap.indent(textwrap.dedent(body).strip("\n") or "pass", "    ")
    return f"{script}{_HEAD}{textwrap.dedent(head)}\n\nclass Plugin(Base):\n{inside}\n"


class Workspace:
    """A folder for plugins, and the level they run at. ``direct_after`` is that of the kernel's configuration."""

    def __init__(self, level: Level, folder: Path, direct_after: int = KernelConfig().direct_after) -> None:
        self.level: Level = level
        self.direct_after = direct_after
        self.folder = folder
        self.plugins = folder / "plugins"
        self.plugins.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, source: str | Mapping[str, str]) -> Path:
        """Write a plugin's file, or its folder if ``source`` maps names to texts. Return its path."""
        path = self.plugins / (f"{name}.py" if isinstance(source, str) else name)
        files = {path: source} if isinstance(source, str) else {path / inner: text for inner, text in source.items()}
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return path

    @contextmanager
    def run(self, config: KernelConfig | None = None, /, **sources: str | Mapping[str, str]) -> Iterator[KernelHarness]:
        """Run a kernel with these plugins, by name; yield its harness."""
        for name, source in sources.items():
            self.write(name, source)
        config = replace(config or KernelConfig(), data_dir=str(self.folder / "data"), direct_after=self.direct_after)
        names = (*sources, *_LATER) if self.level in CONFINED else ()
        grants: dict[str, Grant] = dict.fromkeys(names, Permissions(limits=None))
        kernel = Kernel(self.plugins, config, name="workspace", isolation=self.level, grants=grants)
        harness = KernelHarness(kernel, self)
        try:
            kernel.open(harness.listen)
            yield harness
        finally:
            kernel.close()


class KernelHarness:
    """A running kernel, a record of its events, and ways to wait for them."""

    def __init__(self, kernel: Kernel, workspace: Workspace) -> None:
        self.kernel = kernel
        self.workspace = workspace
        self.level = workspace.level
        self._changed = threading.Condition()
        self._received: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def listen(self, kernel: Kernel) -> None:
        """Subscribe before any plugin starts, so that their first events are recorded."""
        kernel.on("out.**", self._record)
        kernel.on("kernel.**", self._notify, inline=True)  # on the kernel's threads, which may lock

    # What has happened

    def received(self, topic: str, count: int = 0) -> list[dict[str, Any]]:
        """Wait for ``count`` events ``out.<topic>``, then return the payloads of all so far."""
        self.until(lambda: len(self._received[topic]) >= count, f"{count} events out.{topic}")
        return list(self._received[topic])

    def until(self, holds: Callable[[], T], what: str = "it") -> T:
        """Wait until ``holds()`` is true, and return its value. Raises AssertionError after ``TIMEOUT`` seconds."""
        deadline = time.monotonic() + TIMEOUT
        with self._changed:
            while not (value := holds()):
                if time.monotonic() > deadline:
                    raise AssertionError(f"{what} did not come in {TIMEOUT:g} s; {self.summary()}")
                self._changed.wait(_POLL_SECONDS)
        return value

    def until_state(self, name: str, *states: str) -> PluginInfo:
        self.until(lambda: self.info(name).state in states, f"{name} {' or '.join(states)}")
        return self.info(name)

    def until_dead_letters(self, count: int, name: str = "") -> list[dict[str, Any]]:
        """Wait for ``count`` dead letters, then return all of them."""
        self.until(lambda: len(self.kernel.dead_letters(name)) >= count, f"{count} dead letters")
        return self.kernel.dead_letters(name)

    def summary(self) -> str:
        plugins = [f"{info.name} {info.state} {info.error or ''}".strip() for info in self.kernel.list()]
        return f"{'; '.join(plugins)}; {len(self.kernel.dead_letters())} dead letters"

    def info(self, name: str) -> PluginInfo:
        return self.kernel.info(name)

    def log_lines(self, name: str) -> list[tuple[str, str]]:
        """Return the (stream, text) pairs of a plugin's log."""
        return [(line["stream"], line["text"]) for line in self.kernel.call("kernel.logs", name, timeout=TIMEOUT)]

    def until_log_lines(self, name: str, count: int) -> list[tuple[str, str]]:
        """Wait for ``count`` lines of a plugin's log, then return all of them."""
        self.until(lambda: len(self.log_lines(name)) >= count, f"{count} lines of {name}")
        return self.log_lines(name)

    # Actions

    def call(self, target: str, *args: Any, timeout: float = TIMEOUT, returns: Any = None, **kwargs: Any) -> Any:
        return self.kernel.call(target, *args, timeout=timeout, returns=returns, **kwargs)

    def in_background(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> BackgroundCall[T]:
        """Start ``work`` on another thread."""
        return BackgroundCall(work, *args, **kwargs)

    def release(self, key: str) -> None:
        """Release the plugin that is waiting in ``hold(key)``."""
        self.kernel.set_data(key, True)

    def _record(self, event: Event) -> None:
        with self._changed:
            self._received[event.topic.removeprefix("out.")].append(event.data)
            self._changed.notify_all()

    def _notify(self, event: Event) -> None:  # noqa: ARG002 - only that something happened matters
        with self._changed:
            self._changed.notify_all()


class BackgroundCall(Generic[T]):
    """A call that runs on another thread."""

    def __init__(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> None:
        self._outcome: list[T] = []
        self._failure: list[BaseException] = []

        def run() -> None:
            try:
                self._outcome.append(work(*args, **kwargs))
            except BaseException as error:
                self._failure.append(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> T:
        """Return its value or raise its error. Raises AssertionError if it takes more than ``TIMEOUT`` seconds."""
        self._thread.join(TIMEOUT)
        if self._thread.is_alive():
            raise AssertionError(f"not done after {TIMEOUT:g} s")
        if self._failure:
            raise self._failure[0]
        return self._outcome[0]

    def error(self, kind: type[E]) -> E:
        """Return the error it raised, which must be of exactly this class."""
        return expect_error(kind, self.result)


def expect_error(kind: type[E], work: Callable[..., Any], *args: Any, **kwargs: Any) -> E:
    """Call ``work`` and return the error it raises, which must be of exactly this class.

    Raises AssertionError for another error or none.
    """
    try:
        value = work(*args, **kwargs)
    except KernelError as error:
        if type(error) is kind:
            return error
        raise AssertionError(f"{kind.__name__} was expected, not {type(error).__name__}: {error}") from error
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected, not {value!r}")
