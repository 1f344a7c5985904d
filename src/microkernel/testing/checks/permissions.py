"""Permissions at each level: which topics, methods and data a plugin may use."""

from __future__ import annotations

from microkernel.testing.harness import Workspace, plugin

NOSY = plugin(
    """
    got = []
    @on("**")
    def all(self, event) -> None: self.got.append(event.topic)
    @expose
    def attempts(self) -> list:
        api, got = self.api, []
        for attempt in (
            lambda: api.on("kernel.message", print), lambda: api.emit("kernel.message"),
            lambda: api.ask("kernel.message"), lambda: api.call("kernel.list"), lambda: api.call("kernel.kill", "x"),
        ):
            try:
                attempt()
            except errors.PermissionDenied as error:
                got.append(error.action)
        return got
    @expose
    def heard(self) -> list: return self.got
    """
)


def check_the_kernels_own_are_not_for_everybody(workspace: Workspace) -> None:
    """Without a grant, a plugin cannot receive or emit ``kernel.**`` or call the service ``kernel``; it gets the error
    at once."""
    with workspace.run(p=NOSY, q=plugin("")) as harness:
        harness.kernel.stop("q")  # the kernel emits kernel.state, kernel.message
        harness.kernel.emit("x")
        assert harness.call("p.heard") == ["x"]
        assert harness.call("p.attempts") == ["on", "emit", "emit", "call", "call"]


GRANTED = """
permissions = { emit = ["out.*"], on = ["may.**"], call = ["other.open"], data.read = ["a.*"], data.write = ["a.b"] }
"""
BOUND = plugin(
    """
    @expose
    def attempts(self) -> list:
        api, got = self.api, []
        for attempt in (
            lambda: api.emit("out.x"), lambda: api.emit("bound.own"), lambda: api.on("may.hear", print),
            lambda: api.call("other.open"), lambda: api.get_data("a.b"), lambda: api.set_data("a.b", 1),
            lambda: api.set_data("bound.own", 1), lambda: api.watch_data("a.*", print),
            lambda: api.emit("other.x"), lambda: api.on("**", print), lambda: api.call("other.shut"),
            lambda: api.get_data("b.b"), lambda: api.set_data("a.c", 1), lambda: api.watch_data("**", print),
            lambda: api.delete_data("a.c"), lambda: api.ask("other.x"),
        ):
            try:
                attempt()
                got.append("")
            except errors.PermissionDenied as error:
                got.append(error.line)
        return got
    """,
    manifest=GRANTED,
)
OTHER = plugin("@expose\ndef open(self): ...\n@expose\ndef shut(self): ...")


def check_permissions_bind(workspace: Workspace) -> None:
    """A permissions table grants what it declares, and topics below the plugin's own name always; a refusal names the
    missing line."""
    with workspace.run(bound=BOUND, other=OTHER) as harness:
        lines = harness.call("bound.attempts")
        assert lines[:8] == [""] * 8
        assert lines[8:] == [
            'emit = ["other.x"]', 'on = ["**"]', 'call = ["other.shut"]', 'data.read = ["b.b"]',
            'data.write = ["a.c"]', 'data.read = ["**"]', 'data.write = ["a.c"]', 'emit = ["other.x"]',
        ]  # fmt: skip
