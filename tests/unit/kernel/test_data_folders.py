"""Data folders are for the kernel's user alone, and no two projects share one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.errors import CallFailed, ConfigError
from microkernel.kernel.manifest import Level
from microkernel.testing import harness
from microkernel.wire.data_folder import claim_around

KEEPER = harness.plugin(
    """
    @expose
    def keep(self) -> str:
        (self.api.data_dir / "kept").write_text("x")
        return str(self.api.data_dir)
    """
)
LEVELS: list[Level] = ["thread", "process", "sandbox"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "microkernel"


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def project(folder: Path, name: str = "keeper") -> Path:
    """Its folder of plugins."""
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / f"{name}.py").write_text(KEEPER)
    return folder / "plugins"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def private(path: Path) -> bool:
    """For the kernel's user alone; and for root's group, which a confined worker of root's asks as."""
    return not mode(path) & (0o007 if os.geteuid() == 0 else 0o077)


@pytest.mark.parametrize("level", LEVELS)
def test_data_folders_are_private_to_the_user(tmp_path: Path, state: Path, level: Level) -> None:
    with Kernel(project(tmp_path / "shop"), isolation=level) as kernel:
        folder = Path(kernel.call("keeper.keep"))
    assert folder == state / "shop" / "keeper"
    assert private(folder)
    assert private(state / "shop")


@pytest.mark.parametrize("level", LEVELS)
def test_existing_folders_in_a_configured_place_become_private(tmp_path: Path, level: Level) -> None:
    (tmp_path / "data" / "keeper").mkdir(parents=True, mode=0o755)
    config = KernelConfig(data_dir=tmp_path / "data")
    with Kernel(project(tmp_path / "shop"), config, isolation=level) as kernel:
        folder = Path(kernel.call("keeper.keep"))
    assert folder == tmp_path / "data" / "keeper"
    assert private(folder)
    assert not (tmp_path / "data" / "owner").exists()


@pytest.mark.parametrize(
    ("place", "name"), [("shop/plugins", "shop"), ("shop/plugins/keeper.py", "shop"), ("shop/more", "more")]
)
def test_a_kernel_is_named_after_its_project(tmp_path: Path, place: str, name: str) -> None:
    project(tmp_path / "shop")
    (tmp_path / "shop" / "more").mkdir()
    assert Kernel(tmp_path / place).name == name


def test_project_is_the_folder_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path / "shop")
    (tmp_path / "shop" / "microkernel.toml").write_text('plugins = ["plugins"]\n')
    assert Kernel(config=tmp_path / "shop" / "microkernel.toml").name == "shop"
    monkeypatch.chdir(tmp_path / "shop")
    assert [Kernel(config="microkernel.toml").name, Kernel("plugins").name, Kernel().name] == ["shop"] * 3


@pytest.mark.parametrize("level", LEVELS)
def test_another_project_of_the_same_name_is_refused(tmp_path: Path, state: Path, level: Level) -> None:
    first, second = project(tmp_path / "a" / "shop"), project(tmp_path / "b" / "shop")
    with Kernel(first, isolation=level) as kernel:
        kernel.call("keeper.keep")
        assert (state / "shop" / "owner").read_text() == f"{tmp_path / 'a' / 'shop'}\n"
        with pytest.raises(ConfigError, match=r"MK0722 .*name=") as refused, Kernel(second, isolation=level):
            pass
    assert refused.value.owner == str(tmp_path / "a" / "shop")
    with pytest.raises(ConfigError), Kernel(second, isolation=level):
        pass
    for again in (Kernel(first, isolation=level), Kernel(second, name="other", isolation=level)):
        with again as kernel:
            kernel.call("keeper.keep")


def test_second_project_is_refused_if_both_started_without_data(tmp_path: Path) -> None:
    first, second = project(tmp_path / "a" / "shop"), project(tmp_path / "b" / "shop")
    with Kernel(first, isolation="thread") as one, Kernel(second, isolation="thread") as other:
        one.call("keeper.keep")
        with pytest.raises(CallFailed, match="MK0722"):
            other.call("keeper.keep")


