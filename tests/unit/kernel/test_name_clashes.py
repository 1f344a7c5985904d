"""Which plugin gets a name that several plugins claim. The level is confined by name only."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import KernelError, PluginHeld
from microkernel.kernel.admission import name_clashes
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.manifest import Level, Manifest
from microkernel.kernel.ports import PluginCandidate
from tests.confined import pretend

NET = ["smtp.example.com:587"]


@pytest.fixture(autouse=True)
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


def write(file: Path, mark: str, name: str = "", version: str = "1.0", net: list[str] = NET) -> Path:
    """A plugin called mailer that says which file it is."""
    own = [f'name = "{name}"'] if name else []
    lines = ["[tool.microkernel]", f'version = "{version}"', *own, "[tool.microkernel.permissions]", f"net = {net!r}"]
    block = "".join(f"# {line}\n" for line in ("/// script", *lines, "///"))
    code = f"""
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def who(self): return {mark!r}
"""
    file.write_text(block + code, encoding="utf-8")
    return file


def kernel_of(plugins: Path, level: Level | None = "sandbox", config: KernelConfig | None = None) -> Kernel:
    return Kernel(plugins, config, isolation=level, lock=plugins.parent / "microkernel.lock")


def test_another_file_does_not_take_over_an_approval(plugins: Path) -> None:
    write(plugins / "mailer.py", "mailer")
    with kernel_of(plugins) as kernel:
        kernel.approve("mailer")
    write(plugins / "aaa.py", "thief", name="mailer")
    with kernel_of(plugins) as kernel:
        assert kernel.call("mailer.who") == "mailer"
        assert kernel.info("mailer").path == str(plugins / "mailer.py")
        assert [info.name for info in kernel.list()] == ["mailer"]


@pytest.mark.parametrize("net", [NET, []])
def test_other_plugin_under_an_approved_name_is_held(plugins: Path, net: list[str]) -> None:
    path = write(plugins / "mailer.py", "mailer")
    with kernel_of(plugins) as kernel:
        kernel.approve("mailer")
    path.unlink()
    write(plugins / "aaa.py", "thief", name="mailer", net=net)
    with kernel_of(plugins) as kernel:
        info = kernel.info("mailer")
        assert (info.state, info.error_id) == ("held", "MK0424")
        assert str(path) in str(info.error)
        assert kernel.review("mailer").approved_path == str(path)
        with pytest.raises(PluginHeld):
            kernel.start("mailer")
        assert kernel.approve("mailer").state == "active"  # the operator has seen both places
    with kernel_of(plugins) as kernel:
        assert kernel.call("mailer.who") == "thief"


@pytest.mark.parametrize("thief", ["sandbox", "process"])
def test_if_neither_is_approved_neither_runs(plugins: Path, thief: str) -> None:
    """Also where only one of the two is confined, whichever it is."""
    one, two = write(plugins / "mailer.py", "mailer", net=[]), write(plugins / "aaa.py", "thief", "mailer", net=[])
    for file, level in ((one, "process" if thief == "sandbox" else "sandbox"), (two, thief)):
        file.write_text(file.read_text().replace("# version", f"# isolation = '{level}'\n# version"), encoding="utf-8")
    with kernel_of(plugins, None) as kernel:
        info = kernel.info("mailer")
        assert (info.state, info.error_id, info.generation) == ("failed", "MK0155", 0)
        for attempt in (kernel.start, kernel.reload, kernel.approve):
            with pytest.raises(KernelError, match="MK0155"):
                attempt("mailer")
        two.unlink()
        assert kernel.start("mailer").state == "active"
        assert (kernel.call("mailer.who"), kernel.info("mailer").path) == ("mailer", str(one))


def test_plugin_starts_at_the_next_discovery_after_a_clash_ends(plugins: Path) -> None:
    write(plugins / "mailer.py", "mailer", net=[])
    thief = write(plugins / "aaa.py", "thief", "mailer", net=[])
    with kernel_of(plugins) as kernel:
        assert kernel.core.plugins.discover() == []
        assert kernel.info("mailer").state == "failed"
        thief.unlink()
        kernel.core.plugins.discover()
        assert kernel.call("mailer.who") == "mailer"


@pytest.mark.parametrize("level", ["sandbox", "process"])
def test_running_plugin_keeps_its_name_and_the_newcomer_is_refused(
    plugins: Path, level: Level, caplog: pytest.LogCaptureFixture
) -> None:
    write(plugins / "mailer.py", "mailer", net=[])
    with caplog.at_level("ERROR", "microkernel"), kernel_of(plugins, level) as kernel:
        thief = write(plugins / "aaa.py", "thief", name="mailer", net=[])
        kernel.core.plugins.discover()
        with pytest.raises(KernelError, match="MK0107"):
            kernel.load(thief)
        assert kernel.call("mailer.who") == "mailer"
        kernel.reload("mailer")
        kernel.stop("mailer")
        kernel.start("mailer")
        assert kernel.call("mailer.who") == "mailer"
    assert "MK0107" in caplog.text


def test_among_trusted_plugins_the_first_that_is_found_has_the_name(plugins: Path) -> None:
    write(plugins / "aaa.py", "first", "mailer", net=[])
    write(plugins / "mailer.py", "second", net=[])
    with kernel_of(plugins, "process") as kernel:
        assert kernel.call("mailer.who") == "first"


def test_excluded_plugin_does_not_claim_a_name(plugins: Path) -> None:
    write(plugins / "mailer.py", "mailer", net=[])
    other = write(plugins / "aaa.py", "thief", "mailer", net=[])
    other.write_text(other.read_text().replace("# version", "# enabled = false\n# version"), encoding="utf-8")
    with kernel_of(plugins, "process") as kernel:
        assert kernel.call("mailer.who") == "mailer"


@pytest.mark.parametrize(("pin", "state"), [("version", "active"), ("bytes", "held")])
def test_pinned_to_bytes_a_new_version_is_held_too(plugins: Path, pin: str, state: str) -> None:
    config = Kernel(config={"approvals": {"pin": pin}})._config
    path = write(plugins / "mailer.py", "one")
    with kernel_of(plugins, config=config) as kernel:
        kernel.approve("mailer")
    write(path, "two", version="2.0")
    with kernel_of(plugins, config=config) as kernel:
        assert kernel.info("mailer").state == state
        assert kernel.approve("mailer").state == "active"
    with kernel_of(plugins, config=config) as kernel:
        assert kernel.call("mailer.who") == "two"


def test_pinned_to_bytes_an_approval_compares_a_plugin_that_asks_for_nothing(plugins: Path) -> None:
    config = Kernel(config={"approvals": {"pin": "bytes"}})._config
    path = write(plugins / "mailer.py", "one", net=[])
    with kernel_of(plugins, config=config) as kernel:
        kernel.approve("mailer")
    write(path, "two", version="2.0", net=[])
    with kernel_of(plugins, config=config) as kernel:
        assert (kernel.info("mailer").state, kernel.info("mailer").error_id) == ("held", "MK0413")


def test_only_a_single_approved_owner_gets_a_clashing_name() -> None:
    found = [PluginCandidate("p", f"/{path}", Manifest("p")) for path in "abc"]

    def errors(*owners: str, confined: bool = True) -> list[tuple[str, str | None]]:
        settled = name_clashes.settle(found, lambda each: each.path in owners, lambda _: confined)
        return [(each.path, each.error and each.error.id) for each in settled]

    assert errors() == errors("/a", "/b") == [("/a", "MK0155"), ("/b", "MK0155"), ("/c", "MK0155")]
    assert errors(confined=False) == [("/a", None), ("/b", "MK0107"), ("/c", "MK0107")]
    assert errors("/b") == errors("/b", confined=False) == [("/b", None), ("/a", "MK0107"), ("/c", "MK0107")]
