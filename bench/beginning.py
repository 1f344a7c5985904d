"""P15: the start of a program that imports ``microkernel``, and of one that runs a kernel without plugins.

The time ends at the first line that the program prints. Floor: a program that imports msgspec.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, at_most
from bench.timing import check

_MSGSPEC = "import msgspec; print(msgspec.json.decode(b'[]'))"
# Modules that are imported only by the features that need them.
_EXTRAS = '"rich", "typer", "prompt_toolkit", "watchfiles", "wasmtime", "packaging.metadata"'
_IMPORT = f"""
import sys
import tempfile
from microkernel import Kernel
print([name for name in sys.modules if name in ({_EXTRAS})])
"""
_KERNEL = f"""
import sys
import tempfile
from microkernel import Kernel
with Kernel() as kernel:
    plugins = kernel.call("kernel.list")
    print(plugins + [name for name in sys.modules if name in ({_EXTRAS})], flush=True)
"""
_IPOPO = """
from pelix.framework import create_framework
framework = create_framework(())
framework.start()
print(framework.get_bundles(), flush=True)
framework.stop()
"""


@contextmanager
def _program(code: str, _stage: Workspace) -> Iterator[Measure]:
    """Measure a program from its start to its first line, which must be an empty list."""

    def measure() -> float:
        began = time.perf_counter()
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            took = time.perf_counter() - began
        check(said, "[]\n")
        return took

    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "XDG_STATE_HOME": home}  # apart from the data of a real kernel in this folder
        yield measure


def _contender(name: str, code: str, *needs: str) -> Contender:
    return Contender(name, partial(_program, code), needs)


def _row(name: str, ours: Contender, *peers: Contender) -> Row:
    floor = _contender('python -c "import msgspec"', _MSGSPEC)
    return Row("P15", name, ours, floor, peers, (at_most(2.3),), placements=("free",), rounds=12, warm_ups=1)


ROWS = (
    _row("a program that imports microkernel.Kernel", _contender("import", _IMPORT)),
    _row(
        "a program that starts a kernel without plugins, to its first answer",
        _contender("kernel", _KERNEL),
        _contender("iPOPO", _IPOPO, "pelix"),
    ),
)
