"""A guest's own ways out: the functions that its worker gives it, the folders that were opened for it, its memory."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from microkernel.errors import KernelError
from tests.security.redteam import proofs
from tests.security.redteam.attempts.framing import others_suffer, reply_forged
from tests.security.redteam.attempts.kernel_process import cannot_be_killed
from tests.security.redteam.model import NOWHERE, SKIPPED, Answer, Attempt
from tests.security.redteam.proofs import heard, kernel_grew, made, many_descriptors, told, told_is

if TYPE_CHECKING:
    from tests.security.redteam.arena import Arena

GROUP = "guest"
_LISTED = "api.data_dir.mkdir(parents=True, exist_ok=True)\n"
_WORLD = """
import wit_world
from microkernel.wire.codec import Raw, encode
from microkernel.wire.messages import Response
from microkernel.wire.session import pack
"""
_NET = """
import wit_world
from componentize_py_types import Err
def ask(name, *arguments):
    try: return getattr(wit_world, name)(*arguments)
    except Err as error: raise OSError(getattr(errno, error.value[0]), error.value[1]) from None
"""
_LOOPBACK = {"permissions": {"net": ["127.0.0.1:*"]}}
_MOST = 900 << 10
"""kB: what a guest and its engine may have, and the guest's code."""

_aimed = partial(Attempt, sandbox=NOWHERE, process=NOWHERE, thread=NOWHERE)
_WATCHED = {"limits": {"disk": "16MiB", "heartbeat": 0}}


def _drew_the_same(arena: Arena, answer: Answer) -> bool:
    """What another plugin drew first."""
    theirs = arena.kernel.call("other.drawn")
    return isinstance(answer.told, list) and bool({*map(str, theirs)} & {*map(str, answer.told)})


def _hashes_the_same(arena: Arena, answer: Answer) -> bool:
    with suppress(KernelError):
        return answer.told is not None and arena.kernel.call("other.hashed", arena.token) == answer.told
    return False


def _still_uses_too_much_disk(arena: Arena, answer: Answer) -> bool:
    return answer.fault in ("CallTimeout", "nothing") and not proofs.process_died(arena, answer)