def test_a_kernel_that_keeps_no_data_writes_nothing(tmp_path: Path, state: Path) -> None:
    with Kernel(project(tmp_path / "shop"), isolation="thread"):
        pass
    assert not state.exists()


def test_data_of_an_older_kernel_is_taken_over(tmp_path: Path, state: Path) -> None:
    (state / "shop" / "keeper").mkdir(parents=True)
    with Kernel(project(tmp_path / "a" / "shop"), isolation="thread"):
        pass
    assert (state / "shop" / "owner").read_text() == f"{tmp_path / 'a' / 'shop'}\n"
    assert not mode(state / "shop") & 0o007
    with pytest.raises(ConfigError), Kernel(project(tmp_path / "b" / "shop"), isolation="thread"):
        pass


def test_one_project_may_have_two_kernels(tmp_path: Path) -> None:
    place = project(tmp_path / "shop")
    with Kernel(place, isolation="thread") as one, Kernel(place, isolation="thread") as other:
        assert one.call("keeper.keep") == other.call("keeper.keep")


def load_billing(place: Path, level: Level) -> str:
    with Kernel(isolation=level) as kernel:
        kernel.load(place / "billing.py")
        return str(kernel.call("billing.keep"))


def open_billing(place: Path, level: Level) -> str:
    config = place.parent.parent / f"{place.parent.name}.toml"
    config.write_text(f'plugins = ["{place.parent.name}/plugins"]\n')
    with Kernel(config=config, isolation=level) as kernel:
        if (info := kernel.info("billing")).state == "failed":
            raise RuntimeError(info.error)
        return str(kernel.call("billing.keep"))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("way", [load_billing, open_billing])
def test_two_plugins_of_one_name_in_one_project_share_nothing(
    tmp_path: Path, state: Path, level: Level, way: Callable[[Path, Level], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = project(tmp_path / "one", "billing"), project(tmp_path / "other", "billing")
    folder = way(one, level)
    for _ in range(2):
        with pytest.raises(Exception, match=f"MK0725.*{one}/billing.py"):
            way(other, level)
    assert way(one, level) == folder
    (one / "billing.py").rename(one / "moved.txt")
    assert way(other, level) == folder  # the first has gone, so this is where it was moved to
    (one / "moved.txt").rename(one / "billing.py")
    with pytest.raises(Exception, match="MK0725"):
        way(one, level)
    (state / tmp_path.name / ".billing.place").unlink()
    assert way(one, level) == folder


def test_installed_plugin_keeps_its_data_across_environments(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "billing"
    for version in ("3.11", "3.12"):
        source = tmp_path / f"env{version}" / "lib" / "site-packages" / "billing" / "__init__.py"
        source.parent.mkdir(parents=True)
        source.write_text("")
        claim_around(str(folder), "/project", str(source))
    with pytest.raises(ConfigError, match="MK0725"):
        claim_around(str(folder), "/project", "/project/plugins/billing.py")


def test_project_is_identified_by_its_resolved_path(tmp_path: Path) -> None:
    place = project(tmp_path / "shop")
    (tmp_path / "link").symlink_to(place)
    for way in (place, tmp_path / "link", f"{place}/", place / ".." / "plugins"):
        with Kernel(way, name="shop", isolation="thread") as kernel:
            kernel.call("keeper.keep")


def test_a_plugin_may_be_called_owner(tmp_path: Path, state: Path) -> None:
    with Kernel(project(tmp_path / "shop", "owner"), isolation="thread") as kernel:
        assert Path(kernel.call("owner.keep")) == state / "shop" / "_owner"


def test_kernel_runs_without_a_usable_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    with Kernel(project(tmp_path / "shop"), isolation="thread") as kernel:
        assert kernel.info("keeper").state == "active"
