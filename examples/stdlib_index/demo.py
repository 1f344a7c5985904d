"""./run demo: index Python's standard library with plugins while some of them hang and crash, one is killed by hand and
one is replaced. The totals must equal those of a plain loop; otherwise the demo fails.

Exit status: 0 equal, 1 not equal, 130 interrupted. It leaves no process and no file behind. The code is in index.py.
"""

import os
import signal
import sys


def main() -> int:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # during the imports there is nothing to clean up
    from index import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
