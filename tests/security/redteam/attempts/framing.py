"""The channel to the kernel, spoken by hand: lies, and what is no message at all."""

from __future__ import annotations

import os
from contextlib import suppress

from microkernel.errors import KernelError
from tests.security.redteam import proofs
from tests.security.redteam.model import SKIPPED, Answer, Attempt
from tests.security.redteam.proofs import emitted, kernel_grew

GROUP = "frames"
_IMPORT = """
from microkernel.wire import frames
from microkernel.wire.codec import Raw, encode
from microkernel.wire import messages
from microkernel.wire.messages import (Ask, Call, ConfinementReport, Data, Done, Emit, Hello, Loaded, Log, Ping,
    Response, Started, Stopped)
"""
_ENDLESS = "time.sleep(0.5)\n"


def others_suffer(arena, _: Answer) -> bool:
    """Return whether the kernel no longer answers, or another plugin had to be restarted."""
    with suppress(KernelError):
        return arena.kernel.call("other.reveal", timeout=10) == "" or arena.kernel.info("other").generation > 1
    return True


def _other_stopped(arena, _: Answer) -> bool:
    return arena.kernel.info("other").state != "active"


def _wrong_source(arena, _: Answer) -> bool:
    return any(source == "other" and arena.token in repr(data) for _, source, data in list(arena.events))


def reply_forged(arena, answer: Answer) -> bool:
    """A caller of another plugin got what this one said."""
    return "forged" in arena.answers


def _has_descriptor(arena, answer: Answer) -> bool:
    return f"pipe:[{answer.told}]" in proofs.links(os.getpid())


def _false_protections(arena, _: Answer) -> bool:
    found = arena.kernel.info(arena._name).protections
    return bool({"forged namespace"} & {*found}) or found.get("file system") == "unavailable"


def _other_board(arena, _: Answer) -> bool:
    return bool(arena.kernel.get_data("other.secret") == arena.token)


def _hostile(name: str, zh: str, code: str, wasm: str = "") -> Attempt:
    code = f"{_IMPORT}{code}\n{_ENDLESS}"
    return Attempt(name, zh, code, others_suffer, "frames", process="frames", thread=SKIPPED, wasm=wasm)


