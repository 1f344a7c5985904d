"""Plugins that are held at a confined level, and approvals that release them. The level is confined by name only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import ConfigError, KernelError, PluginHeld, PluginNotActive, ReloadFailed
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.manifest import Level, Permissions
from microkernel.loader.lock import LockFile
from tests.confined import pretend

CODE = """
from microkernel import IPlugin, expose, on
from microkernel.errors import PermissionDenied

class Plugin(IPlugin):
    '''Sends mail.'''
    def start(self):
        self.api.emit("mailer.started", by=self.api.generation)
        self.api.set_data("mailer.size", 3)
    def stop(self): pass
    @expose
    def send(self): return "sent"
    @expose
    def beyond(self):
        try:
            self.api.emit("order.created", id=1)
        except PermissionDenied as error:
            return error.text
    @expose
    def slip(self):
        self.api._instance.client._channel.send(EMIT)
"""


@pytest.fixture(autouse=True)
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "microkernel.lock"


def manifest(version: str, **permissions: list[str]) -> str:
    table = [f'"{kind.replace("_", ".")}" = {what!r}' for kind, what in permissions.items()]
    lines = ["[tool.microkernel]", f'version = "{version}"', "[tool.microkernel.permissions]", *table]
    return "".join(f"# {line}\n" for line in ["/// script", *lines, "///"])


@pytest.fixture
def write(tmp_path: Path) -> Any:
    folder = tmp_path / "plugins"
    folder.mkdir()

    def write(version: str, code: str = CODE, **permissions: list[str]) -> Path:
        path = folder / "mailer.py"
        path.write_text(manifest(version, **permissions) + code, encoding="utf-8")
        return path

    return write


@contextmanager
def kernel(
    tmp_path: Path,
    lock: Path | None = None,
    grants: Mapping[str, Any] | None = None,
    config: KernelConfig | None = None,
    level: Level = "sandbox",
) -> Iterator[Kernel]:
    with Kernel(tmp_path / "plugins", config=config, isolation=level, grants=grants, lock=lock) as running:
        yield running


def state(kernel: Kernel) -> tuple[str, str | None]:
    info = kernel.info("mailer")
    return info.state, info.error_id


NET = ["smtp.example.com:587"]


def test_plugin_with_ungranted_requests_is_held(tmp_path: Path, write: Any) -> None:
    write("2.0", net=NET, call=["billing.total"])
    with kernel(tmp_path) as running:
        info = running.info("mailer")
        assert (info.state, info.error_id, info.generation, info.pid) == ("held", "MK0412", 0, None)
        assert str(info.error) == (
            "MK0412 asks for more than was approved: + call billing.total, + net smtp.example.com:587"
            "      mk approve mailer"
        )
        assert info.asked == {"call": ["billing.total"], "net": NET}
        with pytest.raises(PluginNotActive, match="held"):
            running.call("mailer.send")
        with pytest.raises(PluginHeld):
            running.start("mailer")
        assert running.stop("mailer").state == "held"
        assert running.kill("mailer").state == "held"
        assert running.unload("mailer") == []


def test_own_topics_and_data_need_no_grant(tmp_path: Path, write: Any) -> None:
    write("1.0", emit=["mailer.*"])
    with kernel(tmp_path) as running:
        assert running.call("mailer.send") == "sent"
        assert running.get_data("mailer.size") == 3
        assert running.call("mailer.beyond") == (
            'mailer has no permission for emit order.created; add to its permissions: emit = ["order.created"]'
        )


def test_message_that_bypasses_the_worker_check_is_refused_and_counted(tmp_path: Path, write: Any) -> None:
    emit = 'from microkernel.wire import codec, messages\nEMIT = messages.Emit("order.created", codec.Raw(b"\\x80"))\n'
    write("1.0", code=CODE + emit)
    with kernel(tmp_path) as running:
        heard: list[object] = []
        running.on("order.*", heard.append, inline=True)
        running.call("mailer.slip")
        running.call("mailer.send")
        assert running.info("mailer").refused == 1
        assert heard == []


def test_declared_grants_nothing_without_a_permissions_table(tmp_path: Path, write: Any) -> None:
    write("1.0").write_text(CODE, encoding="utf-8")
    with kernel(tmp_path, grants={"mailer": "declared"}) as running:
        assert running.info("mailer").permissions == {}
        assert "no permission for emit" in running.call("mailer.beyond")


@pytest.mark.parametrize("level", ["thread", "process"])
def test_trusted_levels_need_no_approval(tmp_path: Path, write: Any, lock: Path, level: Level) -> None:
    write("1.0", net=NET, emit=["order.*"])
    with kernel(tmp_path, lock, level=level) as running:
        assert running.info("mailer").permissions == {"emit": ["order.*"], "net": NET}
        assert running.review("mailer").asked == ()
        assert running.approve("mailer").state == "active"
    assert not lock.exists()


@pytest.mark.parametrize("given", ["declared", {"net": NET}, {"net": [*NET, "b:2"]}, Permissions(net=tuple(NET))])
def test_the_embedder_grants(tmp_path: Path, write: Any, given: Any) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path, grants={"mailer": given}) as running:
        assert running.info("mailer").permissions == {"net": NET}


def test_grants_of_the_configuration_and_the_embedder_are_combined(tmp_path: Path, write: Any) -> None:
    write("1.0", net=NET, env=["LANG"])
    table = KernelConfig(plugin={"mailer": PluginConfig(permissions=Permissions((), (), (), (), (), net=tuple(NET)))})
    with kernel(tmp_path, config=table) as running:
        assert state(running) == ("held", "MK0412")
        assert "+ env LANG      mk" in (running.info("mailer").error or "")
    with kernel(tmp_path, config=table, grants={"mailer": {"env": ["LANG"]}}) as running:
        assert state(running) == ("active", None)


def test_manifest_that_reads_a_variable_requests_it(tmp_path: Path, write: Any) -> None:
    """Else ``{env = "X"}`` would be a way around ``env``. In the operator's configuration it is the operator's word."""
    path = write("1.0")
    block = "# ///\n".join(path.read_text("utf-8").split("# ///\n")[:1])
    path.write_text(f'{block}# [tool.microkernel.config]\n# key = {{env = "HOME"}}\n# ///\n{CODE}', encoding="utf-8")
    with kernel(tmp_path) as running:
        assert "+ env HOME" in (running.info("mailer").error or "")
    own = KernelConfig(plugin={"mailer": PluginConfig(config={"key": {"env": "HOME"}})})
    with kernel(tmp_path, config=own) as running:
        assert state(running) == ("active", None)


# Approving


def test_approve_starts_it_and_the_lock_remembers(tmp_path: Path, write: Any, lock: Path) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path, lock) as running:
        assert running.review("mailer").added == ("net smtp.example.com:587",)
        assert running.approve("mailer").state == "active"
        assert running.call("mailer.send") == "sent"
    entry = LockFile(str(lock)).read()["mailer"]
    assert (entry.version, entry.permissions.net, [*entry.files]) == ("1.0", tuple(NET), ["mailer.py"])
    with kernel(tmp_path, lock) as running:
        assert state(running) == ("active", None)
        assert running.review("mailer").is_fine


def test_approval_that_is_not_remembered_lasts_until_the_kernel_closes(tmp_path: Path, write: Any, lock: Path) -> None:
    write("1.0", net=NET)
    for path in (None, lock):
        with kernel(tmp_path, path) as running:
            assert running.approve("mailer", remember=False).state == "active"
            running.stop("mailer")
            assert running.start("mailer").state == "active"
        assert not lock.exists()
        with kernel(tmp_path, path) as running:
            assert state(running) == ("held", "MK0412")


def test_a_new_version_that_asks_for_more_is_held_with_the_difference(tmp_path: Path, write: Any, lock: Path) -> None:
    write("1.0", net=NET, call=["billing.total"])
    with kernel(tmp_path, lock) as running:
        running.approve("mailer")
    write("2.0", net=[*NET, "evil.example.com:443"])
    with kernel(tmp_path, lock) as running:
        assert state(running) == ("held", "MK0412")
        diff = running.info("mailer").error_fields["diff"]
        assert diff == "+ net evil.example.com:443, - call billing.total"
        review = running.review("mailer")
        assert (review.approved_version, review.version) == ("1.0", "2.0")
        assert running.approve("mailer").state == "active"


def test_new_version_that_asks_for_no_more_runs_and_updates_the_lock(tmp_path: Path, write: Any, lock: Path) -> None:
    write("1.0", net=NET, call=["billing.total"])
    with kernel(tmp_path, lock) as running:
        running.approve("mailer")
    write("1.1", code=CODE + "\n# better\n", net=NET)
    with kernel(tmp_path, lock) as running:
        assert state(running) == ("active", None)
        assert running.info("mailer").permissions == {"net": NET}
    assert LockFile(str(lock)).read()["mailer"].version == "1.1"
    write("1.1", code=CODE + "\n# worse\n", net=NET)
    with kernel(tmp_path, lock) as running:
        assert state(running) == ("held", "MK0413")


def test_a_changed_file_under_the_same_version_is_held_and_named(tmp_path: Path, lock: Path) -> None:
    plugin = tmp_path / "plugins" / "mailer"
    plugin.mkdir(parents=True)
    (plugin / "plugin.toml").write_text(f'version = "1.0"\n[permissions]\nnet = {NET}\n', encoding="utf-8")
    (plugin / "__init__.py").write_text(CODE, encoding="utf-8")
    (plugin / "words.txt").write_text("hello", encoding="utf-8")
    with kernel(tmp_path, lock) as running:
        running.approve("mailer")
    (plugin / "words.txt").write_text("hullo", encoding="utf-8")
    with kernel(tmp_path, lock) as running:
        assert state(running) == ("held", "MK0413")
        assert running.info("mailer").error == (
            "MK0413 the files of 1.0 are not the approved ones: words.txt      mk approve mailer"
        )
        assert running.approve("mailer").state == "active"
    with kernel(tmp_path, lock) as running:
        assert state(running) == ("active", None)


def test_plugin_granted_by_name_may_change_its_files(tmp_path: Path, write: Any, lock: Path) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path, lock, grants={"mailer": "declared"}) as running:
        write("1.0", code=CODE + "\n# edited\n", net=NET)
        assert running.reload("mailer").generation == 2


def test_approve_is_refused_if_the_plugin_changed_after_the_review(tmp_path: Path, write: Any, lock: Path) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path, lock) as running:
        shown = running.review("mailer").digest
        write("1.0", net=[*NET, "evil.example.com:443"])
        with pytest.raises(PluginHeld) as caught:
            running.core.approvals.approve("mailer", shown)
        assert caught.value.id == "MK0415"
        assert state(running)[0] == "held"
    assert not lock.exists()


def test_start_of_a_held_plugin_reviews_it_again(tmp_path: Path, write: Any) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path) as running:
        write("1.1")
        assert running.start("mailer").state == "active"
        write("1.2", net=NET)
        running.stop("mailer")
        with pytest.raises(PluginHeld):
            running.start("mailer")
        assert state(running) == ("held", "MK0412")


def test_plugin_loaded_later_is_held_and_can_be_approved(tmp_path: Path, write: Any) -> None:
    path = write("1.0", net=NET).rename(tmp_path / "mailer.py")
    with kernel(tmp_path) as running:
        with pytest.raises(PluginHeld):
            running.load(path)
        assert running.approve("mailer").state == "active"


# Reload


@pytest.mark.parametrize(("version", "net", "id"), [("2.0", [*NET, "b:2"], "MK0412"), ("1.0", NET, "MK0413")])
def test_reload_that_asks_for_more_is_refused_and_the_old_version_continues(
    tmp_path: Path, write: Any, lock: Path, version: str, net: list[str], id: str
) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path, lock) as running:
        pid = running.approve("mailer").pid
        write(version, code=CODE.replace('"sent"', '"sent it"'), net=net)
        with pytest.raises(ReloadFailed) as caught:
            running.reload("mailer")
        report = caught.value.fields["report"]
        assert (report.error.id, report.generation, type(report.error)) == (id, 1, PluginHeld)
        assert (running.call("mailer.send"), running.info("mailer").pid) == ("sent", pid)
        assert running.approve("mailer").generation == 2
        assert running.call("mailer.send") == "sent it"


def test_rollback_needs_no_approval(tmp_path: Path, write: Any, lock: Path) -> None:
    """The version that was approved last fails: the one before it, which ran, comes back."""
    write("1.0", net=NET)
    with kernel(tmp_path, lock) as running:
        running.approve("mailer")
        write("2.0", code=CODE.replace("def start(self):", "def start(self):\n        1 / 0"), net=["other:1"])
        with pytest.raises(ReloadFailed):
            running.approve("mailer")
        assert running.call("mailer.send") == "sent"
        assert running.info("mailer").permissions == {"net": NET}


def test_restart_after_a_crash_ignores_changed_files(tmp_path: Path, write: Any, lock: Path) -> None:
    code = CODE + "    @expose\n    def crash(self):\n        import os\n        os._exit(3)\n"
    write("1.0", code=code.replace("EMIT = ", ""), net=NET)
    with kernel(tmp_path, lock) as running:
        running.approve("mailer")
        write("2.0", net=[*NET, "b:2"])
        with pytest.raises(KernelError):
            running.call("mailer.crash")
        assert running.call("mailer.send", timeout=20.0) == "sent"


# A lock that cannot be used


def test_broken_lock_is_reported_at_open_and_left_unchanged(tmp_path: Path, write: Any, lock: Path) -> None:
    write("1.0", net=NET)
    lock.write_text("<<<<<<< HEAD\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="MK0414"), kernel(tmp_path, lock):
        pass
    assert lock.read_text("utf-8") == "<<<<<<< HEAD\n"


def test_lock_that_breaks_later_holds_plugins_and_is_not_overwritten(tmp_path: Path, write: Any, lock: Path) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path, lock) as running:
        lock.write_text("<<<<<<< HEAD\n", encoding="utf-8")
        with pytest.raises(PluginHeld):
            running.start("mailer")
        assert state(running) == ("held", "MK0414")
        with pytest.raises(ConfigError):
            running.approve("mailer")
        assert lock.read_text("utf-8") == "<<<<<<< HEAD\n"
        lock.unlink()
        assert running.approve("mailer").state == "active"


def test_lock_that_cannot_be_updated_is_reported_and_the_plugin_runs(
    tmp_path: Path, write: Any, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path, lock) as running:
        running.approve("mailer")
    write("1.1", net=NET)

    def keep(*_: object) -> None:
        raise ConfigError("MK0414", path="microkernel.lock", reason="it cannot be written")

    monkeypatch.setattr(LockFile, "keep", keep)
    with kernel(tmp_path, lock) as running:
        assert state(running) == ("active", None)
        write("1.1", code=CODE + "# more\n", net=NET)
        with pytest.raises(ReloadFailed, match="MK0413"):
            running.reload("mailer")


def test_an_embedded_kernel_reads_no_lock(
    tmp_path: Path, write: Any, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("1.0", net=NET)
    with kernel(tmp_path, lock) as running:
        running.approve("mailer")
    monkeypatch.chdir(tmp_path)
    with kernel(tmp_path) as running:
        assert state(running) == ("held", "MK0412")


def test_grants_for_a_missing_plugin_are_reported(tmp_path: Path, write: Any, caplog: pytest.LogCaptureFixture) -> None:
    write("1.0")
    given = {"mailre": "declared", "mailer": "declared"}
    with caplog.at_level("WARNING", "microkernel"), kernel(tmp_path, grants=given):
        said = [line.getMessage() for line in caplog.records if "MK0712" in line.getMessage()]
    assert said == ["mailre  MK0712 configured in Kernel(grants=...) but not found; did you mean 'mailer'?"]


def test_grants_for_plugins_loaded_later_are_not_reported(
    tmp_path: Path, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = write("1.0")
    with caplog.at_level("WARNING", "microkernel"), Kernel(isolation="sandbox", grants={"mailer": {}}) as running:
        assert running.load(path).state == "active"
    assert "MK0712" not in caplog.text


# What was approved does not leave its level by itself


def at(level: str, name: str = "mailer") -> str:
    lines = ["/// script", "[tool.microkernel]", f'name = "{name}"', f'isolation = "{level}"', "///"]
    return "".join(f"# {line}\n" for line in lines) + CODE


@pytest.mark.parametrize("name", ["mailer", "other"])
def test_manifest_cannot_move_an_approved_plugin_out_of_the_sandbox(
    tmp_path: Path, write: Any, lock: Path, name: str
) -> None:
    path = write("1.0")
    path.write_text(at("sandbox").replace("# ///\n", "# [tool.microkernel.permissions]\n# call = ['a.b']\n# ///\n", 1))
    with Kernel(tmp_path / "plugins", lock=lock) as running:
        assert state(running) == ("held", "MK0412")
        assert running.approve("mailer").state == "active"
    path.write_text(at("process", name))
    with Kernel(tmp_path / "plugins", lock=lock) as running:
        assert (running.info(name).state, running.info(name).error_id) == ("failed", "MK0134")
        assert "approved at a confined level" in str(running.info(name).error)
    config = KernelConfig(plugin={name: {"isolation": "process"}})
    with Kernel(tmp_path / "plugins", config, lock=lock) as running:
        assert running.info(name).isolation == "process"
        assert running.info(name).state == "active"


def test_no_manifest_gets_less_than_the_level_that_the_operator_chose_for_all(tmp_path: Path, write: Any) -> None:
    write("1.0").write_text(at("process"))
    with Kernel(tmp_path / "plugins", KernelConfig(isolation="sandbox")) as running:
        assert running.info("mailer").isolation == "sandbox"
        assert running.info("mailer").state == "active"
