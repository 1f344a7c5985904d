"""P12: from saving a plugin's source to the first answer of the new code, without a failed call; the mailbox's pause.

Floors: inotify, and compiling and running the source in the same process (the first row); a call to the plugin that
exports its state and one to the plugin that imports it (the second).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.kernels import kernel_of, source_of
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, WrongAnswer, at_most, within
from bench.sockets import seqpacket_echo, seqpackets, worker
from bench.timing import calls, check
from microkernel import plugins
from microkernel.kernel.config import PluginConfig
from microkernel.kernel.manifest import Permissions

_PLUGIN = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    def export_state(self): return {"kept": 1}
    def import_state(self, state, from_version): self.kept = state["kept"]
    @expose
    def value(self) -> int:
        return %d
"""
_MODULE = """
def value():
    return %d
"""
_WATCHER = Path(plugins.__path__[0]) / "watcher"
# Configured as in ``mk run``.
_AT_WORK = PluginConfig(isolation="thread", permissions=Permissions(kernel=("observe", "control")))
# Seconds between two calls that ask for the value.
_PACE = 0.000_2
_PATIENCE = 20.0


def _saves(path: Path, source: str, value: Callable[[], int]) -> Measure:
    """Measure the seconds from a save until ``value``, called repeatedly, returns the new one. It never raises."""
    number = 0

    def measure() -> float:
        nonlocal number
        number += 1
        began = time.perf_counter()
        path.write_text(source % number)
        while (found := value()) != number:
            took = time.perf_counter() - began
            if found != number - 1 or took > _PATIENCE:
                raise WrongAnswer(f"{found} instead of {number}, after {took:.1f} s")
            time.sleep(_PACE)
        return time.perf_counter() - began

    return measure


@contextmanager
def _ours(_stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", {"watcher": _AT_WORK}, reloaded=_PLUGIN % 0) as kernel:
        kernel.load(_WATCHER)
        yield _saves(source_of(kernel, "reloaded"), _PLUGIN, lambda: int(kernel.call("reloaded.value")))


@contextmanager
def _module(program: str, stage: Workspace, *settings: object) -> Iterator[Measure]:
    """Start a process that reloads a module by itself, and returns the value of its function on request."""
    with tempfile.TemporaryDirectory() as folder, seqpackets() as [(ours, theirs)]:
        path = Path(folder) / f"reloaded_{theirs.fileno()}.py"
        path.write_text(_MODULE % 0)

        def value() -> int:
            ours.send(b"what is it?")
            return int(ours.recv(64))

        with worker(stage, program, path, *settings, fds=[theirs.fileno()]):
            yield _saves(path, _MODULE, value)


@contextmanager
def _paused(_stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", reloaded=_PLUGIN % 0) as kernel:
        path, number = source_of(kernel, "reloaded"), 0

        def measure() -> float:
            nonlocal number
            number += 1
            path.write_text(_PLUGIN % number)
            report = kernel.reload("reloaded")
            check(kernel.call("reloaded.value"), number)
            return report.paused_ms / 1000.0

        yield measure


@contextmanager
def _two_calls(stage: Workspace) -> Iterator[Measure]:
    with seqpacket_echo(stage) as old, seqpacket_echo(stage) as new:
        yield calls(lambda data: new(old(data)), 1)


def _peer(name: str, program: str, *settings: object, needs: tuple[str, ...] = ()) -> Contender:
    return Contender(name, lambda stage: _module(program, stage, *settings), needs)


ROWS = (
    Row(
        "P12",
        "from a save to the new code answering",
        ours=Contender("the watcher", _ours),
        floor=_peer("inotify, compile", "inotify_value"),
        peers=(
            _peer("jurigged", "jurigged_value", needs=("jurigged",)),
            _peer("jurigged, debounce of 1 ms", "jurigged_value", 0.001, needs=("jurigged",)),
            _peer("hmr", "hmr_value", needs=("reactivity",)),
        ),
        targets=(at_most(0.25, "jurigged"),),
        placements=("free",),
        rounds=15,
        warm_ups=2,
    ),
    Row(
        "P12",
        "the mailbox is paused, in a reload with state",
        ours=Contender("reload", _paused),
        floor=Contender("two calls", _two_calls),
        targets=(within(0.005),),
        placements=("free",),
        rounds=15,
        warm_ups=2,
    ),
)
