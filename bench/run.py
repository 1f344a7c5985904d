"""``./run bench [ROW...] [--smoke] [--json]``: ratios, each against a floor measured in the same run.

What the walls cost, the system's and WebAssembly's; the other rows come with issue 6.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from bench import sandbox, wasm


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench")
    parser.add_argument("rows", nargs="*", help="P11, P14, W1 to W6; all if none is named")
    parser.add_argument("--smoke", action="store_true", help="few rounds: checks the answers only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tables = {**sandbox.table(), **wasm.table()}
    rows = [measure(options.smoke) for row, measure in tables.items() if not options.rows or row in options.rows]
    if options.json:
        print(json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=2))
        return
    for row in rows:
        if options.smoke:
            print(f"✓ {row.row}  {row.name}: the answers are right; too few rounds for a ratio")
            continue
        low, _, high = row.quartiles
        print(
            f"{'✓' if row.met else '✗'} {row.row}  {row.name}: {row.ratio:.2f} (quartiles {low:.2f} to {high:.2f}; "
            f"target {row.target}); {row.told(row.ours)} against {row.told(row.floor)}"
        )


if __name__ == "__main__":
    main()
