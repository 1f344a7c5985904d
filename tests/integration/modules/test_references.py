"""References by name (pickle, shelve, job stores, child processes) survive the generation of the plugin they name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import ReloadFailed
from tests.security.attacks.support import Plugins, eventually

LEVELS = ["thread", "process", "sandbox"]
KEEPER = """
import copyreg, dataclasses, enum, importlib, pickle, shelve
from microkernel import IPlugin, expose

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Order:
    id: int
    color: Color = Color.RED

class Weird:
    def __init__(self, x): self.x = x

def make_weird(x): return Weird(x)
copyreg.pickle(Weird, lambda w: (make_weird, (w.x,)))

def job(): return "done"

class Plugin(IPlugin):
    def start(self):
        self.kept = None
        if (self.api.data_dir / "kept").exists():
            self.kept = pickle.loads((self.api.data_dir / "kept").read_bytes())
            assert type(self.kept[0]) is Order and type(self.kept[1]) is Weird, "of another generation"
            for path in self.api.data_dir.glob("shelf.dat"):
                with shelve.open(str(path.with_suffix(""))) as shelf:
                    assert type(shelf["order"]) is Order

    @expose
    def keep(self):
        (self.api.data_dir / "kept").write_bytes(pickle.dumps([Order(7), Weird(8), job]))

    @expose
    def shelve(self):
        with shelve.open(str(self.api.data_dir / "shelf")) as shelf:
            shelf["order"] = Order(9)

    @expose
    def kept_id(self) -> int:
        return self.kept[0].id

    @expose
    def run_stored(self, reference: str) -> str:
        module, _, name = reference.partition(":")
        return getattr(importlib.import_module(module), name)()

    @expose
    def reference(self) -> str:
        return f"{job.__module__}:{job.__qualname__}"

    @expose
    def die(self): raise SystemExit(3)

    def stop(self): pass
"""


def folder_plugin(plugins: Plugins, shape: str, source: str = KEEPER, name: str = "my-keeper") -> Path:
    """The same plugin as a file, as a package, and as a folder with a ``plugin.py``."""
    if shape == "file":
        return plugins.raw(name, source)
    entry = {"package": "__init__.py", "folder": "plugin.py"}[shape]
    (plugins.folder / name).mkdir(exist_ok=True)
    (plugins.folder / name / "plugin.toml").write_text("")
    (plugins.folder / name / entry).write_text(source)
    return plugins.folder / name / entry


@pytest.mark.parametrize("shape", ["file", "package", "folder"])
@pytest.mark.parametrize("level", LEVELS)
def test_pickles_are_read_after_reload_crash_restart_and_rollback(plugins: Plugins, level: str, shape: str) -> None:
    path = folder_plugin(plugins, shape)
    with plugins.kernel(level, name="kept") as kernel:
        kernel.call("my-keeper.keep")
        if level != "sandbox":  # dbm.dumb calls chmod
            kernel.call("my-keeper.shelve")
        reference = kernel.call("my-keeper.reference")
        assert kernel.reload("my-keeper").leaked == []
        assert kernel.call("my-keeper.kept_id") == 7
        with pytest.raises(Exception, match=r"sys\.exit|exit status"):
            kernel.call("my-keeper.die")
        eventually(lambda: kernel.info("my-keeper").state == "active" and kernel.info("my-keeper").generation > 2)
        assert kernel.call("my-keeper.kept_id", timeout=20) == 7
        path.write_text(KEEPER.replace("self.kept = None", "raise ValueError('no start')"))
        with pytest.raises(ReloadFailed):
            kernel.reload("my-keeper")
        assert kernel.call("my-keeper.kept_id") == 7
        assert kernel.call("my-keeper.run_stored", reference) == "done"
    path.write_text(KEEPER)
    with plugins.kernel(level, name="kept") as kernel:
        assert kernel.call("my-keeper.kept_id") == 7
        assert kernel.call("my-keeper.run_stored", reference) == "done"


@pytest.mark.parametrize("level", LEVELS)
def test_the_name_of_a_module_is_the_same_in_every_generation_and_at_every_level(plugins: Plugins, level: str) -> None:
    folder_plugin(plugins, "file")
    with plugins.kernel(level) as kernel:
        names = [kernel.call("my-keeper.reference")]
        kernel.reload("my-keeper")
        names.append(kernel.call("my-keeper.reference"))
    assert names == ["mkplugin.my_2dkeeper:job"] * 2


def test_a_second_kernel_of_the_process_keeps_its_own_pickles(plugins: Plugins) -> None:
    folder_plugin(plugins, "package")
    with plugins.kernel("thread", name="one") as first, plugins.kernel("thread", name="two") as second:
        references = [each.call("my-keeper.reference") for each in (first, second)]
        assert references == ["mkplugin.my_2dkeeper:job", "mkplugin.two.my_2dkeeper:job"]
        for kernel in (first, second):
            kernel.call("my-keeper.keep")
            assert kernel.reload("my-keeper").leaked == []
            assert kernel.call("my-keeper.kept_id") == 7
    with plugins.kernel("thread", name="one") as first:
        assert first.call("my-keeper.reference") == "mkplugin.my_2dkeeper:job"


RELOADED = """
import pickle
from microkernel import IPlugin, expose
N = {n}
class Order: pass
{more}
class Plugin(IPlugin):
    def start(self): pass
    def export_state(self): return pickle.dumps(Order())
    def import_state(self, state, from_version): self.order = pickle.loads(state)
    @expose
    def own(self) -> list:
        return [N, type(pickle.loads(pickle.dumps(Order()))) is Order, type(getattr(self, "order", Order())) is Order]
    def stop(self): assert type(pickle.loads(pickle.dumps(Order()))) is Order
