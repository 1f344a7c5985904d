"""A file that was cut off while it was written takes no protection away; a weaker value that is written does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import ConfigError, KernelError, ReloadFailed
from microkernel.testing import harness

WHOLE = """\
plugins = ["plugins"]
data_dir = "data"

[plugin.a]
isolation = "process"
permissions = { emit = ["a.*"] }
[plugin.a.limits]
memory = "256MiB"
[plugin.a.config]
server = "x"
[plugin.off]
enabled = false
"""
BASE = 'isolation = "thread"\nmin_isolation = "thread"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "plugins").mkdir()
    for name in ("a", "b", "off"):
        (tmp_path / "plugins" / f"{name}.py").write_text(harness.plugin(""))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "microkernel.toml").write_text(text)


@pytest.fixture
def kernel(folder: Path) -> Iterator[Kernel]:
    write(folder, BASE + WHOLE)
    with Kernel(config="microkernel.toml") as running:
        yield running


def cuts() -> list[int]:
    """Wherever a line ends, and some places inside of one."""
    whole = BASE + WHOLE
    ends = [place for place, letter in enumerate(whole[: whole.index("[plugin.a.config]")], 1) if letter == "\n"]
    return [0, 1, 11, *ends, *(end + 5 for end in ends[:-1])]


def test_configuration_truncated_anywhere_changes_nothing(folder: Path, kernel: Kernel) -> None:
    pid = kernel.info("a").pid
    for place in cuts():
        write(folder, (BASE + WHOLE)[:place])
        with pytest.raises(ReloadFailed):
            kernel.reload("a")
        info = kernel.info("a")
        assert (place, info.isolation, info.pid, info.state) == (place, "process", pid, "active")
        with pytest.raises(ReloadFailed):
            kernel.reload("b")
    kernel.stop("a")
    write(folder, "")
    with pytest.raises(ConfigError, match=r"MK0721 microkernel.toml was not applied: it is empty"):
        kernel.start("a")
    assert kernel.info("a").error_id == "MK0721"
    write(folder, BASE + WHOLE)
    assert kernel.start("a").state == "active"


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (WHOLE.replace('isolation = "process"\n', ""), "a would fall from process to thread"),
        (WHOLE.replace('permissions = { emit = ["a.*"] }\n', ""), "it no longer names the permissions of a"),
        (WHOLE.replace('memory = "256MiB"\n', ""), "it no longer names limits.memory of a"),
        (WHOLE.replace("enabled = false\n", ""), "it no longer leaves out off"),
    ],
)
def test_refusal_names_the_removed_setting(folder: Path, kernel: Kernel, gone: str, reason: str) -> None:
    if "fall" in reason:
        gone = gone.replace('permissions = { emit = ["a.*"] }\n', "")
    write(folder, BASE + gone)
    with pytest.raises(ReloadFailed, match=f"microkernel.toml was not applied: {reason}; if that is meant, write "):
        kernel.reload("b")


WEAKER = """\
plugins = ["plugins"]
data_dir = "data"
[plugin.a]
isolation = "thread"
permissions = { emit = ["**"] }
limits = { memory = 0 }
[plugin.off]
enabled = true
"""


def test_explicit_weakening_is_applied(folder: Path, kernel: Kernel) -> None:
    write(folder, BASE + WEAKER)
    kernel.reload("a")
    assert kernel.info("a").isolation == "thread"


def test_explicit_lower_level_for_all_is_applied(folder: Path) -> None:
    write(folder, 'plugins = ["plugins"]\nisolation = "process"\nmin_isolation = "thread"\n')
    with Kernel(config="microkernel.toml") as kernel:
        write(folder, 'plugins = ["plugins"]\nmin_isolation = "thread"\nisolation = "thread"\n')
        kernel.reload("a")
        assert kernel.info("a").isolation == "thread"


def test_pinning_to_bytes_ends_only_explicitly(folder: Path) -> None:
    plain = 'plugins = ["plugins"]\n[approvals]\n'
    write(folder, plain + 'pin = "bytes"\n')
    with Kernel(config="microkernel.toml") as kernel:
        for lost in (plain, 'plugins = ["plugins"]\n'):
            write(folder, lost)
            with pytest.raises(ReloadFailed, match=r"it no longer names approvals.pin; if that is meant, write pin = "):
                kernel.reload("a")
            assert kernel.core.config.current().approvals.pin == "bytes"
        write(folder, plain + 'pin = "version"\n')
        kernel.reload("a")


def test_empty_configuration_may_stay_empty(folder: Path) -> None:
    write(folder, "")
    with Kernel("plugins", config="microkernel.toml") as kernel:
        kernel.reload("a")
        assert kernel.info("a").generation == 2


# Manifests


MANIFEST = 'isolation = "process"\n[permissions]\nemit = ["p.*"]\n[limits]\nmemory = "256MiB"\n'


@pytest.fixture
def plugin(folder: Path) -> Path:
    """A folder with a ``plugin.toml``."""
    place = folder / "more" / "p"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text(harness.plugin(""))
    (place / "plugin.toml").write_text(MANIFEST)
    return place


@pytest.fixture
def manifested(folder: Path, plugin: Path) -> Iterator[Kernel]:
    write(folder, BASE)
    with Kernel("more", config="microkernel.toml") as running:
        assert plugin.exists()
        yield running


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it would fall from process to thread"),
        (MANIFEST[MANIFEST.index("\n") + 1 :], "it would fall from process to thread"),
        (MANIFEST.replace("process", "thread"), "it would fall from process to thread"),
        (MANIFEST[: MANIFEST.index("[perm")], "its manifest no longer names its permissions"),
        (MANIFEST[:11], "MK0111"),
    ],
)
def test_weaker_manifest_is_refused(plugin: Path, manifested: Kernel, text: str, reason: str) -> None:
    (plugin / "plugin.toml").write_text(text)
    with pytest.raises(ReloadFailed, match=reason):
        manifested.reload("p")
    assert (manifested.info("p").isolation, manifested.info("p").generation) == ("process", 1)
    manifested.stop("p")
    with pytest.raises(KernelError, match=reason):
        manifested.start("p")


def test_operator_may_weaken_a_plugin_by_name(folder: Path, plugin: Path, manifested: Kernel) -> None:
    (plugin / "plugin.toml").write_text("")
    write(folder, BASE + '[plugin.p]\nisolation = "thread"\npermissions = {}\nlimits = { memory = 0 }\n')
    manifested.reload("p")
    assert manifested.info("p").isolation == "thread"


def test_emptied_manifest_that_had_only_limits_is_refused(folder: Path, plugin: Path) -> None:
    (plugin / "plugin.toml").write_text('[limits]\nmemory = "256MiB"\n')
    with Kernel("more") as kernel:
        (plugin / "plugin.toml").write_text("")
        with pytest.raises(ReloadFailed, match="its manifest is empty, and named limits"):
            kernel.reload("p")
        (plugin / "plugin.toml").write_text('[limits]\nmemory = "512MiB"\n')
        assert kernel.reload("p").generation == 2


def test_removed_source_block_counts_as_a_weaker_manifest(folder: Path) -> None:
    source = folder / "plugins" / "a.py"
    source.write_text(harness.plugin("", manifest="permissions = {}"))
    with Kernel("plugins") as kernel:
        source.write_text(harness.plugin(""))
        with pytest.raises(ReloadFailed, match="its manifest no longer names its permissions"):
            kernel.reload("a")
