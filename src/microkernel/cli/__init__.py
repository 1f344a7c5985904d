"""The ``mk`` command. Nothing here is loaded before it is known that the extra ``console`` is installed."""

from __future__ import annotations

import sys

_EXTRA = frozenset({"typer", "rich", "prompt_toolkit"})


def main() -> None:
    """Run ``mk`` with the arguments of this process, and end it with the exit code.

    0: done. 1: what was asked for failed. 2: usage, or no kernel answers. 130: interrupted.
    """
    try:
        from microkernel.cli.commands import run
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] not in _EXTRA:
            raise
        print(_not_installed(), file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


def _not_installed() -> str:
    from microkernel.errors import KernelError
    from microkernel.messages import Catalog, language, translate

    return f"✗ {translate(KernelError('MK0510', extra='console'), Catalog.load(language()))}"
