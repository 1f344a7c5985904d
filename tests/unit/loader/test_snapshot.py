"""Which files belong to a plugin's source, and what is refused before anything runs."""

from __future__ import annotations

import ast
import os
import sys
import warnings
from pathlib import Path
from textwrap import dedent

import pytest

from microkernel.errors import PluginLoadError
from microkernel.inspector.sources import parse
from microkernel.kernel.ports import Loader, Snapshot
from microkernel.loader import FileLoader, find, snapshot

CODE = "class Plugin(IPlugin): ...\n"


def make(path: Path, text: str = CODE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def taken(path: Path, *peers: str) -> Snapshot:
    found = find(str(path))
    assert found.error is None, found.error
    return snapshot(found, peers)


def refused(path: Path, *peers: str) -> PluginLoadError:
    with pytest.raises(PluginLoadError) as caught:
        taken(path, *peers)
    return caught.value


# What is taken


def test_a_file_is_itself_below_its_folder(tmp_path: Path) -> None:
    path = make(tmp_path / "hello.py")
    make(tmp_path / "other.py")
    snap = taken(path)
    expected = (str(tmp_path), "hello.py", False, {"hello.py": CODE.encode()})
    assert (snap.root, snap.entry, snap.package, snap.sources) == expected


def test_a_package_is_all_its_modules(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py")
    make(tmp_path / "hello" / "sub" / "deep.py", "")
    make(tmp_path / "hello" / "data.csv", "")
    snap = taken(tmp_path / "hello")
    assert (snap.root, snap.entry, snap.package) == (str(tmp_path / "hello"), "__init__.py", True)
    assert set(snap.sources) == {"__init__.py", "sub/deep.py"}


def test_a_folder_with_plugin_py_is_not_a_package(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "plugin.py")
    make(tmp_path / "hello" / "helper.py", "")
    snap = taken(tmp_path / "hello")
    assert (snap.entry, snap.package, set(snap.sources)) == ("plugin.py", False, {"plugin.py", "helper.py"})


def test_files_that_cannot_be_imported_are_not_compiled(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py")
    for name in ("build-it.py", ".venv/lib.py", "__pycache__/old.py"):
        make(tmp_path / "hello" / name, "no python")
    assert set(taken(tmp_path / "hello").sources) == {"__init__.py"}


@pytest.mark.parametrize("name", ["helper.py", "data.csv", "sub/plugin.toml", "build-it.py"])
def test_the_digest_knows_every_file(tmp_path: Path, name: str) -> None:
    make(tmp_path / "hello" / "__init__.py")
    before = taken(tmp_path / "hello").digest
    make(tmp_path / "hello" / name, "")
    added = taken(tmp_path / "hello").digest
    make(tmp_path / "hello" / name, "x = 1")
    changed = taken(tmp_path / "hello").digest
    assert len({before, added, changed}) == 3


def test_the_digest_ignores_files_that_python_writes(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py")
    before = taken(tmp_path / "hello").digest
    make(tmp_path / "hello" / "__pycache__" / "x.pyc", "")
    assert taken(tmp_path / "hello").digest == before


def test_the_digest_is_the_same_wherever_the_plugin_lies(tmp_path: Path) -> None:
    for place in ("a", "b"):
        make(tmp_path / place / "hello" / "__init__.py")
        make(tmp_path / place / "hello" / "x.py", "")
    assert taken(tmp_path / "a" / "hello").digest == taken(tmp_path / "b" / "hello").digest


def test_links_that_lead_nowhere_and_pipes_are_only_data(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py")
    (tmp_path / "hello" / ".#__init__.py").symlink_to("user@host.123")
    os.mkfifo(tmp_path / "hello" / "pipe")
    assert set(taken(tmp_path / "hello").sources) == {"__init__.py"}


def test_none_of_the_code_runs(tmp_path: Path) -> None:
    path = make(tmp_path / "hello.py", CODE + "raise SystemExit\n")
    assert taken(path).entry == "hello.py"
    assert "hello" not in sys.modules


def test_a_plugin_that_is_gone_by_now_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "hello.py")
    found = find(str(path))
    path.unlink()
    with pytest.raises(PluginLoadError, match="MK0101"):
        snapshot(found, ())


# Syntax


def test_bad_syntax_names_the_line_and_quotes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path / "plugins" / "report.py", CODE + "\n    \nclass Other:\n    def total(self)\n        pass\n")
    expected = "MK0103 plugins/report.py:5: invalid syntax: expected ':' in \"def total(self)\""
    assert str(refused(path)) == expected


def test_bad_syntax_in_any_module_is_found(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py")
    helper = make(tmp_path / "hello" / "helper.py", "x = = 1")
    error = refused(tmp_path / "hello")
    assert (error.id, error.path, error.line, error.reason) == ("MK0103", str(helper), 1, 'in "x = = 1"')


@pytest.mark.parametrize("code", ["return 1", "def f(a, a): ...", "nonlocal x", "def f():\n  x = 1\n global x; x = 2"])
def test_errors_found_by_the_compiler_are_syntax_errors(tmp_path: Path, code: str) -> None:
    assert refused(make(tmp_path / "hello.py", CODE + code)).id == "MK0103"


def test_code_that_nests_too_deep_is_refused(tmp_path: Path) -> None:
    assert refused(make(tmp_path / "hello.py", CODE + "x = " + "-" * 100_000 + "1")).id == "MK0103"


def test_a_null_byte_is_bad_syntax(tmp_path: Path) -> None:
    error = refused(make(tmp_path / "hello.py", CODE + "x = '\0'"))
    assert (error.id, error.line) == ("MK0103", 2)


def test_a_source_that_is_not_utf8_names_its_byte(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py")
    (tmp_path / "hello" / "helper.py").write_bytes(b"# coding: latin-1\n# \xe9")
    error = refused(tmp_path / "hello")
    assert (error.id, error.offset) == ("MK0104", 20)


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "hello.py"
    path.write_bytes(b"\xef\xbb\xbf" + CODE.encode())
    assert taken(path).entry == "hello.py"


def test_syntax_warnings_are_neither_errors_nor_printed(tmp_path: Path) -> None:
    path = make(tmp_path / "hello.py", CODE + "x = '\\d'\ny = 1 is 1\n")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        taken(path)
    assert seen == []


# class Plugin


@pytest.mark.parametrize(
    "code",
    [
        "from .core import Plugin",
        "from core import Thing as Plugin",
        "from core import *",
        "Plugin = make()",
        "A, Plugin = make()",
        "Plugin: type = make()",
        "if True:\n    class Plugin(IPlugin): ...",
        "try:\n    x = 1\nexcept E:\n    class Plugin(IPlugin): ...",
    ],
)
def test_any_way_of_having_a_plugin_counts(tmp_path: Path, code: str) -> None:
    assert taken(make(tmp_path / "hello.py", code)).entry == "hello.py"


@pytest.mark.parametrize(
    "code",
    ["", "class Plug(IPlugin): ...", "def f():\n    class Plugin(IPlugin): ...", "Plugin: type", "print(Plugin)"],
)
def test_a_file_without_class_plugin_is_refused(tmp_path: Path, code: str) -> None:
    path = make(tmp_path / "hello.py", code)
    error = refused(path)
    assert (error.id, error.path) == ("MK0105", str(path))


def test_a_class_plugin_without_a_base_is_refused(tmp_path: Path) -> None:
    error = refused(make(tmp_path / "hello.py", "\nclass Plugin:\n    pass\n"))
    assert (error.id, error.line) == ("MK0106", 2)


def test_only_the_entry_must_have_a_plugin(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py", "from .core import Plugin")
    make(tmp_path / "hello" / "core.py", "class Plugin: ...")
    assert taken(tmp_path / "hello").entry == "__init__.py"


# What it needs


def script(folder: Path, *lines: str) -> Path:
    block = "".join(f"# {line}\n" for line in lines)
    return make(folder / "hello.py", f"# /// script\n{block}# ///\n{CODE}")


def test_missing_packages_are_named_for_pip(tmp_path: Path) -> None:
    path = script(tmp_path, 'dependencies = ["pytest>=8", "no-such-thing>=0.28", "pytest>=999"]')
    error = refused(path)
    assert (error.id, error.name) == ("MK0117", "hello")
    assert error.packages == "'no-such-thing>=0.28' 'pytest>=999'"


def test_a_package_for_another_machine_is_not_missing(tmp_path: Path) -> None:
    path = script(tmp_path, "dependencies = [\"no-such-thing; sys_platform == 'win32'\"]")
    assert taken(path).entry == "hello.py"


def test_the_python_version_is_checked_before_the_syntax(tmp_path: Path) -> None:
    path = script(tmp_path, 'requires-python = ">=4.2"')
    path.write_text(path.read_text() + "x = = 1")
    error = refused(path)
    assert (error.id, error.wanted) == ("MK0119", ">=4.2")


# Imports of other plugins


@pytest.mark.parametrize(
    ("code", "instead"),
    [
        ("from billing import total, paid", 'self.api.call("billing.total", ...)'),
        ("from billing.rates import usd", 'self.api.call("billing.usd", ...)'),
        ("from billing import *", 'self.api.call("billing.<method>", ...)'),
        ("import billing", 'self.api.call("billing.<method>", ...)'),
        ("import billing\nx = billing.total(1)", 'self.api.call("billing.total", ...)'),
        ("import billing as b\nx = 1 + b.total(1).y", 'self.api.call("billing.total", ...)'),
        ("import os, billing.rates\nbilling.rates.usd()", 'self.api.call("billing.usd", ...)'),
        ("x = importlib.import_module('billing')", 'self.api.call("billing.<method>", ...)'),
        ("x = import_module('billing.rates')", 'self.api.call("billing.<method>", ...)'),
        ("x = __import__('billing')", 'self.api.call("billing.<method>", ...)'),
    ],
)
def test_an_import_of_another_plugin_is_refused_with_the_line_to_write(tmp_path: Path, code: str, instead: str) -> None:
    path = make(tmp_path / "hello.py", CODE + code)
    error = refused(path, "billing")
    assert (error.id, error.path, error.line, error.other) == ("MK0118", str(path), 2, "billing")
    assert error.instead == instead


def test_an_import_inside_a_function_of_a_module_is_found(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py")
    helper = make(tmp_path / "hello" / "sub" / "helper.py", "def f():\n    import billing\n")
    error = refused(tmp_path / "hello", "billing")
    assert (error.id, error.path, error.line) == ("MK0118", str(helper), 2)


@pytest.mark.parametrize(
    "code",
    [
        "import billing_tools",
        "from . import billing",
        "from .billing import total",
        "importlib.import_module('.billing', __package__)",
        "if TYPE_CHECKING:\n    from billing import Order",
        "billing = api.service('billing')",
    ],
)
def test_other_imports_are_allowed(tmp_path: Path, code: str) -> None:
    assert taken(make(tmp_path / "hello.py", CODE + code), "billing").entry == "hello.py"


def test_a_standard_module_is_not_a_plugin(tmp_path: Path) -> None:
    assert taken(make(tmp_path / "hello.py", CODE + "import json, sys"), "json", "sys").entry == "hello.py"


def test_an_installed_package_is_not_a_plugin(tmp_path: Path) -> None:
    make(tmp_path / "pytest.py")
    assert taken(make(tmp_path / "hello.py", CODE + "import pytest"), "pytest").entry == "hello.py"


def test_a_plugin_may_import_its_own_package(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "__init__.py", CODE + "import hello.helper")
    make(tmp_path / "hello" / "helper.py", "")
    assert taken(tmp_path / "hello", "hello").package


def test_a_plugin_may_import_files_next_to_its_entry(tmp_path: Path) -> None:
    make(tmp_path / "hello" / "plugin.py", CODE + "import billing")
    make(tmp_path / "hello" / "billing.py", "")
    assert taken(tmp_path / "hello", "billing").entry == "plugin.py"


def test_a_file_beside_a_single_file_is_another_plugin(tmp_path: Path) -> None:
    make(tmp_path / "billing.py")
    assert refused(make(tmp_path / "hello.py", CODE + "import billing"), "billing").id == "MK0118"


@pytest.mark.parametrize("other", ["peer_mk.py", "peer_mk/__init__.py"])
def test_a_plugin_folder_on_the_path_makes_nothing_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    make(tmp_path / other)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert refused(make(tmp_path / "hello.py", CODE + "import peer_mk"), "peer_mk").id == "MK0118"


def test_a_loader_knows_where_the_other_plugins_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a" / "hello.py", CODE + "import peer_mk")
    make(tmp_path / "b" / "peer_mk.py")
    monkeypatch.syspath_prepend(str(tmp_path / "b"))
    loader: Loader = FileLoader()
    hello, _ = loader.discover([str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(PluginLoadError, match="MK0118"):
        loader.snapshot(hello, ["peer_mk"])


def test_an_installed_plugin_may_import_installed_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "library_mk.py")
    make(tmp_path / "whole_mk" / "__init__.py", "")
    make(tmp_path / "whole_mk" / "main.py", CODE + "import library_mk")
    info = tmp_path / "mk_snap-1.0.dist-info"
    make(info / "METADATA", "Metadata-Version: 2.1\nName: mk-snap\nVersion: 1.0\n")
    make(info / "entry_points.txt", "[microkernel.plugins]\nwhole = whole_mk.main:Plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = find("entry-point:whole")
    snap = snapshot(found, ["library_mk"])
    assert (snap.root, snap.entry, snap.package) == (str(tmp_path / "whole_mk"), "main.py", True)


def test_a_tree_over_which_cpython_stumbles_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython fails if another thread builds a tree at the same time."""
    build, stumbles = ast.parse, [SystemError("AST constructor recursion depth mismatch")] * 3

    def stumble(*args: str) -> ast.Module:
        if stumbles:
            raise stumbles.pop()
        return build(*args)

    monkeypatch.setattr(ast, "parse", stumble)
    assert isinstance(parse("x = 1"), ast.Module)
    assert not stumbles
