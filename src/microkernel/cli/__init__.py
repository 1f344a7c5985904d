"""The ``mk`` command. Loads little until it is known that the extra ``console`` is installed."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from microkernel.cli import streams

_EXTRA = frozenset({"typer", "rich", "prompt_toolkit"})
_INTERRUPTED = 130


def main() -> None:
    """Run ``mk`` with the arguments of this process, and exit with its exit code.

    0: success. 1: the operation failed. 2: usage error, or no kernel answers. 130: interrupted.
    """
    streams.open_missing()
    code = _run()
    streams.finish()
    gc.freeze()  # the final collection would visit every object: a quarter of a command's time
    sys.exit(code)


def _run() -> int:
    try:
        with _left_at_once(), _no_collection():
            from microkernel.cli.commands import app
            from microkernel.cli.exit_codes import run
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] not in _EXTRA:
            raise
        streams.write(f"{_not_installed()}\n", sys.stderr)
        return 2
    try:
        return run(app, sys.argv[1:])
    except KeyboardInterrupt:
        return _INTERRUPTED


@contextmanager
def _left_at_once() -> Iterator[None]:
    """Exit immediately when interrupted.

    An exception raised in the middle of an import may be printed by the importing code, or mistaken for another error.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable garbage collection. Imports create hardly any garbage, but would run the collector some dozen times."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _not_installed() -> str:
    from microkernel.errors import KernelError
    from microkernel.messages import Catalog, language, translate

    return f"✗ {translate(KernelError('MK0510', extra='console'), Catalog.load(language()))}"
