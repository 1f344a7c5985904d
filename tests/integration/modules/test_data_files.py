"""A plugin's own files: data, sources, listings and compiled modules behave at every level as in plain Python."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from microkernel.errors import PluginLoadError
from tests.security.attacks.support import Plugins

LEVELS = ["thread", "process", "sandbox", "wasm"]
HEAD = """
import importlib, importlib.resources, inspect, linecache, os, pathlib, sys
try:
    import pkgutil
except ImportError:
    pkgutil = None
from microkernel import IPlugin, expose
"""
READER = (
    HEAD
    + """
class Plugin(IPlugin):
    def start(self): pass
    @expose
    def look(self, how: str):
        return eval(how)
    def stop(self): pass
"""
)
WAYS = {
    "importlib.resources.files(__package__).joinpath('data.txt').read_text()": "the data",
    "importlib.resources.files(__package__ + '.sub').joinpath('deep.txt').read_text()": "deep",
    "importlib.resources.files(__package__ + '.only_data').joinpath('more.txt').read_text()": "more",
    "sorted(each.name for each in importlib.resources.files(__package__).iterdir() if each.is_file())": [
        "__init__.py",
        "data.txt",
        "helper.py",
    ],
    "pkgutil.get_data(__package__, 'data.txt').decode()": "the data",
    "pkgutil.get_data(__package__ + '.sub', 'deep.txt').decode()": "deep",
    "pkgutil.get_data(__package__, 'helper.py').decode()": "X = 7\n",
    "(pathlib.Path(__file__).parent / 'data.txt').read_text()": "the data",
    "pathlib.Path(__file__).name": "__init__.py",
    "pathlib.Path(os.path.join(__path__[0], 'sub', 'deep.txt')).read_text()": "deep",
    "[each.name for each in pkgutil.iter_modules(__path__)]": ["helper", "sub"],
    "[each.name for each in pkgutil.walk_packages(__path__, __package__ + '.')]": [
        "mkplugin.reader.helper",
        "mkplugin.reader.sub",
        "mkplugin.reader.sub.inner",
    ],
    "importlib.import_module(__package__ + '.helper').X": 7,
    "importlib.import_module('.sub.inner', __package__).X": 8,
    "importlib.reload(importlib.import_module(__package__ + '.helper')).X": 7,
    "inspect.getsource(importlib.import_module(__package__ + '.helper'))": "X = 7\n",
    "inspect.getsource(Plugin.stop).strip()": "def stop(self): pass",
    "linecache.getline(__file__, 7).strip()": "from microkernel import IPlugin, expose",
    "importlib.util.find_spec(__package__ + '.nothing') is None": True,
    "sys.modules[__name__].__spec__.loader.is_package(sys.modules[__name__].__spec__.name)": True,
}


def package(plugins: Plugins, name: str = "reader", source: str = READER) -> Path:
    folder = plugins.folder / name
    for inner in ("sub", "only_data"):
        (folder / inner).mkdir(parents=True)
    for path, text in {
        "__init__.py": source, "helper.py": "X = 7\n", "data.txt": "the data", "sub/__init__.py": "",
        "sub/inner.py": "X = 8", "sub/deep.txt": "deep", "only_data/more.txt": "more",
    }.items():  # fmt: skip
        (folder / path).write_text(text)
    return folder


@pytest.mark.parametrize("level", LEVELS)
def test_data_and_modules_of_a_package_are_found_as_in_plain_python(plugins: Plugins, level: str) -> None:
    package(plugins)
    with plugins.kernel(level) as kernel:
        assert kernel.info("reader").state == "active", kernel.info("reader").error
        lists = kernel.call("reader.look", "pkgutil is not None", timeout=30)
        assert lists or level == "wasm"
        ways = {way: value for way, value in WAYS.items() if lists or "pkgutil" not in way}
        got = {way: kernel.call("reader.look", way, timeout=30) for way in ways}
    assert got == ways


@pytest.mark.parametrize("level", LEVELS)
def test_a_single_file_may_read_itself_and_no_other_plugin(plugins: Plugins, level: str) -> None:
    plugins.raw("single", READER)
    plugins.raw("_other", "secret")
    with plugins.kernel(level) as kernel:
        assert kernel.call("single.look", "pathlib.Path(__file__).read_text()") == READER
        assert kernel.call("single.look", "inspect.getsource(Plugin.stop).strip()") == "def stop(self): pass"
        if level in ("sandbox", "wasm"):
            with pytest.raises(Exception, match=r"PermissionError|FileNotFoundError|OSError"):
                kernel.call("single.look", "(pathlib.Path(__file__).parent / '_other.py').read_text()")


@pytest.mark.parametrize("level", LEVELS)
def test_files_beside_plugin_py_are_read(plugins: Plugins, level: str) -> None:
    folder = plugins.folder / "beside"
    folder.mkdir()
    for path, text in {"plugin.py": READER, "plugin.toml": "", "data.txt": "the data", "helper.py": "X = 7"}.items():
        (folder / path).write_text(text)
    with plugins.kernel(level) as kernel:
        assert kernel.call("beside.look", "(pathlib.Path(__file__).parent / 'data.txt').read_text()") == "the data"
        if level != "wasm":
            assert kernel.call("beside.look", "pkgutil.get_data(__name__, 'data.txt').decode()") == "the data"
        files = "importlib.resources.files(__package__).joinpath('data.txt').read_text()"
        assert kernel.call("beside.look", files) == "the data"


def test_at_wasm_grants_around_a_plugin_are_unchanged(plugins: Plugins, tmp_path: Path) -> None:
    granted = plugins.folder / "notes.txt"
    granted.write_text("a note")
    header = f"# /// script\n# [tool.microkernel.permissions]\n# 'fs.read' = ['{plugins.folder}']\n# ///\n"
    plugins.raw("single", header + READER)
    with plugins.kernel("wasm", grants={"single": {"fs.read": [str(plugins.folder)]}}) as kernel:
        way = "(pathlib.Path(__file__).parent / 'notes.txt').read_text()"
        assert kernel.call("single.look", way, timeout=30) == "a note"


@pytest.mark.parametrize("level", ["thread", "process", "sandbox"])
def test_runpy_runs_a_module_of_the_plugin(plugins: Plugins, level: str) -> None:
    (package(plugins) / "tool.py").write_text("RESULT = [__name__, __package__]")
    with plugins.kernel(level) as kernel:
        run = "__import__('runpy').run_module(__package__ + '.tool', run_name='__main__')['RESULT']"
        assert kernel.call("reader.look", run) == ["__main__", "mkplugin.reader"]


def test_references_survive_the_addition_of_a_second_file(plugins: Plugins) -> None:
    folder = plugins.folder / "grows"
    folder.mkdir()
    (folder / "plugin.toml").write_text("")
    (folder / "plugin.py").write_text(READER + "\nsettings = 1\nclass Order: pass")
    by_name = "[getattr(importlib.import_module(name), 'Order') is Order for name in (__name__, 'mkplugin.grows')]"
    with plugins.kernel("process") as kernel:
        assert kernel.call("grows.look", f"[__name__, {by_name}]") == ["mkplugin.grows.plugin", [True, True]]
        (folder / "settings.py").write_text("N = 2")
        kernel.reload("grows")
        assert kernel.call("grows.look", f"[__name__, {by_name}]") == ["mkplugin.grows.plugin", [True, True]]
        assert kernel.call("grows.look", "importlib.import_module('.settings', __package__).N") == 2


EXTENSION = next(Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("_queue.*.so"), None)


@pytest.mark.skipif(EXTENSION is None, reason="this Python has its extensions built in")
@pytest.mark.parametrize("level", ["thread", "process", "sandbox"])
@pytest.mark.parametrize("shape", ["package", "folder"])
def test_a_compiled_module_beside_the_sources_is_imported(plugins: Plugins, level: str, shape: str) -> None:
    statement = {"package": "from . import _queue as q", "folder": "import _queue as q"}[shape]
    source = READER.replace("class Plugin", f"{statement}\nclass Plugin")
    folder = plugins.folder / "compiled"
    (folder / "sub").mkdir(parents=True)
    (folder / "plugin.toml").write_text("")
    (folder / {"package": "__init__.py", "folder": "plugin.py"}[shape]).write_text(source)
    assert EXTENSION is not None
    shutil.copy(EXTENSION, folder)
    shutil.copy(EXTENSION, folder / "sub")
    with plugins.kernel(level) as kernel:
        assert kernel.info("compiled").state == "active", kernel.info("compiled").error
        assert kernel.call("compiled.look", "q.SimpleQueue().qsize()") == 0
        assert str(folder) in kernel.call("compiled.look", "q.__file__")
        assert kernel.call("compiled.look", "importlib.import_module('.sub._queue', __package__).__file__")
        if shape == "package":
            assert "_queue" in kernel.call("compiled.look", "[each.name for each in pkgutil.iter_modules(__path__)]")
        kernel.reload("compiled")
        assert kernel.call("compiled.look", "q.SimpleQueue().qsize()") == 0


# Links


@pytest.mark.parametrize("level", LEVELS)
def test_a_linked_folder_inside_the_plugin_is_imported(plugins: Plugins, level: str) -> None:
    folder = package(plugins, source=READER + "\nfrom .linked.inner import X\nfrom .linked import inner\n")
    (folder / "linked").symlink_to("sub")
    (folder / "sub" / "up").symlink_to("..")
    with plugins.kernel(level) as kernel:
        assert kernel.info("reader").state == "active", kernel.info("reader").error
        assert kernel.call("reader.look", "[X, inner.__name__]", timeout=30) == [8, "mkplugin.reader.linked.inner"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_linked_folder_outside_the_plugin_is_imported_or_refused_by_its_path(
    plugins: Plugins, level: str, tmp_path: Path
) -> None:
    folder = package(plugins, source=READER + "\nfrom .linked.shared import X\n")
    (tmp_path / "lib" / "deep").mkdir(parents=True)
    (tmp_path / "lib" / "shared.py").write_text("from .deep.more import X")
    (tmp_path / "lib" / "deep" / "more.py").write_text("X = 9")
    (folder / "linked").symlink_to(tmp_path / "lib")
    with plugins.kernel(level) as kernel:
        if level in ("thread", "process"):
            assert kernel.call("reader.look", "X") == 9
        else:
            error = kernel.info("reader").error
            assert error is not None
            assert "MK0137" in str(error)
            assert "linked" in str(error)
            assert str(tmp_path / "lib") in str(error)


def test_a_change_behind_a_link_is_a_change_of_the_plugin(plugins: Plugins, tmp_path: Path) -> None:
    from microkernel.loader.discovery import find
    from microkernel.loader.snapshot import snapshot

    folder = package(plugins)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "shared.py").write_text("X = 9")
    (folder / "linked").symlink_to(tmp_path / "lib")
    before = snapshot(find(str(folder)), ()).digest
    (tmp_path / "lib" / "shared.py").write_text("X = 10")
    assert snapshot(find(str(folder)), ()).digest != before


def test_a_link_to_too_much_is_refused_with_its_path(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from microkernel.loader.discovery import find
    from microkernel.loader.snapshot import snapshot

    monkeypatch.setattr("microkernel.loader.links._MOST", 3)
    folder = package(plugins)
    (tmp_path / "lib").mkdir()
    for number in range(5):
        (tmp_path / "lib" / f"m{number}.py").write_text("")
    (folder / "linked").symlink_to(tmp_path / "lib")
    with pytest.raises(PluginLoadError, match=r"MK0102.*linked"):
        snapshot(find(str(folder)), ())


# Names of libraries


@pytest.mark.parametrize("level", ["thread", "process", "sandbox"])
@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("import libmk\nX = libmk.X", "library"),
        ("from libmk import X", "library"),
        ("import libmk.part\nX = libmk.part.X", "part of the library"),
        ("from libmk.part import X", "part of the library"),
        ("from . import helper\nX = helper.X", 7),
        ("from libmk.helper import X", 7),
        ("from libmk import helper\nX = helper.X", 7),
    ],
)
def test_a_package_called_like_a_library_can_import_the_library(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, statement: str, value: object
) -> None:
    library = tmp_path / "site" / "libmk"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("X = 'library'")
    (library / "part.py").write_text("X = 'part of the library'")
    if level == "sandbox":
        pytest.skip("a worker there has the interpreter's own path")
    monkeypatch.syspath_prepend(tmp_path / "site")
    package(plugins, "libmk", READER + "\n" + statement)
    with plugins.kernel(level) as kernel:
        assert kernel.info("libmk").state == "active", kernel.info("libmk").error
        assert kernel.call("libmk.look", "X") == value


# As plain Python

PLAIN = {
    "circular imports": {
        "__init__.py": "from . import one\nRESULT = [one.two.one is one, one.N, one.two.N]",
        "one.py": "from . import two\nN = 1",
        "two.py": "from . import one\nN = 2",
    },
    "a registry of subclasses": {
        "__init__.py": "from . import base\nfrom . import kinds\nRESULT = sorted(base.KNOWN)",
        "base.py": "KNOWN = []\nclass Base:\n    def __init_subclass__(cls): KNOWN.append(cls.__name__)",
        "kinds.py": "from .base import Base\nclass A(Base): pass\nclass B(Base): pass",
    },
    "a helper that is reloaded": {
        "__init__.py": "import importlib\nfrom . import helper\nhelper.N = 0\nimportlib.reload(helper)\n"
        "RESULT = [helper.N, helper.COUNT]",
        "helper.py": "N = 1\nCOUNT = globals().get('COUNT', 0) + 1",
    },
    "no main guard runs": {"__init__.py": "RESULT = [__name__ == '__main__']\nif __name__ == '__main__': 1 / 0"},
    "an import that fails is tried again": {
        "__init__.py": "RESULT = []\nfor _ in range(2):\n    try: from . import bad\n"
        "    except ZeroDivisionError as e: RESULT.append(str(e))",
        "bad.py": "1 / 0",
    },
    "all names of a package": {
        "__init__.py": "from .sub import *\nRESULT = [deep.N]",
        "sub/__init__.py": "__all__ = ['deep']",
        "sub/deep.py": "N = 5",
    },
    "a name in the package wins over its module": {
        "__init__.py": "from .sub import thing\nRESULT = [thing]",
        "sub/__init__.py": "thing = 'a value'",
        "sub/thing.py": "",
    },
    "a missing module is named as the plugin knows it": {
        "__init__.py": "try: from . import nothing\nexcept ImportError as e: RESULT = [str(e).split(' (')[0]]\n"
        "try: from .nothing import x\nexcept ImportError as e: RESULT += [e.name]",
    },
    "beyond the top": {
        "__init__.py": "RESULT = []\ntry: from .. import other\nexcept ImportError as e: RESULT = ['refused']",
    },
}
EXPECTED = {
    "circular imports": [True, 1, 2], "a registry of subclasses": ["A", "B"], "a helper that is reloaded": [1, 2],
    "no main guard runs": [False], "an import that fails is tried again": ["division by zero"] * 2,
    "all names of a package": [5], "a name in the package wins over its module": ["a value"],
    "a missing module is named as the plugin knows it": [
        "cannot import name 'nothing' from partially initialized module 'mkplugin.plain'", "mkplugin.plain.nothing",
    ],
    "beyond the top": ["refused"],
}  # fmt: skip


@pytest.mark.parametrize("level", ["thread", "process"])
@pytest.mark.parametrize("case", PLAIN)
def test_imports_behave_as_in_plain_python(plugins: Plugins, level: str, case: str) -> None:
    for path, text in PLAIN[case].items():
        file = plugins.folder / "plain" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + (READER if path == "__init__.py" else ""))
    plugins.raw("other", READER)
    with plugins.kernel(level) as kernel:
        assert kernel.info("plain").state == "active", kernel.info("plain").error
        assert kernel.call("plain.look", "RESULT") == EXPECTED[case]
        kernel.reload("plain")
        assert kernel.call("plain.look", "RESULT") == EXPECTED[case]
