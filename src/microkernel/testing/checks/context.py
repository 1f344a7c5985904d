"""Shared data: keys, values, revisions, watchers, owners."""

from __future__ import annotations

from microkernel.errors import CallFailed, RevisionConflict
from microkernel.testing.harness import Workspace, expect_error, plugin

BOARD = """
    @expose
    def put(self, key: str, value: Any, expect: int | None = None) -> int:
        return self.api.set_data(key, value, expect=expect)
    @expose
    def take(self, key: str, default: Any = None) -> Any:
        return self.api.get_data(key, default)
    @expose
    def drop(self, key: str) -> None:
        self.api.delete_data(key)
    @expose
    def conflict(self, key: str, expect: int) -> int:
        try:
            self.api.set_data(key, "lost", expect=expect)
        except errors.RevisionConflict as error:
            return error.revision
    @expose
    def count_up(self, key: str, times: int) -> None:
        for _ in range(times):
            while True:
                value = self.api.get_data(key, [0, 0])
                try:
                    self.api.set_data(key, [value[0] + 1, value[1] + 1], expect=value[1])
                    break
                except errors.RevisionConflict:
                    continue
"""


def check_revisions_never_return(workspace: Workspace) -> None:
    """A key that was deleted, directly or with its owner, continues its revisions, so an old revision never matches."""
    body = """
    @expose
    def set(self, key: str, expect: int = -1) -> int:
        return self.api.set_data(key, 1, expect=None if expect < 0 else expect)
    @expose
    def delete(self, key: str) -> None:
        self.api.delete_data(key)
    """
    with workspace.run(p=plugin(body), q=plugin(body)) as harness:
        assert harness.call("p.set", "shared.key") == 1
        assert harness.call("p.set", "shared.key") == 2
        harness.call("p.delete", "shared.key")
        harness.call("p.delete", "shared.key")
        assert harness.call("q.set", "shared.key", 0) == 3  # it does not exist
        for old in 1, 2:
            conflict = expect_error(RevisionConflict, harness.kernel.set_data, "shared.key", 1, expect=old)
            assert (conflict.revision, conflict.expect) == (3, old)
            assert "is at revision 3" in str(expect_error(CallFailed, harness.call, "p.set", "shared.key", old))
        harness.kernel.reload("q")
        assert harness.call("p.set", "shared.key", 3) == 4
        harness.kernel.unload("q")  # it owns the key
        assert harness.kernel.get_data("shared.key") is None
        assert harness.kernel.set_data("shared.key", 5, expect=0) == 5
        expect_error(RevisionConflict, harness.kernel.set_data, "shared.key", 6, expect=4)
        harness.kernel.delete_data("shared.key")
        expect_error(RevisionConflict, harness.kernel.set_data, "shared.key", 6, expect=5)
        assert harness.call("p.set", "shared.key", 0) == 6
        assert harness.call("p.set", "another.key") == 1


def check_data_is_shared_with_revisions(workspace: Workspace) -> None:
    """A revision counts the writes of a key, from 1; all plugins see the same; a missing key gives the default."""
    with workspace.run(a=plugin(BOARD), b=plugin(BOARD)) as harness:
        assert harness.call("a.take", "rates.CNY") is None
        assert harness.call("a.take", "rates.CNY", 7) == 7
        assert harness.call("a.put", "rates.CNY", 7.1) == 1
        assert harness.call("b.take", "rates.CNY") == 7.1
        assert harness.call("b.put", "rates.CNY", None) == 2
        assert harness.call("a.take", "rates.CNY", "default") is None  # a key with the value None exists
        assert harness.kernel.set_data("rates.CNY", 7.2, expect=2) == 3
        assert harness.kernel.get_data("rates.CNY") == 7.2
        harness.call("a.drop", "rates.CNY")
        harness.call("a.drop", "rates.CNY")
        assert harness.kernel.get_data("rates.CNY", "gone") == "gone"
        assert harness.kernel.set_data("rates.CNY", 1, expect=0) == 4
        harness.kernel.delete_data("rates.CNY")
        assert harness.call("b.take", "rates.CNY", "gone") == "gone"


def check_compare_and_set(workspace: Workspace) -> None:
    """``expect`` raises RevisionConflict with the current revision, and leaves the value unchanged; ``expect=0``
    requires a missing key."""
    with workspace.run(a=plugin(BOARD)) as harness:
        assert harness.call("a.put", "k", "one", 0) == 1
        assert harness.call("a.put", "k", "two", 1) == 2
        for expect in (0, 1, 3):
            assert harness.call("a.conflict", "k", expect) == 2
            assert expect_error(RevisionConflict, harness.kernel.set_data, "k", "lost", expect=expect).revision == 2
        assert harness.kernel.get_data("k") == "two"
        assert harness.call("a.conflict", "other", 5) == 0


