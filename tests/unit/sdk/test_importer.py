"""Modules from a snapshot: their names, their imports, and that nothing of them remains after unloading."""

from __future__ import annotations

import inspect
import linecache
import pickle
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from microkernel.hosts.thread.leftovers import _collect as collect  # also if a thread of an earlier test is collecting
from microkernel.sdk.loading import module_finders
from microkernel.sdk.loading.importer import PluginNamespace
from microkernel.sdk.loading.module_names import ModuleNames

Make = Callable[..., PluginNamespace]


@pytest.fixture(params=[True, False], ids=["thread", "process"])
def names(request: pytest.FixtureRequest) -> Iterator[ModuleNames]:
    """Names for a process with several generations, and with one."""
    names = ModuleNames("test", shared=request.param)
    yield names
    module_finders.release(names)


@pytest.fixture
def spaces(tmp_path: Path, names: ModuleNames) -> Iterator[Make]:
    """A factory of namespaces that are unloaded at the end."""
    made: list[PluginNamespace] = []

    def make(
        sources: Mapping[str, str],
        *,
        name: str = "hello",
        entry: str = "",
        peers: Collection[str] = (),
        root: Path = tmp_path / "hello",
        names: ModuleNames = names,
    ) -> PluginNamespace:
        package = "__init__.py" in sources
        files = {path: text.encode() for path, text in sources.items()}
        entry = entry or ("__init__.py" if package else next(iter(sources)))
        made.append(PluginNamespace(name, str(root), entry, package, files, peers, names))
        return made[-1]

    yield make
    for space in made:
        space.unload()


@pytest.fixture
def generations(names: ModuleNames) -> ModuleNames:
    """For tests that need two generations in one process."""
    if not names.shared:
        pytest.skip("a worker has one generation")
    return names


def loaded(space: PluginNamespace) -> Any:
    return space.load()


# Names


def test_a_module_has_a_readable_name_and_its_real_path(spaces: Make, tmp_path: Path) -> None:
    module = loaded(spaces({"hello.py": ""}, name="my-hello"))
    assert module.__name__ == "mkplugin.my_2dhello"
    assert module.__file__ == str(tmp_path / "hello" / "hello.py")
    assert sys.modules[module.__name__] is module


def test_a_second_kernel_of_the_process_uses_other_module_names(spaces: Make, generations: ModuleNames) -> None:
    second, third = ModuleNames("other", shared=True), ModuleNames("other", shared=True)
    kernels = enumerate((generations, second, third))
    modules = [loaded(spaces({"hello.py": f"x = {n}"}, names=each)) for n, each in kernels]
    assert [each.__name__ for each in modules] == ["mkplugin.hello", "mkplugin.other.hello", "mkplugin.other_2.hello"]
    assert [import_module(each.__name__).x for each in modules] == [0, 1, 2]
    for each in (second, third):
        module_finders.release(each)


def test_a_closed_kernel_leaves_its_names_to_the_next(spaces: Make, generations: ModuleNames) -> None:
    stuck = loaded(spaces({"hello.py": "x = 1"}))
    module_finders.release(generations)
    successor = ModuleNames("next", shared=True)
    space = spaces({"hello.py": "x = 2"}, names=successor)
    space.load()
    space.take_over()
    assert (stuck.__name__, import_module("mkplugin.hello").x) == ("mkplugin.hello", 2)
    module_finders.release(successor)


@pytest.mark.parametrize("plugins", [("a-b", "a_2db"), ("a-b", "a_b"), ("a_5f2db", "a_2db"), ("a--b", "a_-b")])
def test_no_two_plugins_share_a_name(plugins: tuple[str, str]) -> None:
    first, second = map(ModuleNames().of, plugins)
    assert first != second


