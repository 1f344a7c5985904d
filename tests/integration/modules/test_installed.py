"""Installed plugins: editable, in namespace packages, in a wheel on ``sys.path``."""

from __future__ import annotations

import importlib
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from microkernel import Kernel

PLUGIN = """
import importlib.resources, pathlib
from microkernel import IPlugin, expose
from .helper import X

class Plugin(IPlugin):
    def start(self): pass
    @expose
    def look(self) -> list:
        data = importlib.resources.files(__package__).joinpath("data.txt").read_text()
        return [X, data, pathlib.Path(__file__).name, __name__]
    def stop(self): pass
"""
FILES = {"__init__.py": PLUGIN, "helper.py": "X = 7", "data.txt": "the data"}
LEVELS = ["thread", "process", "sandbox", "wasm"]


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text))


def metadata(module: str) -> dict[str, str]:
    info = "mk_installed-1.5.dist-info"
    return {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: mk-installed\nVersion: 1.5\n",
        f"{info}/entry_points.txt": f"[microkernel.plugins]\ninstalled = {module}\n",
    }


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path``; restores ``sys.meta_path``."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before, hooks = list(sys.meta_path), list(sys.path_hooks)
    yield folder
    sys.meta_path[:], sys.path_hooks[:] = before, hooks
    importlib.invalidate_caches()


def looked(level: str) -> list[object]:
    """Return the plugin's values, before and after a reload."""
    with Kernel("entry-point:installed", isolation=level) as kernel:  # type: ignore[arg-type]
        info = kernel.info("installed")
        assert info.state == "active", info.error
        assert info.version == "1.5"
        first = kernel.call("installed.look", timeout=30)
        kernel.reload("installed")
        assert kernel.call("installed.look", timeout=30) == first
    return list(first)


@pytest.mark.parametrize("level", LEVELS)
def test_an_editable_install_by_a_pth_file(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    write(tmp_path / "src" / "mkinst", FILES)
    write(site, metadata("mkinst"))
    monkeypatch.syspath_prepend(tmp_path / "src")  # as the .pth file does
    assert looked(level) == [7, "the data", "__init__.py", "mkplugin.installed"]


FINDER = """
import sys
from importlib.util import spec_from_file_location
from pathlib import Path
MAPPING = {mapping!r}

class _EditableFinder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname not in MAPPING:
            return None
        place = Path(MAPPING[fullname])
        for candidate in (place / "__init__.py", place.with_suffix(".py")):
            if candidate.exists():
                return spec_from_file_location(fullname, candidate)

def install():
    sys.meta_path.append(_EditableFinder)
"""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("module", ["mkinst", "mkinst.inner", "mkspace.tools.inst"])
def test_an_editable_install_by_a_finder(site: Path, tmp_path: Path, level: str, module: str) -> None:
    """As setuptools creates it."""
    place = tmp_path / "src" / "mkinst"
    if module != "mkinst.inner":
        write(tmp_path / "src" / "mkinst", FILES)
    else:
        write(
            tmp_path / "src" / "mkinst", {"__init__.py": "", **{f"inner/{path}": text for path, text in FILES.items()}}
        )
    write(site, metadata(module))
    write(site, {"__editable___mkinst_finder.py": FINDER.format(mapping={module.removesuffix(".inner"): str(place)})})
    importlib.import_module("__editable___mkinst_finder").install()  # as the .pth file does
    del sys.modules["__editable___mkinst_finder"]
    name = "mkplugin.installed.inner" if module == "mkinst.inner" else "mkplugin.installed"
    assert looked(level) == [7, "the data", "__init__.py", name]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("module", ["mkspace.tools.inst", "mkspace.inst"])
def test_an_entry_point_in_a_namespace_package(site: Path, level: str, module: str) -> None:
    write(site / module.replace(".", "/"), FILES)
    write(site, metadata(module))
    assert looked(level) == [7, "the data", "__init__.py", "mkplugin.installed"]


def test_a_single_module_in_a_namespace_package(site: Path) -> None:
    single = PLUGIN.replace("from .helper import X", "X = 7").replace(
        "importlib.resources.files(__package__)", "pathlib.Path(__file__).parent"
    )
    write(site / "mkspace", {"inst.py": single, "data.txt": "the data"})
    write(site, metadata("mkspace.inst"))
    assert looked("process") == [7, "the data", "inst.py", "mkplugin.installed"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_wheel_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    wheel = tmp_path / "wheels" / "mk_installed-1.5-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as content:
        for path, text in {**{f"mkinst/{name}": text for name, text in FILES.items()}, **metadata("mkinst")}.items():
            content.writestr(path, text)
    monkeypatch.syspath_prepend(wheel)
    assert looked(level) == [7, "the data", "__init__.py", "mkplugin.installed"]


def test_a_single_module_of_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "mk_installed-1.5-py3-none-any.whl"
    single = PLUGIN.replace("from .helper import X", "X = 7").replace(
        'importlib.resources.files(__package__).joinpath("data.txt").read_text()', "'no data'"
    )
    header = "# /// script\n# [tool.microkernel]\n# description = 'from a wheel'\n# ///\n"
    with zipfile.ZipFile(wheel, "w") as content:
        for path, text in {"mkinst.py": header + single, **metadata("mkinst")}.items():
            content.writestr(path, text)
    monkeypatch.syspath_prepend(wheel)
    assert looked("process") == [7, "no data", "mkinst.py", "mkplugin.installed"]


def test_an_entry_point_that_is_a_namespace_alone_has_no_code(site: Path) -> None:
    write(site / "mkspace" / "inst", {"data.txt": ""})
    write(site, metadata("mkspace.inst"))
    with Kernel("entry-point:installed") as kernel:
        assert "MK0101" in str(kernel.info("installed").error)