ATTEMPTS = [
    Attempt("list the root directory", "列出根目录", "return sorted(os.listdir('/'))",
            told_is(lambda _: sorted(os.listdir("/"))), "landlock"),
    Attempt("read a file through a directory that is a link it made", "经自建的目录链接读文件", _LISTED + """
os.symlink(os.path.relpath(f.folder, f.data), os.path.join(f.data, "up"))
return open(os.path.join(f.data, "up", "secret.txt")).read()
""", told("file"), "landlock"),
    Attempt("read a file by .. below a descriptor of a plugin's directory", "经自己目录的描述符用 .. 读", _LISTED + """
folder = os.open(f.data, os.O_RDONLY | os.O_DIRECTORY)
return os.read(os.open(os.path.relpath(f.secret_file, f.data), os.O_RDONLY, dir_fd=folder), 100)
""", told("file"), "landlock"),
    Attempt("create a file through a dangling link", "经悬空的自建链接新建文件", _LISTED + """
link = os.path.join(f.data, "link")
os.symlink(os.path.relpath(f.folder + "/new", f.data), link)
open(link, "w").write("x")
""", made("new"), "landlock"),
    Attempt("replace its own directory with a link and open it again", "把自己的目录换成链接再打开", _LISTED + """
os.mkdir(f.data + "/a")
open(f.data + "/a/secret.txt", "w").close()
first = os.open(f.data + "/a", os.O_RDONLY | os.O_DIRECTORY)
os.rename(f.data + "/a", f.data + "/b")
os.symlink(os.path.relpath(f.folder, f.data), f.data + "/a")
return [open(f.data + "/a/secret.txt").read(), os.listdir(first)]
""", told("file"), "landlock"),
    Attempt("open a thousand of the plugin's files", "打开自己的一千个文件", _LISTED + """
for number in range(1000): KEPT.append(open(os.path.join(f.data, str(number)), "w"))
""", many_descriptors(900), "rlimit", wasm="rlimit"),
    Attempt("fill the disk by plain writing", "用普通写入占满磁盘", _LISTED + """
for number in range(4):
    with open(os.path.join(f.data, f"part{number}"), "wb") as file:
        for _ in range(10): file.write(os.urandom(1 << 20))
time.sleep(20 if f.is_watched else 0)
""", _still_uses_too_much_disk, "watch", manifest=_WATCHED, thread=SKIPPED, slow=True, seconds=15.0),
    Attempt("write a very long file by plain writing", "用普通写入写一个很长的文件", _LISTED + """
with open(os.path.join(f.data, "long"), "wb") as file:
    for _ in range(80): file.write(bytes(1 << 20))
""", proofs.own_file(lambda found: found.st_size > 64 << 20), "rlimit", wasm="rlimit", thread=SKIPPED),
    Attempt("never end: one long call of C code", "永不结束：一次 C 调用", "return sum(range(10**12))",
            lambda arena, _: cannot_be_killed(arena), "zygote", process="zygote", thread=SKIPPED, seconds=0.5,
            manifest={"limits": {"drain": 0.1, "stop": 0.2, "kill_grace": 0.2, "heartbeat": 0}}),
    Attempt("draw the same random numbers as another plugin", "抽到别的插件抽过的随机数", """
import random, secrets, tempfile, uuid
return [random.random(), os.urandom(8).hex(), secrets.token_hex(8), str(uuid.uuid4()),
        next(tempfile._get_candidate_names())]
""", _drew_the_same, "memory", process="memory", thread="memory"),
    Attempt("learn the hash seed of another plugin", "得知别的插件的散列种子", """
return hash(f.token)
""", _hashes_the_same, "open", wasm="open", means=(
        ("All plugins of a zygote share its seed of `hash()`. The seed of guests is fixed when the guest is built, "
        "and all guests share it until the next build. A plugin that knows the seed can choose keys that slow down "
        "the dictionaries of another plugin that accepts keys from it; nothing else depends on the seed. Random "
        "numbers are not shared, except where `determinism` asks for it."),
        ("同一个孵化进程的所有插件共用它的 `hash()` 种子。客体的种子在构建客体时确定，下次构建之前所有客体相同。"
        "知道种子的插件可以挑选键，使接受这些键的另一个插件的字典变慢；此外没有其他影响。随机数不共用，"
        "除非 `determinism` 要求。"))),
    _aimed("send two hundred megabytes that are not a frame", "发送两百兆不是帧的数据", _WORLD + """
wit_world.send("x" * (200 << 20))
""", lambda arena, answer: kernel_grew(arena, answer) or others_suffer(arena, answer), wasm="frames"),
    _aimed("make the worker use more memory than guest and engine may", "让工作进程占用超过客体加引擎的内存",
           _WORLD + """
big = "\\xff" * (150 << 20)
for _ in range(4): wit_world.reply(2**31, big)
KEPT.append(big)
""", proofs.more_than("VmHWM", _MOST), wasm="rlimit"),
    _aimed("send text that cannot be encoded as bytes", "发送不能成为字节的文字", _WORLD + """
wit_world.send("\\u4e2d" * 10)
""", others_suffer, wasm="frames"),
    _aimed("answer another plugin's call on every reply lane", "在每条回信道上替别的插件回答", _WORLD + """
for lane in (*range(40), 2**31, 2**32 - 1):
    for number in range(1, 60): wit_world.reply(lane, pack([Response(number, Raw(encode("forged")))]).decode("latin-1"))
return f.gate
""", reply_forged, wasm="frames", seconds=5.0),
    _aimed("send bytes that are not a frame on every reply lane", "在每条回信道上放不是帧的数据", _WORLD + """
for lane in range(40): wit_world.reply(lane, "\\xff" * 100_000)
""", others_suffer, wasm="frames", seconds=5.0),
    _aimed("wait for sources that do not exist", "等待不存在的来源", _WORLD + """
wit_world.receive(2**32 - 1, 1.0)
""", others_suffer, wasm="frames", seconds=5.0),
    _aimed("wait for an invalid time", "等待非数的时间", _WORLD + """
wit_world.receive(3, float("nan"))
""", others_suffer, wasm="frames", seconds=5.0),
    _aimed("never end: wait for no source, without a time limit", "永不结束：无限等待空来源", _WORLD + """
wit_world.receive(0, -1.0)
""", lambda arena, _: cannot_be_killed(arena), wasm="zygote", seconds=0.5,
           manifest={"limits": {"drain": 0.1, "stop": 0.2, "kill_grace": 0.2, "heartbeat": 0}}),
    _aimed("read the kernel's messages and answer none", "吞掉内核的消息且不回答", _WORLD + """
until = time.monotonic() + 30
while time.monotonic() < until: wit_world.receive(3, 1.0)
""", lambda arena, answer: others_suffer(arena, answer) or cannot_be_killed(arena), wasm="zygote", seconds=1.0,
           manifest={"limits": {"drain": 0.1, "stop": 0.2, "kill_grace": 0.2, "heartbeat": 0}}),
    Attempt("connect with the class below Python's sockets", "用 Python 套接字下面的类连接", """
import _socket
stream = _socket.SocketType(_socket.AF_INET, _socket.SOCK_STREAM, 0)
stream.connect(("127.0.0.1", f.tcp))
stream.sendall(f.token.encode())
""", heard("tcp"), "seccomp", wasm="broker"),
    _aimed("connect to an address that was not granted, bypassing Python", "绕过 Python 连接未授予的地址", _NET + """
ask("connect", 7, "127.0.0.1", f.tcp, 5.0)
ask("write", 7, f.token, 5.0)
""", heard("tcp"), wasm="broker", manifest={"permissions": {"net": ["127.0.0.1:1"]}}),
    _aimed("start TLS on a connection that does not exist, for an invalid name", "给不存在的连接加 TLS，名字也不成立",
           _NET + """
ask("secure", 3, chr(0) * 100_000, "x" * 100_000, 2**31, float("nan"))
""", others_suffer, wasm="broker", manifest=_LOOPBACK),
    _aimed("write to connections by descriptor numbers", "按描述符的编号向连接写入", _NET + """
for number in (*range(1, 300), 2**31 - 1, 2**31, 2**32 - 1):
    for name in ("write", "read", "close"):
        with contextlib.suppress(OSError):
            ask(name, number, *{"write": (f.token, 0.0), "read": (100, 0.0)}.get(name, ()))
raise OSError(errno.EBADF, "nothing came of it")
""", lambda arena, answer: heard("tcp")(arena, answer) or others_suffer(arena, answer), wasm="broker",
           manifest=_LOOPBACK),
    _aimed("write to a connection that was closed", "向已关闭的连接写入", _NET + """
ask("connect", 7, "127.0.0.1", f.tcp, 5.0)
wit_world.close(7)
ask("write", 7, f.token, 5.0)
""", heard("tcp"), wasm="broker", manifest=_LOOPBACK),
    _aimed("open thousands of connections", "打开几千个连接", _NET + """
for number in range(5000): ask("connect", number, "127.0.0.1", f.tcp, 5.0)
""", many_descriptors(120), wasm="broker", manifest=_LOOPBACK),
    _aimed("make the kernel open connections endlessly and never accept them", "不停地让内核建立没人要的连接",
           _NET + """
until = time.monotonic() + 5
while time.monotonic() < until:
    with contextlib.suppress(OSError): ask("connect", 7, "127.0.0.1", f.tcp, 0.0)
    wit_world.close(7)
""", lambda arena, answer: kernel_grew(arena, answer) or others_suffer(arena, answer), wasm="kept",
           manifest=_LOOPBACK),
    _aimed("ask for connections to invalid names", "请求连接不成立的名字", _NET + """
for host, port in (("h" * (2 << 20), 80), ("h", 0), ("h", 2**32 - 1), ("\ud7ff" * 100, 80)):
    try: ask("connect", 7, host, port, float("nan"))
    except (AttributeError, OSError): pass
raise OSError(errno.EPERM, "nothing came of it")
""", others_suffer, wasm="broker", manifest={"permissions": {"net": ["h:*"]}}),
    _aimed("write two hundred megabytes in one call", "一次调用写两百兆", _NET + """
ask("connect", 7, "127.0.0.1", f.tcp, 5.0)
big = "\xff" * (150 << 20)
for _ in range(4): ask("write", 7, big, 0.1)
""", proofs.more_than("VmHWM", _MOST), wasm="rlimit", manifest=_LOOPBACK),
    _aimed("read four gigabytes in one call", "一次调用读四千兆", _NET + """
ask("connect", 7, "127.0.0.1", f.tcp, 5.0)
ask("read", 7, 2**32 - 1, 0.1)
""", proofs.more_than("VmHWM", _MOST), wasm="rlimit", manifest=_LOOPBACK),
    _aimed("never end: read from a connection that never sends", "永不结束：无限等待没人发的数据", _NET + """
ask("connect", 7, "127.0.0.1", f.tcp, 5.0)
ask("read", 7, 1, -1.0)
""", lambda arena, _: cannot_be_killed(arena), wasm="zygote", seconds=0.5,
           manifest={**_LOOPBACK, "limits": {"drain": 0.1, "stop": 0.2, "kill_grace": 0.2, "heartbeat": 0}}),
    _aimed("never end: wait for a million connections", "永不结束：等待一百万个连接", _NET + """
wit_world.wait(3, list(range(1_000_000)), list(range(1_000_000)), -1.0)
wit_world.wait(0, [], [], -1.0)
""", lambda arena, _: cannot_be_killed(arena), wasm="zygote", seconds=0.5,
           manifest={**_LOOPBACK, "limits": {"drain": 0.1, "stop": 0.2, "kill_grace": 0.2, "heartbeat": 0}}),
]  # fmt: skip
