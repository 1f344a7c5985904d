"""Run a command line, and turn its outcome into an exit code.

0 success; 1 the operation failed; 2 usage error, or no kernel answers. ``cli.main`` adds 130 for an interrupted one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from microkernel.cli import streams
from microkernel.cli.output import Output
from microkernel.cli.settings import wished_language
from microkernel.cli.usage_errors import report_usage_error
from microkernel.errors import KernelError
from microkernel.plugins.console import view
from microkernel.plugins.console.kernel_commands import AlreadyReported

# Errors that mean that no kernel was reached.
_NO_KERNEL = frozenset({"MK0701", "MK0707", "MK0704", "MK0709", "MK0710", "MK0101", "MK0216"})


def run(app: typer.Typer, argv: Sequence[str]) -> int:
    """Run one command and return the exit code. Raises no KernelError."""
    streams.escape_what_cannot_be_shown()
    output = Output(wished_language(), "--json" in argv)
    try:
        code = app(_json_last(argv), standalone_mode=False, prog_name="mk")
        return code if isinstance(code, int) else 0
    except AlreadyReported:
        return 1
    except KernelError as error:
        output.error(error)
        return 2 if error.id in _NO_KERNEL else 1
    except OSError as error:
        return _lose(error, output)
    except Exception as error:
        return report_usage_error(error, output)


def _lose(cause: OSError, output: Output) -> int:
    """Return the exit code if standard output did not accept the result. Re-raises other errors."""
    lost = streams.lost_output(cause)
    if lost is None:
        raise cause
    streams.abandon(sys.stdout)
    if lost.is_unread:  # the reader closed the pipe
        return 0
    error = KernelError("MK0706", path="standard output", reason=str(lost))
    output.write([view.line("error", error.id, output.translator.error(error))], sys.stderr)
    return 1


def _json_last(argv: Sequence[str]) -> list[str]:
    """Turn ``mk --json ps`` into ``mk ps --json``, because the option belongs to the commands."""
    words = list(argv)
    return [*words[1:], "--json"] if words[:1] == ["--json"] else words