def check_compare_and_set_loses_no_update(workspace: Workspace) -> None:
    """Two plugins and the embedder increment the same key concurrently, without lost updates."""
    with workspace.run(a=plugin(BOARD), b=plugin(BOARD)) as harness:
        under_way = [harness.in_background(harness.call, f"{name}.count_up", "count", 100) for name in "ab"]
        for one in under_way:
            one.result()
        assert harness.kernel.get_data("count") == [200, 200]


WATCHER = plugin(
    """
    def start(self) -> None:
        self.got = []
        self.subscription = self.api.watch_data("w.*", self.changed)
        self.api.watch_data("w.*", lambda *, value, event: self.got.append(["lambda", value]))
    def changed(self, name, new, number) -> None:
        self.got.append([name, new, number])
    @expose
    def take(self) -> list:
        got, self.got = self.got, []
        return [item for item in got if item[0] != "lambda"]
    @expose
    def stop_watching(self) -> None:
        self.api.off(self.subscription)
    """
)


def check_watchers_see_the_present_and_every_change(workspace: Workspace) -> None:
    """A watcher ``handler(key, value, revision)`` gets the current values first, then each change; a deleted key is
    None and 0."""
    with workspace.run() as harness:
        kernel = harness.kernel
        kernel.set_data("w.a", "early")
        kernel.set_data("w.b", 1)
        kernel.set_data("other.a", "not seen")
        kernel.load(workspace.write("watcher", WATCHER))
        assert harness.call("watcher.take") == [["w.a", "early", 1], ["w.b", 1, 1]]
        kernel.set_data("w.a", "late")
        kernel.set_data("w.c", {"new": True})
        kernel.set_data("w.c.d", "deeper than the pattern")
        kernel.delete_data("w.b")
        assert harness.call("watcher.take") == [["w.a", "late", 2], ["w.c", {"new": True}, 1], ["w.b", None, 0]]
        harness.call("watcher.stop_watching")
        kernel.set_data("w.a", "unseen")
        assert harness.call("watcher.take") == []


def check_watchers_in_init_see_the_present_values(workspace: Workspace) -> None:
    """A watcher that is registered in ``__init__`` gets the current values after ``start``."""
    body = """
    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        api.watch_data("w.a", self.changed)
    def changed(self, key, value, revision) -> None:
        self.api.emit("out.changed", value=value, revision=revision)
    """
    with workspace.run() as harness:
        harness.kernel.set_data("w.a", 1)
        harness.kernel.load(workspace.write("watcher", plugin(body)))
        assert harness.received("changed", 1) == [{"value": 1, "revision": 1}]
        harness.kernel.set_data("w.a", 2)
        assert harness.received("changed", 2)[1] == {"value": 2, "revision": 2}


def check_keys_live_until_their_owner_is_unloaded(workspace: Workspace) -> None:
    """A key belongs to the plugin that created it: it survives stop, kill and reload, and is removed by unload."""
    with workspace.run(a=plugin(BOARD), b=plugin(BOARD), watcher=WATCHER) as harness:
        harness.call("a.put", "w.mine", 1)
        harness.call("b.put", "w.mine", 2)  # still owned by a
        harness.call("b.put", "w.yours", 3)
        harness.kernel.reload("a")
        harness.kernel.kill("a")
        assert harness.kernel.get_data("w.mine") == 2
        harness.call("watcher.take")
        harness.kernel.unload("a")
        assert harness.kernel.get_data("w.mine") is None
        assert harness.kernel.get_data("w.yours") == 3
        assert harness.call("watcher.take") == [["w.mine", None, 0]]


def check_a_star_import_is_complete(workspace: Workspace) -> None:
    """``from microkernel import *`` imports what a plugin can use, without the kernel."""
    source = """
    @expose
    def names(self) -> list:
        import microkernel
        return [sorted(microkernel.__all__), "Kernel" in globals(), "NotReady" in globals()]
    """
    with workspace.run(p=plugin(source, head="from microkernel import *")) as harness:
        names, has_kernel, has_not_ready = harness.call("p.names")
        assert has_not_ready
        assert has_kernel == (workspace.level == "thread") == ("KernelConfig" in names)