def test_a_name_points_to_the_new_generation_while_it_is_imported_and_when_it_takes_over(
    spaces: Make, generations: ModuleNames
) -> None:
    code = "import sys\nseen = sys.modules[__name__].N\nfrom . import helper"
    old, new = (spaces({"__init__.py": f"N = {n}\n{code}", "helper.py": f"N = {n}"}) for n in (1, 2))
    pair = [loaded(old), loaded(new)]
    assert [(each.seen, each.helper.N) for each in pair] == [(1, 1), (2, 2)]
    assert [import_module(f"mkplugin.hello{each}").N for each in ("", ".helper")] == [1, 1]
    new.take_over()
    assert [import_module(f"mkplugin.hello{each}").N for each in ("", ".helper")] == [2, 2]
    old.unload()
    assert [import_module(f"mkplugin.hello{each}").N for each in ("", ".helper")] == [2, 2]


def test_a_new_generation_that_is_given_up_leaves_the_name_to_the_old_one(
    spaces: Make, generations: ModuleNames
) -> None:
    loaded(spaces({"__init__.py": "N = 1"}))
    new = spaces({"__init__.py": "from . import helper\nraise ValueError", "helper.py": ""})
    with pytest.raises(ValueError):  # noqa: PT011
        new.load()
    assert import_module("mkplugin.hello").N == 1
    assert "mkplugin.hello.helper" not in sys.modules
    new.unload()
    assert import_module("mkplugin.hello").N == 1


def test_each_generation_imports_its_own_modules_whoever_has_the_name(spaces: Make, generations: ModuleNames) -> None:
    late = """
def late():
    import importlib
    import hello.one
    from . import two
    from .sub.deep import N
    from .circle import other
    return [hello.one.N, two.N, N, other.N]
"""

    def sources(n: int) -> dict[str, str]:
        modules = {f"{name}.py": f"N = {n}" for name in ("one", "two", "sub/deep")}
        circle = {"circle.py": "from . import other", "other.py": f"from . import circle\nN = {n}"}
        return {"__init__.py": late, **modules, **circle}

    old, new = (loaded(spaces(sources(n))) for n in (1, 2))
    assert (new.late(), old.late()) == ([2] * 4, [1] * 4)


def test_a_hanging_import_holds_up_neither_the_old_nor_the_next_generation(
    spaces: Make, generations: ModuleNames
) -> None:
    hangs, go_on = threading.Event(), threading.Event()
    builtins_of_test = {"hangs": hangs, "go_on": go_on}
    sys.modules["test_gates"] = ModuleType("test_gates")
    vars(sys.modules["test_gates"]).update(builtins_of_test)
    late = "def late():\n    from . import helper\n    return helper.N"
    old = spaces({"__init__.py": late, "helper.py": "N = 1"})
    old.load()
    stuck = spaces({"__init__.py": "from . import helper", "helper.py": "import test_gates\n"
                    "test_gates.hangs.set(); test_gates.go_on.wait(20)\nN = 2"})  # fmt: skip
    thread = threading.Thread(target=stuck.load)
    thread.start()
    try:
        assert hangs.wait(20)
        stuck.yield_name()
        assert import_module("mkplugin.hello").late() == 1
        assert sys.modules["mkplugin.hello.helper"].N == 1
        next_one = spaces({"__init__.py": late, "helper.py": "N = 3"})
        assert loaded(next_one).late() == 3
    finally:
        go_on.set()
        thread.join()
        del sys.modules["test_gates"]
    assert import_module("mkplugin.hello").helper.N == 1
    next_one.take_over()
    assert import_module("mkplugin.hello").late() == 3


def test_a_plugins_own_name_is_not_a_key_in_sys_modules(spaces: Make) -> None:
    loaded(spaces({"__init__.py": "import hello.helper", "helper.py": ""}))
    assert not {"hello", "hello.helper"} & set(sys.modules)


def test_classes_find_their_module(spaces: Make) -> None:
    module = loaded(
        spaces({"hello.py": "import dataclasses\n@dataclasses.dataclass\nclass Order:\n    id: 'int' = 0\n"})
    )
    assert module.Order() == module.Order(0)


# Imports


def test_relative_imports_in_a_package(spaces: Make) -> None:
    sources = {
        "__init__.py": "from . import helper\nfrom .sub import deep\nfrom .sub.deep import x",
        "helper.py": "from .sub.deep import x",
        "sub/__init__.py": "",
        "sub/deep.py": "from .. import helper\nx = 7",
    }
    module = loaded(spaces(sources))
    assert (module.x, module.helper.x, module.deep.x) == (7, 7, 7)


