"""Payloads are values, never references, and nothing else than plain data."""

from __future__ import annotations

from typing import Any

from microkernel.errors import CallFailed, NotPlainData, PayloadTooLarge
from microkernel.testing.stage import Workspace, plugin, refused

MEBIBYTE = 1024 * 1024

PLAIN: list[Any] = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -1.5, 1e300, float("inf"), "", "text", "文字 🙂",
    "line\nand \x00 nul", b"", b"\x00\xff", [], [1, [2, [3, []]]], {}, {"a": {"b": [None, {"c": b"d"}]}},
    {"": 1, "with space": 2, "钥匙": 3}, list(range(1000)), "x" * 100_000,
]  # fmt: skip

MIRROR = plugin(
    """
    @expose
    def mirror(self, value):
        return value
    @expose
    def kinds(self, value) -> str:
        return type(value).__name__
    @on("mirror")
    def on_mirror(self, value):
        self.api.emit("out.mirrored", value=value)
    """
)


def check_plain_values_arrive_as_they_are(stage: Workspace) -> None:
    """Through calls, events and the context."""
    with stage.run(p=MIRROR) as scene:
        for value in PLAIN:
            assert scene.call("p.mirror", value) == value
            assert scene.call("p.kinds", value) == type(value).__name__
            scene.kernel.emit("mirror", value=value)
            scene.kernel.set_data("key", value)
            assert scene.kernel.get_data("key", "missing") == value
        assert [event["value"] for event in scene.heard("mirrored", len(PLAIN))] == PLAIN


VANDAL = plugin(
    """
    @on("x")
    def first(self, items: list, inner) -> None:
        items.append("vandal"); inner["items"].clear()
    @on("x")
    def second(self, event) -> None:
        event.data["items"].append("again")
    @on("x")
    def third(self, items: list, inner) -> None:
        self.api.emit("out.third", items=items, inner=inner)
    @expose
    def keep(self, value) -> None:
        self.kept = value
        value.append("changed after")
    @expose
    def spoil(self) -> list:
        self.api.emit("out.kept", value=self.kept)
        self.kept.append("after emit")
        self.api.set_data("shared", self.kept)
        self.kept.append("after set")
        return self.api.get_data("shared")
    """
)


def check_values_never_references(stage: Workspace) -> None:
    """What a receiver does to a payload nobody else sees; what a sender does afterwards, neither."""
    with stage.run(p=VANDAL) as scene:
        items, inner = [1], {"items": [2]}
        scene.kernel.emit("x", items=items, inner=inner)
        assert scene.heard("third", 1) == [{"items": [1], "inner": {"items": [2]}}]
        assert (items, inner) == ([1], {"items": [2]})
        mine = ["mine"]
        scene.call("p.keep", mine)
        assert mine == ["mine"]
        kept = ["mine", "changed after"]
        assert scene.call("p.spoil") == [*kept, "after emit"]
        assert scene.heard("kept", 1) == [{"value": kept}]
        shared = scene.kernel.get_data("shared")
        shared.append("embedder")
        assert scene.kernel.get_data("shared") == [*kept, "after emit"]


ODD = plugin(
    """
    @expose
    def attempts(self) -> list:
        api, got = self.api, []
        cyclic = []; cyclic.append(cyclic)
        for attempt in (
            lambda: api.emit("x", a=[1, {"b": object()}]), lambda: api.call("p.nothing", [lambda: 1]),
            lambda: api.call("p.nothing", b=2**64), lambda: api.set_data("key", {"k": [self]}),
            lambda: api.ask("x", bad=threading.Lock()), lambda: api.emit("x", text="\\ud800"),
            lambda: api.emit("x", cyclic=cyclic), lambda: api.emit("x", a=type),
        ):
            try:
                attempt()
            except errors.NotPlainData as error:
                got.append([error.path, error.kind])
        return got
    @expose
    def nothing(self, *args, **kwargs): ...
    @expose
    def gives(self):
        return {"deep": [0, object()]}
    @on("ask.odd")
    def odd(self):
        return {1, 2, object()}
    """
)


def check_what_is_no_value_is_refused_with_its_path(stage: Workspace) -> None:
    """NotPlainData at the line that tried, naming the place; nothing is sent."""
    with stage.run(p=ODD) as scene:
        got = scene.call("p.attempts")
        assert got[:6] == [
            [".a[1].b", "object"], ["[0][0]", "function"], [".b", f"int {2**64}, over 64 bits"],
            [".k[0]", "Plugin"], [".bad", "lock"], [".text", "text that is not valid Unicode"],
        ]  # fmt: skip
        assert got[6][0].startswith(".cyclic[0][0]")
        assert got[7] == [".a", "type"]
        error = refused(NotPlainData, scene.kernel.emit, "x", here=[object()])
        assert (error.path, error.kind) == (".here[0]", "object")
        refused(NotPlainData, scene.kernel.call, "p.nothing", object())
        refused(NotPlainData, scene.kernel.set_data, "key", object())
        assert scene.kernel.get_data("key", "nothing") == "nothing"


def check_a_result_that_is_no_value_is_an_error_of_the_callee(stage: Workspace) -> None:
    """The caller gets CallFailed, at once, with the path; the callee goes on."""
    with stage.run(p=ODD) as scene:
        error = refused(CallFailed, scene.call, "p.gives")
        assert error.remote_type == "NotPlainData"
        assert ".deep[1]" in error.remote_message
        (reply,) = scene.kernel.ask("ask.odd", timeout=20.0)
        assert reply.error is not None
        assert scene.call("p.nothing") is None


def check_large_payloads_pass(stage: Workspace) -> None:
    """Up to 16 MiB, in both directions."""
    with stage.run(p=MIRROR) as scene:
        for size in (60_000, 65_536, 70_000, MEBIBYTE, 15 * MEBIBYTE):
            value = bytes(range(256)) * (size // 256)
            assert scene.call("p.mirror", value) == value
        scene.kernel.emit("mirror", value=b"y" * 5 * MEBIBYTE)
        assert len(scene.heard("mirrored", 1)[0]["value"]) == 5 * MEBIBYTE


HEAVY = plugin(
    """
    @expose
    def attempts(self) -> list:
        api, got, big = self.api, [], bytes(17 * 1024 * 1024)
        for attempt in (
            lambda: api.emit("x", big=big), lambda: api.call("p.nothing", big), lambda: api.set_data("key", big),
            lambda: api.ask("x", big=big),
        ):
            try:
                attempt()
            except errors.PayloadTooLarge as error:
                got.append(error.limit)
        return got
    @expose
    def gives(self) -> bytes:
        return bytes(17 * 1024 * 1024)
    @expose
    def nothing(self, big=None): ...
    """
)


def check_too_large_payloads_are_refused(stage: Workspace) -> None:
    """PayloadTooLarge over 16 MiB encoded; nothing is sent, and the way stays open."""
    with stage.run(p=HEAVY) as scene:
        assert scene.call("p.attempts") == [16 * MEBIBYTE] * 4
        assert refused(CallFailed, scene.call, "p.gives").remote_type == "PayloadTooLarge"
        big = bytes(17 * MEBIBYTE)
        assert refused(PayloadTooLarge, scene.kernel.emit, "x", big=big).limit == 16 * MEBIBYTE
        refused(PayloadTooLarge, scene.kernel.call, "p.nothing", big)
        refused(PayloadTooLarge, scene.kernel.set_data, "key", big)
        assert scene.call("p.nothing") is None
