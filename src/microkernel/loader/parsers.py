"""The process that parses the files of plugins: this one, or an inspector, which is limited in time and memory.

The scan of ``byte_scan`` comes first in either case. An inspector's answers are not trusted, because a text that it
parsed may have taken control of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from microkernel.errors import KernelError, ManifestError, PluginLoadError
from microkernel.inspector.operations import perform, untagged
from microkernel.inspector.sources import NotFinished, NotParsed, SourceFacts
from microkernel.kernel.ports import steady
from microkernel.loader.byte_scan import scan_source, scan_toml
from microkernel.loader.display import display_path
from microkernel.loader.files import decode

# Of processor time, for all sources of a plugin, for each MiB of them, and at most. A MiB of ordinary source takes half
# a second.
SECONDS = 1.0
SECONDS_A_MIB = 0.75
MOST_SECONDS = 10.0

T = TypeVar("T")


class Parser(Protocol):
    def prepare(self) -> None:
        """Prepare for requests that are expected soon."""

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Return the answer of ``inspector.operations``.

        Raises NotParsed for an invalid text, NotFinished for one that takes too much, KernelError if nothing can be
        parsed now.
        """

    def spent(self) -> float:
        """Return the seconds of processor time used by all requests of the calling thread."""

    def share(self) -> float:
        """Return the fraction of its time that a plugin gets: less than 1 if several took too much recently."""

    def discard(self) -> None:
        """Use another process next time, because an answer was wrong or this process was asked too much."""

    def close(self) -> None:
        """End the process. Idempotent."""


class InProcess:
    """A Parser without limits, for plugins that run in this process anyway."""

    def prepare(self) -> None:
        """Does nothing: there is no process to prepare."""

    def ask(self, operation: str, *arguments: Any) -> Any:
        with steady:  # parsing temporarily changes the process's warning filters
            return perform(operation, arguments)

    def spent(self) -> float:
        return 0.0

    def share(self) -> float:
        return 1.0

    def discard(self) -> None:
        raise AssertionError("its answers are ours")

    def close(self) -> None:
        """Does nothing: there is no process to end."""


class Deferred:
    """A Parser that is created at the first request."""

    def __init__(self, make: Callable[[], Parser]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self.made: Parser | None = None

    def prepare(self) -> None:
        self._get().prepare()

    def ask(self, operation: str, *arguments: Any) -> Any:
        return self._get().ask(operation, *arguments)

    def _get(self) -> Parser:
        with self._lock:
            self.made = self.made or self._make()
            return self.made

    def spent(self) -> float:
        return self.made.spent() if self.made is not None else 0.0

    def share(self) -> float:
        return self.made.share() if self.made is not None else 1.0

    def discard(self) -> None:
        if self.made is not None:
            self.made.discard()

    def close(self) -> None:
        if self.made is not None:
            self.made.close()


_IN_PROCESS = InProcess()
_current: ContextVar[Parser] = ContextVar("parser", default=_IN_PROCESS)


@contextmanager
def parsing_with(parser: Parser) -> Iterator[None]:
    token = _current.set(parser)
    try:
        yield
    finally:
        _current.reset(token)


def toml_of(text: str, path: str) -> dict[str, Any]:
    """Parse a manifest. Raises ManifestError: MK0111, MK0141 to MK0143, MK0145."""
    scan_toml(text, path, ManifestError)
    try:
        return _asked(_table, "toml", text)
    except NotParsed as failure:
        raise ManifestError("MK0111", path=display_path(path), reason=failure.reason) from None
    except NotFinished as failure:
        raise _not_finished(failure, path, ManifestError) from None


def _table(answer: Any) -> dict[str, Any]:
    value = untagged(answer)
    if not isinstance(value, dict):
        raise ValueError("no table")
    return value


def facts_of_all(sources: Mapping[str, bytes], root: str) -> dict[str, SourceFacts]:
    """Parse the sources of one plugin, by path below ``root``. Raises as ``facts_of``, and MK0145 if all sources
    together take too much."""
    parser = _current.get()
    size = sum(map(len, sources.values())) / (1 << 20)
    allowed = min(MOST_SECONDS, SECONDS + SECONDS_A_MIB * size) * parser.share()
    until = parser.spent() + allowed
    found = {}
    for name, data in sources.items():
        found[name] = facts_of(data, os.path.join(root, name))
        if parser.spent() > until:
            parser.discard()
            raise PluginLoadError(
                "MK0145", path=display_path(root), reason=f"its sources take more than {allowed:.2g} s"
            )
    return found


def facts_of(data: bytes, path: str) -> SourceFacts:
    """Parse a source. Raises PluginLoadError: MK0103, MK0104, MK0141, MK0145."""
    text = decode(data, path, PluginLoadError)
    scan_source(text, path, PluginLoadError)
    try:
        return _asked(_facts, "facts", text)
    except NotParsed as failure:
        raise PluginLoadError("MK0103", path=display_path(path), line=failure.line, reason=failure.reason) from None
    except NotFinished as failure:
        raise _not_finished(failure, path, PluginLoadError) from None


def _facts(answer: Any) -> SourceFacts:
    """Check an answer. Raises ValueError if it is malformed."""
    imports, plugin, line = answer
    if plugin not in ("absent", "without base", "fits") or not isinstance(line, int):
        raise ValueError("no facts of a source")
    return SourceFacts({str(name): (int(at), str(instead)) for name, (at, instead) in imports.items()}, plugin, line)


def seen_in(data: bytes, path: str, name: str, forbidden: Collection[str], read: Callable[[Any], T]) -> T:
    """Return the auditor's findings in a file; ``read`` converts the answer. Raises PluginLoadError MK0145."""
    try:
        return _asked(read, "inspect_source", data.decode("latin-1"), display_path(path), name, sorted(forbidden))
    except NotFinished as failure:
        raise _not_finished(failure, path, PluginLoadError) from None


def _asked(read: Callable[[Any], T], *question: Any) -> T:
    """Ask and convert the answer with ``read``. Raises NotParsed; NotFinished also if ``read`` fails."""
    parser = _current.get()
    answer = parser.ask(*question)
    try:
        return read(answer)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as mistake:
        parser.discard()
        raise NotFinished(f"what it was parsed to cannot be read: {type(mistake).__name__}") from None


def _not_finished(failure: NotFinished, path: str, error: type[KernelError]) -> KernelError:
    return error("MK0145", path=display_path(path), reason=str(failure))
