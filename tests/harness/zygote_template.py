"""The process that ``preloaded_zygote.py`` forks from. It imports nothing of the tests.

Arguments: this text, the descriptor of the control socket, and as JSON: the program up to its call of ``main``, its
arguments, and whether the engine of the level wasm is imported, too.
"""

import ctypes
import fcntl
import gc
import json
import os
import platform
import resource
import signal
import socket
import sys
import time
from typing import Any

_LONGEST = 1 << 16
_MAX_DESCRIPTORS = 32
_CLONE_PARENT = 0x8000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]
_libc = ctypes.PyDLL(None, use_errno=True)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[2]))
    program, arguments, engine = json.loads(sys.argv[3])
    sys.argv[1:] = arguments
    space = vars(sys.modules["__main__"])
    exec(program, space)
    if engine:
        import microkernel.worker.wasm.runner  # noqa: F401
    gc.collect()
    gc.freeze()  # no fork looks at these objects again
    while True:
        request, descriptors, *_ = socket.recv_fds(control, _LONGEST, _MAX_DESCRIPTORS)
        if not request:
            os._exit(0)
        pid = _fork_beside()
        if pid == 0:
            control.close()
            _become(json.loads(request), descriptors)
            space["main"]()
            return
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(b"%d" % pid)


def _fork_beside() -> int:
    """Fork as ``os.fork`` does, but the new process is a child of this one's parent."""
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = _libc.syscall(_SYS_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    return pid


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take over what the process would have been executed with."""
    os.setsid()
    above = max(*request["descriptors"], *descriptors) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip(moved, request["descriptors"], strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for number, limits in request["limits"]:
        if resource.getrlimit(number) != (*limits,):
            resource.setrlimit(number, limits)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv[1:] = request["arguments"]


main()
