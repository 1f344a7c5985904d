"""Warm up a worker that was forked ahead by running a minimal plugin in it.

A fork shares its memory with the zygote until it writes to it, and each first write to a page costs a copy: running a
plugin writes to a thousand pages. Pages that the warm-up has written are the worker's own when its plugin comes.

Where objects can be immortal (``immortal.py``), the zygote runs it too, so that its workers share what it creates.
"""

from __future__ import annotations

import gc
import socket
import time
from contextlib import ExitStack

from microkernel.sdk.runtime.runtime import Runtime
from microkernel.wire import messages
from microkernel.wire.codec import Raw, encode
from microkernel.wire.session import Session, pack
from microkernel.worker.worker_channel import WorkerChannel

_PLUGIN = b'''"""It is never seen."""

from microkernel import IPlugin, expose, on


class Plugin(IPlugin):
    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    @on("rehearsal.began")
    def hear(self, number: int = 0) -> None:
        pass

    @expose
    def repeat(self, text: str, times: int = 1) -> str:
        """As it would have some."""
        return text * times
'''


def warm_up() -> None:
    """Run the plugin. Leaves nothing behind except memory. Takes some milliseconds."""
    with ExitStack() as open_ends:
        ours, theirs = [], []
        for _ in range(3):
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.append(open_ends.enter_context(pair[0]))
            theirs.append(open_ends.enter_context(pair[1]))
        for end in ours[:2]:
            end.send(Session("kernel").hello())
        for message in _messages():
            ours[0].send(pack([message]))
        runtime = Runtime(WorkerChannel(theirs[0], theirs[1], theirs[2:]))
        runtime.run()
        runtime.cancel_all()
        runtime.release()
    del runtime
    gc.collect()


def _messages() -> list[messages.Message]:
    """Return all messages that the kernel sends to the plugin."""
    sources = {"rehearsal.py": _PLUGIN}
    return [
        messages.Load("rehearsal", "1", 1, "process", "/", "rehearsal.py", sources),
        messages.Start(),
        messages.Invoke(1, "repeat", Raw(encode(["a"])), messages.EMPTY_MAP, time.monotonic() + 60.0, [], 0),
        messages.Stop(),
    ]
