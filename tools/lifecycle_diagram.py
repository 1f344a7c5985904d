"""Prints the lifecycle table as a Mermaid diagram: what stands between the markers of docs/design.md.

.venv/bin/python -m tools.lifecycle_diagram
"""

from __future__ import annotations

import sys

from microkernel.kernel.registry.states import diagram


def main() -> None:
    sys.stdout.write(diagram() + "\n")


if __name__ == "__main__":
    main()
