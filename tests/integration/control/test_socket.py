"""The control socket: its location, its permissions, and rejected or hostile clients."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.control import paths, remote_runner
from microkernel.control.client import ControlClient
from microkernel.control.server import ControlServer
from microkernel.errors import KernelClosed, KernelError, ProtocolError
from microkernel.wire import codec, messages
from microkernel.wire.codec import decoder_for
from microkernel.wire.frames import Reader
from microkernel.wire.session import Session, pack
from tests.harness.waiting import eventually

decode = decoder_for(list[messages.Any_])
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to somebody else")


def stranger(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def last_words(path: Path, data: bytes) -> messages.Refuse:
    """Return what the kernel answers to this data before it closes the connection."""
    with stranger(path) as connection:
        connection.sendall(data)
        heard = b"".join(iter(lambda: connection.recv(65536), b""))
    said = [message for body in Reader().feed(heard) for message in decode(body)]
    assert isinstance(said[-1], messages.Refuse)
    return said[-1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Location


def test_the_socket_and_its_folder_are_private(server: ControlServer, runtime: Path) -> None:
    assert server.path == runtime / "microkernel" / "test.sock"
    assert stat.S_ISSOCK(server.path.stat().st_mode)
    assert (mode(server.path), mode(server.path.parent)) == (0o600, 0o700)


def test_the_umask_does_not_matter(kernel: Kernel) -> None:
    before = os.umask(0)
    try:
        opened = ControlServer(kernel.core)
        opened.open()
        assert (mode(opened.path), mode(opened.path.parent)) == (0o600, 0o700)
        opened.close()
    finally:
        os.umask(before)


def test_a_folder_open_to_others_is_closed(kernel: Kernel, runtime: Path) -> None:
    (runtime / "microkernel").mkdir(mode=0o755)
    (runtime / "microkernel").chmod(0o777)
    opened = ControlServer(kernel.core)
    opened.open()
    assert mode(runtime / "microkernel") == 0o700
    opened.close()


@AS_ROOT
def test_a_folder_of_another_user_is_not_used(kernel: Kernel, runtime: Path) -> None:
    (runtime / "microkernel").mkdir(mode=0o700)
    os.chown(runtime / "microkernel", 12345, -1)
    with pytest.raises(KernelError, match=r"MK0704 .*uid 12345"):
        ControlServer(kernel.core).open()


def test_a_link_instead_of_the_folder_is_refused(kernel: Kernel, runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (runtime / "microkernel").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KernelError, match=r"MK0704"):
        ControlServer(kernel.core).open()


@AS_ROOT
def test_a_socket_of_another_user_is_not_removed(kernel: Kernel, runtime: Path) -> None:
    path = runtime / "microkernel" / "test.sock"
    path.parent.mkdir(mode=0o700)
    path.touch()
    os.chown(path, 12345, -1)
    with pytest.raises(KernelError, match=r"MK0704 .*uid 12345"):
        ControlServer(kernel.core).open()
    assert path.exists()


def test_without_a_runtime_folder_it_is_below_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    assert paths.socket_path("x") == Path(f"/tmp/microkernel-{os.getuid()}/x.sock")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\nb", "x" * 300])
def test_an_invalid_kernel_name_is_refused(name: str) -> None:
    with pytest.raises(KernelError, match=r"MK0705"):
        paths.socket_path(name)


def test_a_path_too_long_for_a_socket(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    opened = ControlServer(kernel.core)
    opened.open()
    with ControlClient() as client:
        assert client.call("sum.add", 1) == 3
    opened.close()


def test_the_socket_is_removed_when_the_kernel_ends(kernel: Kernel, server: ControlServer) -> None:
    server.close()
    assert not server.path.exists()
    with pytest.raises(KernelError, match=r"MK0701"):
        ControlClient("test")


# Two kernels, stale sockets


def test_a_second_kernel_is_refused_with_the_pid(server: ControlServer) -> None:
    with pytest.raises(KernelError, match=rf"MK0702 .* \(pid {os.getpid()}\)"):
        ControlServer(server.core).open()
    with ControlClient() as client:
        assert client.call("sum.add", 1) == 3


def test_a_stale_socket_is_removed_with_a_notice(kernel: Kernel, runtime: Path) -> None:
    (runtime / "microkernel").mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(runtime / "microkernel" / "test.sock"))
    left.close()
    told: list[str] = []
    kernel.on("kernel.message", lambda id: told.append(id))
    opened = ControlServer(kernel.core)
    opened.open()
    eventually(lambda: told == ["MK0703"])
    with ControlClient() as client:
        assert client.call("sum.add", 1) == 3
    opened.close()


def test_of_many_kernels_that_start_at_once_one_wins(kernel: Kernel, runtime: Path) -> None:
    (runtime / "microkernel").mkdir(mode=0o700)
    (runtime / "microkernel" / "test.sock").touch()
    servers = [ControlServer(kernel.core) for _ in range(8)]
    outcomes: list[str] = []

    def attempt(each: ControlServer) -> None:
        try:
            each.open()
            outcomes.append("open")
        except KernelError as error:
            outcomes.append(error.id)

    threads = [threading.Thread(target=attempt, args=(each,)) for each in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["MK0702"] * 7 + ["open"]
    with ControlClient() as client:
        assert client.call("sum.add", 1) == 3
    for each in servers:
        each.close()


# Rejected clients


def test_garbage_is_refused_readably(server: ControlServer) -> None:
    refused = last_words(server.path, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (refused.id, refused.fields["reason"]) == ("MK0215", "not a frame of this protocol")
    with ControlClient() as client:
        assert client.call("sum.add", 1) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x05\xdd\x00\x00\x00\x00" + b"\xff" * 100,
        b"\xff\xff\xff\xff\xdd\x00\x00\x00\x01",
        b"\x00\x00\x00\x06\xdd\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x05\xdd\xff\xff\xff\xff",
    ],
)
def test_hostile_frames(server: ControlServer, data: bytes) -> None:
    assert last_words(server.path, Session("test").hello() + data).id == "MK0215"
    with ControlClient() as client:
        assert client.call("sum.add", 1) == 3


def test_another_protocol_is_refused(server: ControlServer) -> None:
    refused = last_words(server.path, pack([messages.Hello(99, "mk")]))
    assert (refused.id, refused.fields["theirs"], refused.fields["ours"]) == ("MK0216", "99", "1")


def test_a_client_without_a_hello_is_refused(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.control.server.HELLO_TIMEOUT", 0.05)
    refused = last_words(server.path, b"")
    assert (refused.id, refused.fields["reason"]) == ("MK0216", "it did not say hello")


def test_life_cycle_messages_of_a_client_are_refused(server: ControlServer) -> None:
    refused = last_words(server.path, Session("test").hello() + pack([messages.Loaded([], [])]))
    assert (refused.id, refused.fields["reason"]) == ("MK0215", "a Loaded message is not allowed from a client")


def test_another_user_is_refused_readably(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.control.server.credentials", lambda connection: (1, os.getuid() + 12345))
    with pytest.raises(ProtocolError, match=f"MK0709 .*you are user {os.getuid() + 12345}"):
        ControlClient()
    assert server.core.registry.names() == ["sum"]


NOBODY = 65534


def as_nobody(work: Callable[[], bytes]) -> bytes:
    """Return the result of ``work`` as another user. Forks instead of starting a program, because the interpreter may
    be in a folder that only root can read."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child of a program with threads: it only connects
        child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(write, work())
        except OSError as error:
            os.write(write, f"{type(error).__name__}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as said:
        answer = said.read()
    os.waitpid(child, 0)
    return answer


@pytest.fixture
def open_to_all(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A kernel's socket in a folder that every user can access, with the kernel's own checks in place."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        monkeypatch.setenv("XDG_RUNTIME_DIR", place)
        server = ControlServer(kernel.core)
        server.open()
        yield server.path
        server.close()


def connect(path: Path) -> bytes:
    with stranger(path) as connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


@AS_ROOT
def test_another_user_cannot_even_reach_it(open_to_all: Path) -> None:
    assert as_nobody(lambda: connect(open_to_all)) == b"PermissionError"
    open_to_all.parent.chmod(0o755)  # the folder no longer protects the socket, only its own mode does
    assert as_nobody(lambda: connect(open_to_all)) == b"PermissionError"


@AS_ROOT
def test_another_user_who_connects_is_rejected_by_peer_credentials(open_to_all: Path) -> None:
    open_to_all.parent.chmod(0o755)
    open_to_all.chmod(0o666)
    heard = as_nobody(lambda: connect(open_to_all))
    said = [message for body in Reader().feed(heard) for message in decode(body)]
    assert isinstance(said[-1], messages.Refuse)
    assert (said[-1].id, len(said)) == ("MK0709", 1)
    assert said[-1].fields["reason"] == f"it belongs to user {os.getuid()}, and you are user {NOBODY}"


def test_root_is_accepted(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    monkeypatch.setattr("microkernel.control.server.credentials", lambda connection: (1, 0))
    monkeypatch.setattr("microkernel.control.paths.credentials", lambda connection: (1, 0))
    with ControlClient("test") as client:
        assert client.call("sum.add", 1) == 3


def test_a_client_refuses_a_socket_of_another_user(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.control.paths.credentials", lambda connection: (1, os.getuid() + 1))
    with pytest.raises(KernelError, match=r"MK0704"):
        ControlClient("test")


def test_the_number_of_clients_is_limited(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.control.server.MAX_CLIENTS", 2)
    with ControlClient(), ControlClient("test") as second:
        with pytest.raises(ProtocolError, match=r"MK0709 .*2 connections already"):
            ControlClient("test")
        assert second.call("sum.add", 1) == 3
    eventually(lambda: server.core.registry.names() == ["sum"])
    ControlClient("test").close()


# Clients that do not read


def reader(path: Path, pattern: str) -> socket.socket:
    """A client that subscribes and then stops reading."""
    connection = stranger(path)
    session = Session("test")
    handler = messages.Handler(1, pattern, "nobody")
    connection.sendall(session.hello() + pack([messages.Subscribe(1, handler)]))
    while not any(isinstance(each, messages.Response) for each in session.receive(connection.recv(65536))):
        pass
    return connection


def test_a_client_that_does_not_read_is_dropped_and_blocks_nobody(
    kernel: Kernel, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_runner, "STALL_TIMEOUT", 0.2)
    connection = reader(server.path, "sum.flood")
    began = time.monotonic()
    assert kernel.call("sum.flood", 12_000, timeout=30.0) == 12_000
    assert kernel.call("sum.add", 1) == 3
    assert time.monotonic() - began < 20
    eventually(lambda: kernel.core.registry.names() == ["sum"])
    connection.close()


def test_the_queue_for_a_client_is_bounded(
    kernel: Kernel, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_runner, "MAX_QUEUED", 1_000_000)
    kernel.set_data("big.key", "x" * 200_000)
    asking = [messages.Data(number, "get", "big.key") for number in range(50)]
    with stranger(server.path) as connection:
        connection.sendall(Session("test").hello())
        assert connection.recv(65536)
        connection.sendall(pack(asking))
        eventually(lambda: kernel.core.registry.names() == ["sum"])
    assert kernel.call("sum.add", 1) == 3


def test_a_killed_client_is_disconnected(kernel: Kernel, server: ControlServer) -> None:
    with ControlClient() as client:
        client.settle()
        visitor = next(name for name in kernel.core.registry.names() if name != "sum")
        kernel.kill(visitor)
        with pytest.raises(KernelClosed):
            client.call("sum.add", 1)
    assert kernel.core.registry.names() == ["sum"]


def test_a_slow_handler_of_a_client_is_not_ended(kernel: Kernel, server: ControlServer) -> None:
    with ControlClient() as client:
        client.settle()
        record = next(record for record in kernel.core.registry if record.is_remote_client)
        assert record.manifest.limits.handler == 0


def test_descriptors_of_clients_are_closed(kernel: Kernel, server: ControlServer) -> None:
    def open_ones() -> int:
        return len(os.listdir("/proc/self/fd"))

    ControlClient("test").close()
    eventually(lambda: kernel.core.registry.names() == ["sum"])
    before = open_ones()  # may include one of the first client, which is closed after its name is gone
    for _ in range(20):
        ControlClient("test").close()
        stranger(server.path).close()
    eventually(lambda: open_ones() <= before and not server._clients, f"{before} connections and no visitor")


def test_messages_sent_before_a_client_leaves_are_handled(kernel: Kernel, server: ControlServer) -> None:
    heard: list[int] = []
    kernel.on("pong.you", lambda n: heard.append(n))
    connection = stranger(server.path)
    connection.sendall(Session("test").hello() + pack([messages.Emit("ping.me", codec.Raw(codec.encode({"n": 7})))]))
    connection.close()
    eventually(lambda: heard == [7])


def test_a_with_block_gives_an_embedded_kernel_its_socket(kernel: Kernel) -> None:
    with ControlServer(kernel.core) as server:
        assert paths.answers(server.path)
    assert not server.path.exists()
