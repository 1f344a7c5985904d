"""``./run siege``: a confined plugin does its worst, and what the others notice of it is measured.

Prints for each attack the 99th percentile of ``kernel.list``, of another plugin's calls and of `mk ps`, and by how much
the kernel's memory grew. Fails if one is over what docs/isolation.md promises.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.security.siege.attacks import ATTACKS
from tests.security.siege.measuring import Figures, besiege

MOST_LIST, MOST_CALL = 0.1, 0.05  # seconds, 99th percentile
MOST_MEMORY = 64  # MiB above what it was


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run siege", description=__doc__)
    parser.add_argument("attacks", nargs="*", metavar="attack", help=", ".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=60.0, help="of all attacks together (60)")
    parser.add_argument("--level", choices=("sandbox", "wasm"), action="append")
    arguments = parser.parse_args()
    if unknown := {*arguments.attacks} - {*ATTACKS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    chosen = arguments.attacks or list(ATTACKS)
    missed = []
    for level in arguments.level or ("sandbox", "wasm"):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_STATE_HOME"] = os.environ["XDG_RUNTIME_DIR"] = folder
            print(f"{level:12} {'kernel.list':>14} {'a call':>14} {'memory':>10}  p99, and the slowest", flush=True)
            for figures in besiege(Path(folder), level, chosen, arguments.seconds / len(chosen)):
                print(_line(figures), flush=True)
                missed += [f"{level} {figures.name}"] if _is_over(figures) else []
    print(f"missed: {', '.join(missed)}" if missed else "all within their bounds")
    return 1 if missed else 0


def _is_over(figures: Figures) -> bool:
    return figures.list.p99 > MOST_LIST or figures.call.p99 > MOST_CALL or figures.grown > MOST_MEMORY


def _line(figures: Figures) -> str:
    times = f"{figures.list!s:>14} {figures.call!s:>14}"
    mark = "✗" if _is_over(figures) else "✓"
    return f"{mark} {figures.name:10} {times} {figures.grown:+6.0f} MiB  {figures.end}"


if __name__ == "__main__":
    sys.exit(main())
