"""Payloads are values, never references, and only plain data."""

from __future__ import annotations

from typing import Any

from microkernel.errors import CallFailed, NotPlainData, PayloadTooLarge
from microkernel.testing.harness import Workspace, expect_error, plugin

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


def check_plain_values_arrive_as_they_are(workspace: Workspace) -> None:
    """Plain values arrive unchanged through calls, events and the shared data."""
    with workspace.run(p=MIRROR) as harness:
        for value in PLAIN:
            assert harness.call("p.mirror", value) == value
            assert harness.call("p.kinds", value) == type(value).__name__
            harness.kernel.emit("mirror", value=value)
            harness.kernel.set_data("key", value)
            assert harness.kernel.get_data("key", "missing") == value
        assert [event["value"] for event in harness.received("mirrored", len(PLAIN))] == PLAIN


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


def check_values_never_references(workspace: Workspace) -> None:
    """Modifications of a payload, by its receiver or later by its sender, are seen by no other plugin."""
    with workspace.run(p=VANDAL) as harness:
        items, inner = [1], {"items": [2]}
        harness.kernel.emit("x", items=items, inner=inner)
        assert harness.received("third", 1) == [{"items": [1], "inner": {"items": [2]}}]
        assert (items, inner) == ([1], {"items": [2]})
        mine = ["mine"]
        harness.call("p.keep", mine)
        assert mine == ["mine"]
        kept = ["mine", "changed after"]
        assert harness.call("p.spoil") == [*kept, "after emit"]
        assert harness.received("kept", 1) == [{"value": kept}]
        shared = harness.kernel.get_data("shared")
        shared.append("embedder")
        assert harness.kernel.get_data("shared") == [*kept, "after emit"]


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


def check_what_is_no_value_is_refused_with_its_path(workspace: Workspace) -> None:
    """NotPlainData is raised at the line of the request, with the path; nothing is sent."""
    with workspace.run(p=ODD) as harness:
        got = harness.call("p.attempts")
        assert got[:6] == [
            [".a[1].b", "object"], ["[0][0]", "function"], [".b", f"int {2**64}, over 64 bits"],
            [".k[0]", "Plugin"], [".bad", "lock"], [".text", "text that is not valid Unicode"],
        ]  # fmt: skip
        assert got[6][0].startswith(".cyclic[0][0]")
        assert got[7] == [".a", "type"]
        error = expect_error(NotPlainData, harness.kernel.emit, "x", here=[object()])
        assert (error.path, error.kind) == (".here[0]", "object")
        expect_error(NotPlainData, harness.kernel.call, "p.nothing", object())
        expect_error(NotPlainData, harness.kernel.set_data, "key", object())
        assert harness.kernel.get_data("key", "nothing") == "nothing"


def check_a_result_that_is_no_value_is_an_error_of_the_callee(workspace: Workspace) -> None:
    """If a method returns an object that is not a value, the caller gets CallFailed at once, with the path; the callee
    keeps running."""
    with workspace.run(p=ODD) as harness:
        error = expect_error(CallFailed, harness.call, "p.gives")
        assert error.remote_type == "NotPlainData"
        assert ".deep[1]" in error.remote_message
        (reply,) = harness.kernel.ask("ask.odd", timeout=20.0)
        assert reply.error is not None
        assert harness.call("p.nothing") is None


def check_large_payloads_pass(workspace: Workspace) -> None:
    """Payloads of up to 16 MiB pass in both directions."""
    with workspace.run(p=MIRROR) as harness:
        for size in (60_000, 65_536, 70_000, MEBIBYTE, 15 * MEBIBYTE):
            value = bytes(range(256)) * (size // 256)
            assert harness.call("p.mirror", value) == value
        harness.kernel.emit("mirror", value=b"y" * 5 * MEBIBYTE)
        assert len(harness.received("mirrored", 1)[0]["value"]) == 5 * MEBIBYTE


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


def check_too_large_payloads_are_refused(workspace: Workspace) -> None:
    """A payload over 16 MiB raises PayloadTooLarge; nothing is sent, and the channel keeps working."""
    with workspace.run(p=HEAVY) as harness:
        assert harness.call("p.attempts") == [16 * MEBIBYTE] * 4
        assert expect_error(CallFailed, harness.call, "p.gives").remote_type == "PayloadTooLarge"
        big = bytes(17 * MEBIBYTE)
        assert expect_error(PayloadTooLarge, harness.kernel.emit, "x", big=big).limit == 16 * MEBIBYTE
        expect_error(PayloadTooLarge, harness.kernel.call, "p.nothing", big)
        expect_error(PayloadTooLarge, harness.kernel.set_data, "key", big)
        assert harness.call("p.nothing") is None
