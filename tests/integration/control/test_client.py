"""The client of the commands: calls, events, data, and the search for a kernel."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from microkernel import Event, Kernel
from microkernel.control.client import ControlClient
from microkernel.control.paths import find_kernel, running_kernels
from microkernel.control.server import ControlServer
from microkernel.errors import (
    BadTopic,
    CallFailed,
    CallTimeout,
    InvalidArguments,
    KernelClosed,
    KernelError,
    MethodNotFound,
    PermissionDenied,
    PluginNotFound,
    RevisionConflict,
)

pytestmark = pytest.mark.usefixtures("server")


def test_calls() -> None:
    with ControlClient() as client:
        assert client.kernel == "test"
        assert client.call("sum.add", 1, b=5) == 6
        assert [info["name"] for info in client.call("kernel.list")] == ["sum"]


@pytest.mark.parametrize(
    ("target", "args", "kind"),
    [
        ("sum.fail", [], CallFailed),
        ("sum.add", ["x"], InvalidArguments),
        ("sum.nothing", [], MethodNotFound),
        ("nobody.there", [], PluginNotFound),
        ("kernel.nothing", [], MethodNotFound),
        ("kernel.info", ["nobody"], PluginNotFound),
        ("bad topic", [], BadTopic),
    ],
)
def test_errors_keep_their_class_and_fields(target: str, args: list[object], kind: type[KernelError]) -> None:
    with ControlClient() as client, pytest.raises(kind):
        client.call(target, *args)


@pytest.mark.parametrize(
    ("target", "args", "shown"),
    [
        ("sum.add", ["x"], "; the method is add(a: int, b: int = 2)"),
        ("kernel.stop", [], "; the method is kernel.stop(name, cascade=False, now=False)"),
    ],
)
def test_wrong_arguments_show_the_signature(target: str, args: list[object], shown: str) -> None:
    with ControlClient() as client, pytest.raises(InvalidArguments) as wrong:
        client.call(target, *args)
    assert wrong.value.text.endswith(shown)


def test_a_call_has_its_deadline() -> None:
    with ControlClient() as client:
        with pytest.raises(CallTimeout):
            client.call("sum.wait", timeout=0.05)
        assert client.call("kernel.names")["plugins"] == ["sum"]


def test_events_come_in_order(kernel: Kernel) -> None:
    heard: list[Event] = []
    with ControlClient() as client:
        client.subscribe("pong.*", heard.append)
        for number in range(300):
            client.emit("ping.me", n=number)
        while len(heard) < 300:
            assert client.listen(10.0)
    assert [event.data["n"] for event in heard] == list(range(300))
    assert {event.source for event in heard} == {"sum"}


def test_only_the_kernel_emits_kernel_topics() -> None:
    with ControlClient() as client, pytest.raises(PermissionDenied, match="only the kernel"):
        client.emit("kernel.message", text="!")


def test_data_remains_after_the_client_has_left(kernel: Kernel) -> None:
    with ControlClient() as client:
        assert client.get_data("a.key", 5) == 5
        assert client.set_data("a.key", {"x": [1]}) == 1
        with pytest.raises(RevisionConflict):
            client.set_data("a.key", 2, expect=7)
    assert kernel.get_data("a.key") == {"x": [1]}
    with ControlClient() as client:
        client.delete_data("a.key")
    assert kernel.get_data("a.key") is None


def test_a_waiting_call_raises_when_the_kernel_ends(server: ControlServer) -> None:
    client = ControlClient()
    raised: list[Exception] = []
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        try:
            client.call("sum.wait", timeout=30.0)
        except KernelError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    server.close()
    thread.join(10)
    assert [type(error) for error in raised] == [KernelClosed]
    assert not client.listen(5.0)
    with pytest.raises(KernelClosed):
        client.call("sum.add", 1)
    client.close()


def test_the_only_kernel_is_found(server: ControlServer) -> None:
    assert running_kernels() == {"test": server.path}
    assert find_kernel() == find_kernel("test") == server.path


def test_among_several_one_must_be_named(tmp_path: Path) -> None:
    with Kernel(name="other") as other:
        second = ControlServer(other.core)
        second.open()
        with pytest.raises(KernelError, match=r"MK0707 .*--kernel NAME") as several:
            find_kernel()
        assert several.value.names == ["other", "test"]
        with ControlClient("other") as client:
            assert client.call("kernel.list") == []
        second.close()


def test_a_kernel_started_without_a_runtime_folder_is_found_too(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    with Kernel(name="other") as other:
        second = ControlServer(other.core)
        second.open()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(server.path.parent.parent))
        assert list(running_kernels()) == ["test"], "elsewhere is looked only if none runs here"
        assert find_kernel("other") == second.path
        server.close()
        assert find_kernel() == second.path
        second.close()


def test_a_stale_socket_is_not_a_kernel(server: ControlServer) -> None:
    (server.path.parent / "dead.sock").touch()
    assert list(running_kernels()) == ["test"]


def test_no_running_kernel_is_an_error(server: ControlServer) -> None:
    with pytest.raises(KernelError, match=r"MK0701 no kernel answers at .*nobody.sock"):
        ControlClient("nobody")
    server.close()
    with pytest.raises(KernelError, match=r"MK0701"):
        ControlClient()


def test_errors_are_shown_in_the_readers_language() -> None:
    with ControlClient() as client:
        assert client.call("kernel.tell", "MK0219", {}) == "stopped"
        assert client.call("kernel.tell", "MK0219", {}, "zh") == "已停止"
        assert "插件" in client.call("kernel.explain", "MK0207", "zh")
        assert client.call("kernel.glossary", "host") == [
            ["host", "宿主", client.call("kernel.glossary", "宿主", "en")[0][2]]
        ]
        with pytest.raises(KernelError, match=r"MK0711"):
            client.call("kernel.glossary", "nonsense")