"""


def test_at_thread_each_generation_pickles_its_own_until_it_has_stopped(plugins: Plugins) -> None:
    plugins.raw("shop", RELOADED.format(n=1, more=""))
    with plugins.kernel("thread") as kernel:
        plugins.raw("shop", RELOADED.format(n=2, more="raise ValueError('no import')"))
        with pytest.raises(ReloadFailed):
            kernel.reload("shop")
        assert kernel.call("shop.own") == [1, True, True]
        plugins.raw("shop", RELOADED.format(n=2, more="assert type(pickle.loads(pickle.dumps(Order()))) is Order"))
        assert kernel.reload("shop").leaked == []
        assert kernel.call("shop.own") == [2, True, True]


@pytest.mark.parametrize("level", ["thread", "process"])
def test_while_a_new_source_hangs_in_its_import_the_old_one_keeps_its_names(plugins: Plugins, level: str) -> None:
    plugins.raw("shop", RELOADED.format(n=1, more=""))
    with plugins.kernel(level) as kernel:
        hanging = "import time\nwhile True: time.sleep(0.01)"
        header = "# /// script\n# [tool.microkernel]\n# limits = {load = 0.3}\n# ///\n"
        plugins.raw("shop", header + RELOADED.format(n=2, more=hanging))
        with pytest.raises(ReloadFailed):
            kernel.reload("shop")
        assert kernel.call("shop.own") == [1, True, True]
        plugins.raw("shop", RELOADED.format(n=3, more=""))
        kernel.reload("shop")
        assert kernel.call("shop.own") == [3, True, True]


CHILDREN = """
import concurrent.futures, multiprocessing, os, subprocess, sys
from microkernel import IPlugin, expose
{imports}
LOADED_IN = os.getpid()

def square(n):
    return [n * n, {helper}, __name__, os.path.basename(__file__), LOADED_IN == os.getpid()]

class Plugin(IPlugin):
    def start(self): pass
    @expose
    def pool(self, method: str, n: int) -> list:
        with multiprocessing.get_context(method).Pool(1) as pool:
            return pool.apply(square, (n,))
    @expose
    def executor(self, method: str, n: int) -> list:
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(square, n).result()
    @expose
    def process(self, method: str, n: int) -> list:
        context = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        child = context.Process(target=put, args=(queue, n))
        child.start()
        result = queue.get()
        child.join()
        return result
    @expose
    def program(self, n: int) -> str:
        code = f"import {{__name__}} as module; print(module.square({{n}})[0])"
        env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.strip()
    def stop(self): pass

def put(queue, n): queue.put(square(n))
"""


@pytest.mark.parametrize("shape", ["file", "package", "folder"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("way", ["pool", "executor", "process"])
def test_a_child_process_imports_the_snapshot(plugins: Plugins, shape: str, method: str, way: str) -> None:
    imports = {"file": "", "package": "import cruncher.helper as helper", "folder": "import helper"}[shape]
    source = CHILDREN.format(imports=imports, helper="helper.X" if imports else "5")
    path = folder_plugin(plugins, shape, source, "cruncher")
    if imports:
        (path.parent / "helper.py").write_text("X = 5")
    with plugins.kernel("process") as kernel:
        for stored in ("changed = 'by now'", "changed ="):
            path.write_text(stored)
            module = {"folder": "mkplugin.cruncher.plugin"}.get(shape, "mkplugin.cruncher")
            got = kernel.call(f"cruncher.{way}", method, 6, timeout=50)
            assert got == [36, 5, module, path.name, True]
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("microkernel-scratch-*/cruncher-*"))


def test_any_python_with_its_path_imports_the_snapshot_and_the_folder_goes_with_the_worker(plugins: Plugins) -> None:
    folder_plugin(plugins, "file", CHILDREN.format(imports="", helper="5"), "cruncher")
    with plugins.kernel("process") as kernel:
        assert kernel.call("cruncher.program", 4, timeout=50) == "16"
        (scratch,) = [each for each in folders() if "cruncher" in each.name and each.suffix == ".modules"]
        assert kernel.unload("cruncher") == []
        eventually(lambda: not scratch.exists())


def folders() -> list[Path]:
    return list(Path(os.environ.get("TMPDIR", "/tmp")).glob("microkernel-scratch-*/*"))


def test_a_plugin_runs_without_a_folder_for_temporary_files(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.hosts.worker.temp_dirs.TempDirs.make", lambda *_: "")
    folder_plugin(plugins, "file")
    with plugins.kernel("process") as kernel:
        assert isinstance(kernel, Kernel)
        assert kernel.call("my-keeper.reference") == "mkplugin.my_2dkeeper:job"
