"""The network, this machine's own included: only sockets on 127.0.0.1 and of this machine."""

from __future__ import annotations

import contextlib
import socket
import struct

from tests.security.redteam import proofs
from tests.security.redteam.model import Answer, Attempt
from tests.security.redteam.proofs import heard, holds

GROUP = "network"


def _listens(arena, answer: Answer) -> bool:
    """The arena comes in where the plugin says that it listens."""
    if not answer.told:
        return False
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", answer.told), timeout=1) as stream:
        return arena.token.encode() in stream.recv(100)
    return False


def _listens_locally(arena, answer: Answer) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(1)
        stream.connect(f"\0plugin-{arena.token}")
        return True
    return False


def _overheard(arena, answer: Answer) -> bool:
    return "sniffed" in repr(answer.told)


_SERVE = """
        server = socket.socket({family})
        server.bind({address})
        server.listen()
        KEPT.append(server)
        def serve():
            server.accept()[0].sendall(f.token.encode())
        threading.Thread(target=serve, daemon=True).start()
"""

_CONNECT = """
        with socket.create_connection(("{host}", f.tcp), 5) as stream: stream.sendall(f.token.encode())
"""


def _granted(*net: str) -> dict[str, dict[str, list[str]]]:
    return {"permissions": {"net": [*net]}}


ATTEMPTS = [
    Attempt("connect by TCP", "TCP 连接", """
        with socket.create_connection(("127.0.0.1", f.tcp)) as stream: stream.sendall(f.token.encode())
    """, heard("tcp"), "seccomp", wasm="broker"),
    Attempt("connect by TCP, past Python", "绕过 Python 的 TCP 连接", """
        stream = syscall("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
        address = struct.pack("=HHI8x", socket.AF_INET, socket.htons(f.tcp), socket.htonl(0x7F000001))
        syscall("connect", stream, address, len(address))
        os.write(stream, f.token.encode())
    """, heard("tcp"), "seccomp"),
    Attempt("connect with asyncio", "用 asyncio 连接", """
        import asyncio
        async def talk():
            _, writer = await asyncio.open_connection("127.0.0.1", f.tcp)
            writer.write(f.token.encode())
            await writer.drain()
            writer.close()
        asyncio.run(talk())
    """, heard("tcp"), "seccomp", wasm="broker"),
    Attempt("request a page from a web server", "请求网页服务", """
        import urllib.request
        urllib.request.urlopen(f"http://127.0.0.1:{f.tcp}/{f.token}", timeout=0.5)
    """, heard("tcp"), "seccomp", wasm="broker"),
    Attempt("connect to a port next to the granted one", "连接所授予端口旁边的端口", _CONNECT.format(host="127.0.0.1"),
            heard("tcp"), "broker", manifest=_granted("127.0.0.1:1", "localhost:2", "*.invalid:*")),
    Attempt("connect by another name of the granted address", "用所授予地址的另一个名字连接",
            _CONNECT.format(host="localhost"), heard("tcp"), "broker", manifest=_granted("127.0.0.1:*")),
    Attempt("connect by a granted name that leads to this machine", "经所授予的名字连回本机",
            _CONNECT.format(host="127.1"), heard("tcp"), "broker", manifest=_granted("127.1:*")),
    Attempt("send by UDP", "UDP 发送", """
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(f.token.encode(), ("127.0.0.1", f.udp))
    """, heard("udp"), "seccomp"),
    Attempt("connect to a Unix socket file", "连接套接字文件", """
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(f.unix)
            stream.sendall(f.token.encode())
    """, heard("unix"), "seccomp"),
    Attempt("connect to an abstract name", "连接抽象套接字", """
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect("\\0" + f.abstract)
            stream.sendall(f.token.encode())
    """, heard("abstract"), "seccomp"),
    Attempt("send from a pair of datagram sockets to a socket file", "用数据报套接字对向套接字文件发送", """
        one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.sendto(f.token.encode(), f.datagram)
    """, heard("datagram"), "seccomp"),
    Attempt("send from a pair of datagram sockets, redirected", "把数据报套接字对改连到套接字文件", """
        one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.connect(f.datagram)
        one.send(f.token.encode())
    """, heard("datagram"), "seccomp"),
    Attempt("listen on a port", "监听端口",
            _SERVE.format(family="", address='("127.0.0.1", 0)') + "        return server.getsockname()[1]\n",
            _listens, "seccomp"),
    Attempt("listen on an abstract name", "监听抽象名字",
            _SERVE.format(family="socket.AF_UNIX", address='"\\0plugin-" + f.token'), _listens_locally, "seccomp"),
    Attempt("send forged packets", "发送伪造数据包", """
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        body = f.token.encode()
        raw.sendto(struct.pack("!HHHH", 9, f.udp, 8 + len(body), 0) + body, ("127.0.0.1", 0))
    """, heard("udp"), "seccomp", root=True),
    Attempt("capture all packets", "监听所有数据包", """
        KEPT.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)))
        return os.readlink(f"/proc/self/fd/{KEPT[-1].fileno()}") and "sniffed"
    """, _overheard, "seccomp", root=True),
    Attempt("list the system's network interfaces", "查询网络接口", """
        return [name for _, name in socket.if_nameindex()]
    """, proofs.told_is(lambda _: [name for _, name in socket.if_nameindex()]), "seccomp"),
    Attempt("use the system's cipher interface", "使用系统内的密码算法接口", """
        KEPT.append(socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0))
        KEPT[-1].bind(("hash", "sha256"))
        return "algorithm"
    """, lambda _, answer: answer.told == "algorithm", "seccomp", process="system", thread="system", varies=True),
    Attempt("network by io_uring", "经 io_uring 上网", """
        parameters = ctypes.create_string_buffer(120)
        KEPT.append(syscall("io_uring_setup", 4, parameters))
    """, holds("anon_inode:*io_uring*"), "seccomp", varies=True),
    Attempt("receive a socket from outside, by descriptor", "从外部接收套接字描述符", """
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.bind("\\0taken-" + f.token)
        threading.Thread(target=lambda: KEPT.append(socket.recv_fds(one, 10, 1)), daemon=True).start()
    """, lambda arena, answer: _took_descriptor(arena, answer), "seccomp", thread="not tried"),
]  # fmt: skip


def _took_descriptor(arena, answer: Answer) -> bool:
    """It has a file open that only the arena may open, and the arena sent."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        open(arena.files.secret_file) as file,
    ):
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file.fileno()))
        sender.sendmsg([b"x"], [rights], 0, f"\0taken-{arena.token}")
    return str(arena.files.secret_file) in proofs.links(answer.pid)
