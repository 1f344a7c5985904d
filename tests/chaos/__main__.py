"""``./run chaos --minutes N [--seed S]``"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from tests.chaos.harness import Harness
from tests.chaos.report import report


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run chaos", description="Thirty plugins, and all that can go wrong.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(2**32))
    parser.add_argument("--keep", type=Path, help="a folder for the evidence, kept")
    options = parser.parse_args()
    print(f"seed        {options.seed}   (./run chaos --minutes {options.minutes:g} --seed {options.seed})", flush=True)
    seconds = options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        result = Harness(options.keep or Path(folder), options.seed).run(seconds, warm_up=min(20.0, seconds / 5))
    print(report(result))
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
