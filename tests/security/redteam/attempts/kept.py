"""Filling the memory of the kernel's own process with what it keeps for a plugin. It is bounded at every level; before
it was, each was seen to succeed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.security.redteam.model import SKIPPED, Attempt
from tests.security.redteam.proofs import kernel_grew

GROUP = "kernel's memory"
_OWN: Mapping[str, Any] = {"permissions": {"on": ["greed.**"], "emit": ["greed.*"]}}
_FORGED = """
from microkernel.wire.codec import Raw, encode
from microkernel.wire.messages import Call, Emit, Exported, Expose, Log, Method
"""

_try = partial(Attempt, proof=kernel_grew, sandbox="kept", process="kept", thread=SKIPPED, slow=True)

ATTEMPTS = [
    _try("fill the kernel's memory with shared data", "用共享数据占满内核内存", """
for number in range(40): api.set_data(f"{api.name}.part{number}", b"x" * (10 << 20))
"""),
    _try("fill the kernel's memory with events that are not received yet", "用无人处理的事件占满内核内存", """
api.on("greed.part", lambda event: time.sleep(1), overflow="drop_newest")
for number in range(60): api.emit("greed.part", data=b"x" * (10 << 20))
""", manifest=_OWN),
    _try("fill the kernel's memory with dead letters", "用死信占满内核内存", """
api.on("greed.part", lambda event: None)
for number in range(60): api.emit("greed.part", data=b"x" * (10 << 20))
""", manifest={**_OWN, "limits": {"mailbox": 1}}),
    _try("fill the kernel's memory with notifications of shared data", "用共享数据的变更通知占满内核内存", """
api.watch_data(f"{api.name}.part", lambda key, value: None)
for number in range(60): api.set_data(f"{api.name}.part", b"x" * (10 << 20))
"""),
    _try("fill the kernel's memory with calls that are not answered yet", "用无人应答的调用占满内核内存", _FORGED + """
given = Raw(encode([b"x" * (10 << 20)]))  # the other one is at its f.gate meanwhile; of these it takes none
for number in range(60): frame(Call(90000 + number, "other.slowly", given, deadline=time.monotonic() + 30))
""", manifest={"permissions": {"call": ["other.slowly"]}}),
    _try("fill the kernel's memory with long lines in the log", "用日志里的长行占满内核内存", _FORGED + """
for number in range(600): frame(Log(20, "x" * 1_000_000, time.time()))
"""),
    _try("fill the kernel's memory with lines that expand when shown", "用会变长的日志行占满内核内存", _FORGED + """
for number in range(6): frame(Log(20, "{a}" * 100, time.time(), "notice", {"a": "x" * 1_000_000}))
"""),
    _try("fill the kernel's memory with descriptions of methods", "用方法的说明占满内核内存", _FORGED + """
for number in range(150): frame(Expose(90000 + number, Method(f"m{number}", "()", "x" * 4_000_000)))
"""),
    _try("fill the kernel's memory with long topics", "用很长的主题占满内核内存", _FORGED + """
long = "x" * 100_000
for number in range(4000): frame(Emit(f"{api.name}.{long}{number}", Raw(b"\\x80")))
"""),
    _try("fill the kernel's memory with its lifecycle events", "用自身生命周期的事件占满内核内存", _FORGED + """
for number in range(60): frame(Exported(Raw(encode(b"x" * (10 << 20)))))
"""),
]  # fmt: skip
