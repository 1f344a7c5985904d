"""Zygotes and inspectors without the start of their interpreter: forks of a process that has imported what they import.

A kernel executes a zygote for its first plugin process and an inspector for its first file. Their imports take a tenth
of a second of processor time, and most tests start a kernel. Here each of them is a fork of a process that was executed
with the same command, up to the call of ``main`` (``zygote_template.py``). The fork is a child of the kernel's process,
in its own session, and has the descriptors, arguments, variables, folder and limits that it would be executed with.

Tests of what a worker inherits, of its confinement and its memory, and of the start and death of zygotes execute them.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microkernel.hosts import inspector_process
from microkernel.hosts.worker import zygote

FORKING = platform.machine() in ("x86_64", "aarch64")
"""Whether the template knows the number of the system call."""

_TEMPLATE = Path(__file__).with_name("zygote_template.py").read_text(encoding="utf-8")
_RUN = "import sys; exec(sys.argv[1], {'__name__': 'zygote_template'})"
# How many of the last arguments differ between two processes of one kind, and the variables that they only pass on.
_OWN_ARGUMENTS = {zygote: 5, inspector_process: 2}
_PASSED_ON = ("PATH", "HOME", "TZ", "TMPDIR", "MICROKERNEL_ZYGOTE")
_LIMITS = [value for name, value in vars(resource).items() if name.startswith("RLIMIT_")]
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


@contextmanager
def preloaded_zygotes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the kernels of this process fork their zygotes and inspectors, until the block ends."""
    with ExitStack() as templates:
        for module, own in _OWN_ARGUMENTS.items():
            popen = _forking_popen(module._BOOT, own, templates)
            monkeypatch.setattr(module, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": popen}))
        yield


def _forking_popen(boot: str, own: int, templates: ExitStack) -> type[subprocess.Popen[bytes]]:
    """Return a class like Popen that forks the commands of this program, and executes all others."""
    lock = threading.Lock()
    by_kind: dict[object, _Template] = {}

    def fork(command: Sequence[str], given: Mapping[str, Any]) -> int:
        assert (given["start_new_session"], given["close_fds"], given["cwd"]) == (True, True, None)
        arguments = command[command.index(boot) + 1 :]
        engine = own == _OWN_ARGUMENTS[zygote] and bool(arguments[-4])
        read_at_exec = {name: value for name, value in given["env"].items() if name not in _PASSED_ON}
        kind = (*command[:-own], engine, *sorted(read_at_exec.items()), *_inherited())
        with lock:
            if kind not in by_kind:
                by_kind[kind] = _Template(command, boot, given["env"], engine)
                templates.callback(by_kind[kind].close)
            return by_kind[kind].fork(arguments, given)

    class ForkingPopen(subprocess.Popen[bytes]):
        def _execute_child(self, *given: Any) -> None:
            execute = super()._execute_child  # type: ignore[misc]
            names = signature(execute).bind(*given).arguments
            if boot not in names["args"]:
                execute(*given)
                return
            try:
                self.pid = fork(names["args"], names)
                self._child_created = True
            finally:
                self._close_pipe_fds(*map(names.__getitem__, _PIPES))  # type: ignore[attr-defined]

    return ForkingPopen


def _inherited() -> tuple[object, ...]:
    """Return what a process inherits that a fork of another could not take over."""
    umask = os.umask(0o077)
    os.umask(umask)
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return os.getresuid(), os.getresgid(), *os.getgroups(), umask, os.nice(0), *ignored, "blocked", *blocked


class _Template:
    """A process that was executed with this command, and waits where ``main`` would be called."""

    def __init__(self, command: Sequence[str], boot: str, environment: Mapping[str, str], engine: bool) -> None:
        """``engine``: import that of the level wasm, too."""
        at = command.index(boot)
        given = json.dumps([boot.removesuffix("main()"), command[at + 1 :], engine])
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*command[:at], _RUN, _TEMPLATE, str(theirs.fileno()), given], env=dict(environment),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip

    def fork(self, arguments: Sequence[str], given: Mapping[str, Any]) -> int:
        """Return the pid of a fork. ``given``: the arguments of ``Popen._execute_child``."""
        descriptors = {0: given["p2cread"], 1: given["c2pwrite"], 2: given["errwrite"]}
        descriptors |= {number: number for number in given["pass_fds"]}
        request = {
            "arguments": arguments,
            "environment": given["env"],
            "folder": os.getcwd(),
            "limits": [[number, resource.getrlimit(number)] for number in _LIMITS],
            "descriptors": [*descriptors],
        }
        socket.send_fds(self._control, [json.dumps(request).encode()], [*descriptors.values()])
        pid: int = json.loads(self._control.recv(32))
        return pid

    def close(self) -> None:
        self._control.close()
        self._process.wait()
