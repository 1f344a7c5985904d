"""``mk`` without its start: a process that has imported what ``mk`` imports, and forks for each command.

A command runs in a separate process, with its own arguments, environment, folder and streams, as if it had been
started; only what ``import`` costs, a quarter of a second of processor time, is paid once for all commands. Tests that
are about the start of the process, about signals or about a terminal start ``mk`` themselves.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 1 << 20


class PreloadedMk:
    """Runs one command at a time. ``environment`` is what the interpreter itself starts with."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._start()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], cwd=ROOT, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether an interpreter would start in this environment as ours did."""
        return _of_interpreter(environment) == _of_interpreter(self._environment)

    def run(
        self, args: Sequence[str], folder: Path, environment: Mapping[str, str], patience: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, without input. Raises TimeoutError when it takes longer than ``patience``: it is
        killed then."""
        request = {"args": list(args), "folder": str(folder), "environment": dict(environment)}
        with open(os.devnull, "rb") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            streams = [file.fileno() for file in (given, out, err)]
            code = self._ask(json.dumps(request).encode(), streams, patience)
            return subprocess.CompletedProcess(request["args"], code, _content(out.fileno()), _content(err.fileno()))

    def _ask(self, request: bytes, streams: Sequence[int], patience: float) -> int:
        """The exit code of a command."""
        self._control.settimeout(patience)
        try:
            socket.send_fds(self._control, [request], streams)
            code: int = json.loads(self._control.recv(_LONGEST))
        except (OSError, ValueError):  # it has ended; or its late answer would be taken for the next command's
            self.close()
            self._start()
            raise
        return code

    def close(self) -> None:
        """With a command that it waits for, and what that has started."""
        self._control.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _of_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "LC_"))}


def _content(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode()


# In the process that has imported it


def main() -> None:
    """Ends in a child, as ``mk`` does; or here, when nobody wants a command any more."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    gc.collect()
    gc.freeze()  # no child looks at these objects again, not even as it ends
    while True:
        request, streams, *_ = socket.recv_fds(control, _LONGEST, 3)
        if not request:
            return
        child = os.fork()
        if child == 0:
            control.close()
            _become_mk(json.loads(request), streams)
            return
        for stream in streams:
            os.close(stream)
        control.send(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _import_all() -> None:
    import microkernel.app
    import microkernel.cli.attach
    import microkernel.cli.check
    import microkernel.cli.commands
    import microkernel.cli.new
    import microkernel.cli.wasm_prepare

    # Its help is in the language of the environment that it is imported in: each child imports it again.
    del sys.modules["microkernel.cli.commands"], microkernel.cli.commands


def _become_mk(request: dict[str, object], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    sys.argv = ["-c", *request["args"]]  # type: ignore[misc]
    sys.path[0] = ""
    from microkernel.cli import main as mk

    mk()


if __name__ == "__main__":
    main()