def test_late_imports_come_from_the_snapshot_and_not_from_disk(spaces: Make, tmp_path: Path) -> None:
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "helper.py").write_text("x = 'disk'")
    (folder / "added.py").write_text("")
    code = "def late():\n    from . import helper\n    return helper.x\ndef new():\n    from . import added\n"
    module = loaded(spaces({"__init__.py": code, "helper.py": "x = 'snapshot'"}))
    assert module.late() == "snapshot"
    with pytest.raises(ImportError):
        module.new()


def test_nothing_is_written_beside_the_source(spaces: Make, tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    loaded(spaces({"__init__.py": "from . import helper", "helper.py": ""}))
    assert list((tmp_path / "hello").iterdir()) == []


@pytest.mark.parametrize(
    "code",
    [
        "import hello.helper\nx = hello.helper.x",
        "import hello.helper as h\nx = h.x",
        "from hello.helper import x",
        "from hello import helper\nx = helper.x",
        "x = __import__('hello.helper').helper.x",
        "namespace = {}\nexec('from hello.helper import x', namespace)\nx = namespace['x']",
    ],
)
def test_a_package_may_call_itself_by_its_name(spaces: Make, code: str) -> None:
    module = loaded(spaces({"__init__.py": code, "helper.py": "x = 7"}))
    assert module.x == 7


def test_a_package_in_a_folder_of_another_name_may_use_both(spaces: Make, tmp_path: Path) -> None:
    sources = {"__init__.py": "from greet.helper import x\nfrom hello.helper import x as y", "helper.py": "x = 7"}
    module = loaded(spaces(sources, name="greet", root=tmp_path / "hello"))
    assert (module.x, module.y) == (7, 7)


def test_a_plugin_called_like_a_library_still_gets_the_library(spaces: Make, tmp_path: Path) -> None:
    module = loaded(spaces({"__init__.py": "import pytest"}, name="pytest", root=tmp_path / "pytest_plugin"))
    assert module.pytest is pytest


def test_a_folder_called_like_a_module_of_python_hides_it_from_nobody(spaces: Make, tmp_path: Path) -> None:
    module = loaded(spaces({"__init__.py": "import json"}, name="pay", root=tmp_path / "json"))
    assert module.json is sys.modules["json"]


def test_two_plugins_with_a_helper_each_get_their_own(spaces: Make) -> None:
    def sources(n: int) -> dict[str, str]:
        return {
            "plugin.py": "import helper\ndef late():\n    import helper\n    return helper.x",
            "helper.py": f"x = {n}",
        }

    one, two = (loaded(spaces(sources(n), name=f"p{n}")) for n in (1, 2))
    assert (one.helper.x, one.late(), two.helper.x, two.late()) == (1, 1, 2, 2)
    assert "helper" not in sys.modules


def test_a_helper_may_import_its_neighbours_and_the_entry(spaces: Make) -> None:
    sources = {
        "plugin.py": "x = 1\nimport helper, sub.deep\ny = sub.deep.y",
        "helper.py": "import plugin\nfrom sub.deep import y\nx = plugin.x",
        "sub/deep.py": "y = 2",
    }
    module = loaded(spaces(sources))
    assert (module.helper.x, module.y, module.helper.plugin is module) == (1, 2, True)


def test_a_neighbours_name_does_not_overwrite_what_the_entry_calls_so(spaces: Make) -> None:
    code = "settings = 1\ndef late():\n    import settings as s\n    return s.x\n"
    module = loaded(spaces({"plugin.py": code, "settings.py": "x = 2"}))
    assert (module.late(), module.settings) == (2, 1)


def test_an_entry_inside_a_package_runs_after_the_package(spaces: Make) -> None:
    sources = {"__init__.py": "x = 7", "main.py": "from . import x"}
    assert loaded(spaces(sources, entry="main.py")).x == 7


def test_the_standard_library_is_imported_unchanged(spaces: Make) -> None:
    module = loaded(spaces({"__init__.py": "import json, os.path\nfrom collections import abc"}))
    assert module.json is sys.modules["json"]


@pytest.mark.parametrize("entry", ["hello.py", "__init__.py", "plugin.py"])
def test_a_plugin_may_import_itself_by_its_public_name(spaces: Make, entry: str) -> None:
    """As ``pickle`` imports for it, but with the plugin's own builtins."""
    name = "mkplugin.hello.plugin" if entry == "plugin.py" else "mkplugin.hello"
    late = f"def late():\n    import {name}\n    return mkplugin\nclass Order: pass\nimport pickle\n"
    module = loaded(spaces({entry: late + "def dump(): return pickle.dumps(Order())"}))
    assert module.late() is sys.modules["mkplugin"]
    assert isinstance(pickle.loads(module.dump()), module.Order)


# Other plugins


@pytest.mark.parametrize(
    "code", ["import billing", "from billing.rates import usd", "import importlib\nimportlib.import_module('billing')"]
)
@pytest.mark.parametrize("entry", ["hello.py", "__init__.py"])
def test_importing_another_plugin_suggests_the_line_to_write(spaces: Make, code: str, entry: str) -> None:
    space = spaces({entry: f"\n{code}"}, peers=["billing"])
    with pytest.raises(ModuleNotFoundError) as caught:
        space.load()
    line = 2 + code.count("\n")
    assert caught.value.name == "billing"
    assert f"{entry}:{line}: imports the plugin billing" in str(caught.value)
    assert 'self.api.call("billing.<method>", ...)' in str(caught.value)


def test_a_missing_module_raises_the_usual_error(spaces: Make) -> None:
    space = spaces({"hello.py": "import nothing_mk"}, peers=["billing"])
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'nothing_mk'$"):
        space.load()


def test_an_installed_package_with_a_plugins_name_is_imported(spaces: Make) -> None:
    assert loaded(spaces({"hello.py": "import pytest"}, peers=["pytest"])).pytest is pytest


def test_others_in_the_process_may_look_for_that_name(spaces: Make) -> None:
    loaded(spaces({"hello.py": ""}, peers=["billing"]))
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'billing'$"):
        __import__("billing")


def test_a_plugin_may_ask_whether_a_module_is_there(spaces: Make) -> None:
    code = "from importlib.util import find_spec\nx = find_spec('billing')"
    assert loaded(spaces({"hello.py": code}, peers=["billing"])).x is None


# Lines


def traced(module: Any) -> str:
    try:
        module.fail()
    except ZeroDivisionError:
        return traceback.format_exc()
    raise AssertionError


def test_tracebacks_show_the_snapshot_after_the_file_changed(spaces: Make, tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    path = tmp_path / "hello" / "hello.py"
    path.write_text("# other\n# lines\n")
    module = loaded(spaces({"hello.py": "def fail():\n    return 1 / 0  # here"}))
    assert "return 1 / 0  # here" in traced(module)


def test_getsource_shows_the_snapshot(spaces: Make, tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "hello.py").write_text("# other\n")
    module = loaded(spaces({"hello.py": "class Plugin:\n    x = 1\n"}))
    assert inspect.getsource(module.Plugin) == "class Plugin:\n    x = 1\n"


def test_a_generation_that_keeps_running_shows_its_own_lines_again(
    spaces: Make, tmp_path: Path, generations: ModuleNames
) -> None:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "hello.py").write_text("\n\n\n# new")
    old = spaces({"hello.py": "def fail():\n    return 1 / 0  # old"})
    module = loaded(old)
    new = spaces({"hello.py": "\n\n\n# new"})
    new.load()
    new.unload()
    assert "# old" in traced(module)


# Source


def test_the_importers_future_imports_do_not_apply_to_plugins(spaces: Make) -> None:
    module = loaded(spaces({"hello.py": "def f(x: int): ..."}))
    assert module.f.__annotations__ == {"x": int}


def test_source_is_decoded_as_utf8_whatever_it_declares(spaces: Make) -> None:
    assert loaded(spaces({"hello.py": "# coding: latin-1\nx = '名'"})).x == "名"


# Unloading


def test_unload_removes_every_trace_of_the_modules(spaces: Make) -> None:
    before = set(sys.modules), list(sys.meta_path), set(linecache.cache)
    space = spaces({"__init__.py": "from . import helper", "helper.py": ""})
    space.load()
    assert len(space.modules()) == 2
    space.unload()
    assert (set(sys.modules), list(sys.meta_path), set(linecache.cache)) == before
    assert space.modules() == []


def test_the_importer_holds_no_reference_after_unload(spaces: Make) -> None:
    space = spaces({"__init__.py": "import hello.helper\nclass Plugin: ...", "helper.py": "def f(): ..."})
    module = loaded(space)
    gone = [weakref.ref(each) for each in (module, module.Plugin, module.hello.helper)]
    del module
    space.unload()
    collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_the_package_of_all_plugins_holds_no_module_of_one(spaces: Make, names: ModuleNames) -> None:
    """Pickle, for example, imports ``mkplugin.hello`` by its name."""
    other = spaces({"other.py": ""}, name="other")
    other.load()
    package = import_module(names.package)
    space = spaces({"hello.py": "class Plugin: ..."})
    gone = weakref.ref(loaded(space))
    sys.modules.pop(f"{names.package}.hello")
    assert import_module(f"{names.package}.hello") is package.hello
    space.unload()
    collect()
    assert gone() is None
    assert not hasattr(package, "hello")


def test_a_public_name_refers_to_the_new_generation_after_it_was_imported(
    spaces: Make, generations: ModuleNames
) -> None:
    old = spaces({"hello.py": "x = 1"})
    old.load()
    package = import_module(generations.package)
    sys.modules.pop(f"{generations.package}.hello")
    import_module(f"{generations.package}.hello")
    new = spaces({"hello.py": "x = 2"})
    new.load()
    assert package.hello.x == 1
    new.take_over()
    assert package.hello.x == 2


def test_a_load_that_failed_is_unloaded_too(spaces: Make) -> None:
    before = set(sys.modules), list(sys.meta_path)
    space = spaces({"__init__.py": "from . import helper\nraise ValueError", "helper.py": ""})
    with pytest.raises(ValueError):  # noqa: PT011
        space.load()
    space.unload()
    assert (set(sys.modules), list(sys.meta_path)) == before


def test_unloading_one_namespace_does_not_affect_others(spaces: Make, generations: ModuleNames) -> None:
    code = {"__init__.py": "def late():\n    from . import helper\n    return helper.x", "helper.py": "x = 7"}
    one, two = spaces(code), spaces(code)
    one.load()
    module = loaded(two)
    one.unload()
    one.unload()
    assert module.late() == 7


def test_other_finders_are_not_asked_for_a_plugins_own_modules(spaces: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Curious:
        @staticmethod
        def find_spec(fullname: str, *_: Any) -> None:
            asked.append(fullname)

    monkeypatch.setattr(sys, "meta_path", [Curious, *sys.meta_path])
    space = spaces({"plugin.py": "import helper", "helper.py": ""})
    space.load()
    assert not [name for name in asked if name.startswith(space.prefix)]


def test_code_that_outlives_its_unload_finds_no_module_of_a_later_namespace(
    spaces: Make, generations: ModuleNames
) -> None:
    code = {"__init__.py": "def late():\n    from . import helper", "helper.py": ""}
    space = spaces(code)
    module = loaded(space)
    space.unload()
    loaded(spaces(code))
    with pytest.raises(ImportError):
        module.late()


# Threads


def test_many_namespaces_load_and_unload_concurrently(spaces: Make) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for _ in range(20):
            sources = {"plugin.py": "import helper\nfrom sub import deep\nx = helper.x", "helper.py": f"x = {number}"}
            space = spaces({**sources, "sub/deep.py": ""}, name=f"p{number}")
            try:
                if loaded(space).x != number:
                    wrong.append(number)
            except ImportError as error:
                wrong.append(error)
            space.unload()

    before = list(sys.meta_path)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sys.meta_path == before
