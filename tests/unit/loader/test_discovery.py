"""Finding plugins. A broken plugin does not affect the others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import ConfigError
from microkernel.kernel.ports import PluginCandidate
from microkernel.loader.discovery import discover, find, location

CODE = "class Plugin(IPlugin): ..."


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder


def make(path: Path, text: str = CODE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(*places: Path | str) -> list[str]:
    return [each.name for each in discover([str(place) for place in places])]


def only(*places: Path | str) -> PluginCandidate:
    [found] = discover([str(place) for place in places])
    return found


def error_id(found: PluginCandidate) -> str:
    assert found.error is not None
    return found.error.id


def test_files_and_packages_are_found_by_name(plugins: Path) -> None:
    make(plugins / "walker.py")
    make(plugins / "parser" / "__init__.py")
    make(plugins / "fetch" / "plugin.toml", "")
    make(plugins / "fetch" / "plugin.py")
    make(plugins / "mailer" / "pyproject.toml", "")
    make(plugins / "mailer" / "plugin.py")
    assert names(plugins) == ["fetch", "mailer", "parser", "walker"]


def test_a_found_plugin_has_its_full_path(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(plugins / "walker.py")
    monkeypatch.chdir(plugins.parent)
    assert only("plugins").path == str(plugins / "walker.py")


def test_hidden_and_private_files_are_not_plugins(plugins: Path) -> None:
    for name in ("_base.py", ".hidden.py", "__pycache__/x.py", ".git/__init__.py", "_lib/__init__.py"):
        make(plugins / name)
    assert names(plugins) == []


def test_a_data_folder_is_not_a_plugin(plugins: Path) -> None:
    make(plugins / "data" / "rates.csv", "")
    make(plugins / "tools" / "helper.py", "")
    make(plugins / "README.md", "")
    assert names(plugins) == []


def test_a_folder_that_says_it_is_a_plugin_and_has_no_code_is_an_error(plugins: Path) -> None:
    make(plugins / "hello" / "plugin.toml", "")
    assert error_id(only(plugins)) == "MK0101"


def test_one_file_or_one_package_may_be_a_place(plugins: Path) -> None:
    walker = make(plugins / "walker.py")
    make(plugins / "parser" / "__init__.py")
    make(plugins / "parser" / "helper.py")
    assert names(walker, plugins / "parser") == ["parser", "walker"]


def test_a_folder_of_plugins_may_have_an_init_file(plugins: Path) -> None:
    make(plugins / "__init__.py", "")
    make(plugins / "walker.py")
    assert names(plugins) == ["walker"]


def test_a_disabled_plugin_is_found(plugins: Path) -> None:
    make(plugins / "walker.py", "# /// script\n# [tool.microkernel]\n# enabled = false\n# ///\n")
    assert only(plugins).manifest.enabled is False


def test_of_two_with_one_name_the_first_place_wins(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a" / "walker.py"), make(tmp_path / "b" / "walker.py")
    kept, left_out = discover([str(first.parent), str(second.parent)])
    assert (kept.path, kept.error) == (str(first), None)
    assert (left_out.path, error_id(left_out)) == (str(second), "MK0107")


def test_a_plugin_found_twice_is_one_plugin(plugins: Path) -> None:
    walker = make(plugins / "walker.py")
    assert names(plugins, walker, plugins) == ["walker"]


def test_one_that_cannot_be_read_takes_no_name_away(tmp_path: Path) -> None:
    make(tmp_path / "b" / "walker.py")
    kept, broken = discover([str(tmp_path / "walker.py"), str(tmp_path / "b")])
    assert kept.error is None
    assert error_id(broken) == "MK0101"


def test_a_place_that_does_not_exist_is_an_error_of_its_own(tmp_path: Path) -> None:
    make(tmp_path / "walker.py")
    missing, walker = discover([str(tmp_path / "nothing"), str(tmp_path)])
    assert (missing.name, error_id(missing)) == ("nothing", "MK0101")
    assert walker.error is None


def test_a_link_that_leads_nowhere_is_an_error_of_its_own(plugins: Path) -> None:
    (plugins / "lost.py").symlink_to(plugins / "gone.py")
    found = only(plugins)
    assert (found.name, error_id(found)) == ("lost", "MK0102")
    assert "gone.py" in str(found.error)


def test_a_pipe_is_not_waited_for(plugins: Path) -> None:
    os.mkfifo(plugins / "pipe.py")
    assert error_id(only(plugins)) == "MK0102"


def test_a_binary_file_is_an_error_of_its_own(plugins: Path) -> None:
    (plugins / "blob.py").write_bytes(b"\x7fELF\xff\xfe")
    assert error_id(only(plugins)) == "MK0104"


def test_a_wrong_manifest_is_an_error_of_its_own(plugins: Path) -> None:
    make(plugins / "walker.py", "# /// script\n# x = 1\n# ///\n")
    make(plugins / "parser.py")
    parser, walker = discover([str(plugins)])
    assert parser.error is None
    assert error_id(walker) == "MK0109"


def test_a_bad_file_name_is_an_error_of_its_own(plugins: Path) -> None:
    make(plugins / "My-Plugin.py")
    found = only(plugins)
    assert (found.name, error_id(found)) == ("My-Plugin", "MK0108")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_an_error_of_its_own(plugins: Path) -> None:
    make(plugins / "walker.py").chmod(0)
    assert error_id(only(plugins)) == "MK0102"


def test_find_gives_an_error_where_nothing_is(tmp_path: Path) -> None:
    assert error_id(find(str(tmp_path / "gone.py"))) == "MK0101"


def test_find_takes_a_folder_with_code(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "plugin.py")
    assert (find(str(tmp_path / "hello")).name, find(str(tmp_path / "hello")).error) == ("hello", None)


def test_find_gives_an_error_for_a_folder_without_code(tmp_path: Path) -> None:
    assert error_id(find(str(tmp_path))) == "MK0101"


# Entry points


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages: a module, a package, a module in a package, and a missing one."""
    site = tmp_path / "site"
    make(site / "single_mk.py")
    make(site / "package_mk" / "__init__.py", "raise SystemExit('it ran')")
    make(site / "package_mk" / "inner" / "__init__.py", "raise SystemExit('it ran')")
    make(site / "package_mk" / "inner" / "part.py")
    make(
        site / "mk_test-1.5.dist-info" / "entry_points.txt",
        "[microkernel.plugins]\nsingle = single_mk\nwhole = package_mk\npart = package_mk.inner.part:Plugin\n"
        "gone = nothing_mk.here\n",
    )
    make(site / "mk_test-1.5.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: mk-test\nVersion: 1.5\n")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_entry_points_are_found_and_not_imported(site: Path) -> None:
    found = {each.name: each for each in discover(["entry-points"])}
    assert set(found) >= {"single", "whole", "part", "gone"}
    assert (found["whole"].error, found["part"].error) == (None, None)
    assert not {"package_mk", "single_mk"} & set(sys.modules)


def test_an_entry_point_has_the_version_of_its_distribution(site: Path) -> None:
    assert only("entry-point:single").manifest.version == "1.5"


@pytest.mark.parametrize(
    ("name", "place", "entry"),
    [
        ("single", "single_mk.py", ""),
        ("whole", "package_mk", "__init__.py"),
        ("part", "package_mk", "inner/part.py"),
    ],
)
def test_an_entry_point_leads_to_a_file(site: Path, name: str, place: str, entry: str) -> None:
    assert location(f"entry-point:{name}") == (str(site / place), entry)


def test_an_entry_point_is_found_again_by_its_path(site: Path) -> None:
    found = only("entry-point:whole")
    assert find(found.path) == found


@pytest.mark.parametrize("name", ["gone", "unheard-of"])
def test_an_entry_point_that_leads_nowhere_is_an_error_of_its_own(site: Path, name: str) -> None:
    found = only(f"entry-point:{name}")
    assert (found.name, error_id(found)) == (name, "MK0101")


def test_a_place_meant_from_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert error_id(only("plugins")) == "MK0101"
    with pytest.raises(ConfigError) as caught:
        Kernel("plugins")
    assert caught.value.text == "plugins: no such file or directory; to write a plugin: mk new NAME"