ATTEMPTS = [
    Attempt("emit as the kernel, past the SDK", "绕过 SDK，冒充内核广播", _IMPORT + """
frame(Emit("kernel.forged", Raw(encode({"token": f.token}))))
""", emitted("kernel.forged"), "gate", process="gate", thread=SKIPPED),
    Attempt("emit under another plugin's name, past the SDK", "绕过 SDK，以别的插件之名广播", _IMPORT + """
frame(Emit("other.forged", Raw(encode({"token": f.token}))))
""", emitted("other.forged"), "gate", thread=SKIPPED),
    Attempt("claim to be another plugin", "自称是另一个插件", _IMPORT + """
frame(Hello(1, "plugin", "other"), Emit(api.name + ".x", Raw(encode({"token": f.token, "source": "other"}))))
""", _wrong_source, "frames", process="frames", thread=SKIPPED),
    Attempt("stop another plugin by calling the kernel's service", "调用内核服务停掉别的插件", _IMPORT + """
frame(Call(99, "kernel.stop", Raw(encode(["other"])), deadline=time.monotonic() + 5))
""", _other_stopped, "gate", process="gate", thread=SKIPPED),
    Attempt("write another plugin's data, past the SDK", "绕过 SDK，写别的插件的数据", _IMPORT + """
frame(Data(98, "set", "other.secret", Raw(encode(f.token))))
""", _other_board, "gate", thread=SKIPPED),
    Attempt("answer a call to another plugin", "替别的插件回答调用", _IMPORT + """
for number in range(1, 3000): frame(Response(number, Raw(encode("forged"))))
return f.gate
""", reply_forged, "frames", process="frames", thread=SKIPPED),
    Attempt("report other plugins' events as handled, and other states", "谎称别人的事件已处理、生命周期已变",
            _IMPORT + """
frame(Done(list(range(-5, 3000))), Stopped(), Started(), Loaded([], []))
""", others_suffer, "frames", process="frames", thread=SKIPPED),
    Attempt("send a descriptor to the kernel", "把描述符塞给内核", """
reading, writing = os.pipe()
from microkernel.wire.session import pack
from microkernel.wire.messages import Ping
up = socket.socket(fileno=os.dup(4))
KEPT.extend([up, writing])
if hasattr(up, "sendmsg"):
    socket.send_fds(up, [pack([Ping(1)])], [reading])
    return os.stat(reading).st_ino
data = pack([Ping(1)])
part = ctypes.create_string_buffer(data, len(data))
control = ctypes.create_string_buffer(struct.pack("QiiiI", 20, 1, 1, reading, 0), 24)
vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(part), len(data)), 16)
header = struct.pack("QIxxxxQQQQi", 0, 0, ctypes.addressof(vector), 1, ctypes.addressof(control), 24, 0)
checked(libc.sendmsg(up.fileno(), header, 0))
return os.stat(reading).st_ino
""", _has_descriptor, "seccomp", wasm="wasm", process="frames", thread=SKIPPED),
    Attempt("lie about its own confinement", "谎报自己的隔离状态", _IMPORT + """
frame(ConfinementReport(9, ["forged"], ["files"], ""))
""", _false_protections, "frames", process="frames", thread=SKIPPED),
    _hostile("send bytes that are not a frame", "发送不是帧的数据", 'send(b"GET / HTTP/1.1\\r\\n\\r\\n")'),
    _hostile("announce a frame of four gigabytes", "宣称一个 4 GiB 的帧",
            'send(struct.pack(">IBI", 2**32 - 1, 0xdd, 1))'),
    _hostile("announce four thousand million messages", "宣称四十亿条消息",
             'send(struct.pack(">IBI", 5, 0xdd, 2**32 - 1))'),
    _hostile("send a payload of sixty thousand nested lists", "发送六万层嵌套的数据", """
send((lambda body: struct.pack(">I", len(body)) + body)(b"\\xdd\\0\\0\\0\\1\\x93\\x1d\\xa8attack.x" + b"\\x91" * 60000))
"""),
    _hostile("send invalid numbers and out-of-range times", "发送非数与无穷的时限", """
frame(Ask(10, "attempt.q", Raw(encode({})), float("inf")), Ask(11, "q", Raw(encode({})), float("nan")),
      Call(9, "other.reveal", Raw(b"\\xc1"), Raw(b"\\xc1"), float("nan"), 2**60, ["a"] * 1000))
"""),
    _hostile("close the channel and run on", "关掉通道继续运行", "os.closerange(3, 12)\ntime.sleep(2)", wasm="guest"),
    Attempt("send a frame that never ends", "发送永不结束的帧", _IMPORT + """
send(struct.pack(">IBI", 16 << 20, 0xdd, 1))
for _ in range(3000): send(b"x" * 60000)
""", kernel_grew, "frames", process="frames", thread=SKIPPED),
    Attempt("flood the kernel with messages", "用消息淹没内核", _IMPORT + """
until = time.monotonic() + 2
while time.monotonic() < until: frame(*[Ping(1)] * 50)
""", lambda arena, answer: kernel_grew(arena, answer) or others_suffer(arena, answer), "frames", process="frames",
            thread=SKIPPED),
    Attempt("send many requests and never read the answers", "不断要数据却从不读回答", _IMPORT + """
for number in range(3000): frame(*[Data(number * 50 + n, "get", api.name + ".x") for n in range(50)])
""", lambda arena, answer: kernel_grew(arena, answer) or others_suffer(arena, answer), "frames", process="frames",
            thread=SKIPPED),
]  # fmt: skip
