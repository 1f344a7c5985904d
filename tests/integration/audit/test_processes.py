"""A process plugin leaves nothing behind: no process, no descriptor, no temporary file; shared memory is reported."""

from __future__ import annotations

import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from microkernel import Kernel
from tests.harness.leftovers import descriptors, gone, opened_since
from tests.security.attacks.families import Family
from tests.security.attacks.support import Plugins, Script, eventually, state_is

PLUGIN = """
import tempfile
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): {start}
    def stop(self): pass
    @expose
    def folder(self): return tempfile.gettempdir()
    @expose
    def fill(self):
        deep = tempfile.mkdtemp()
        os.mkdir(deep + "/closed")
        open(deep + "/closed/file", "w").close()
        os.symlink("/etc", deep + "/link")
        os.chmod(deep + "/closed", 0o000)
    @expose
    def share(self, name: str, create: bool = True):
        self.memory = SharedMemory(name, create=create, size=4096)
        resource_tracker.unregister(self.memory._name, "shared_memory")
    @expose
    def crash(self): os._exit(3)
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The operator's TMPDIR."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return place


@pytest.fixture
def kernel(plugins: Plugins) -> Iterator[Kernel]:
    plugins.add("p", PLUGIN.format(start="pass"), supervision={"restart": "temporary"}, limits={"stop": 5.0})
    with plugins.kernel() as kernel:
        yield kernel


# Temporary files


def test_a_worker_has_a_separate_temporary_folder(kernel: Kernel, scratch: Path) -> None:
    folder = Path(kernel.call("p.folder"))
    assert folder.is_relative_to(scratch)
    assert folder.name.startswith("p-")
    assert [stat.S_IMODE(place.stat().st_mode) for place in (folder, folder.parent)] == [0o700, 0o700]
    kernel.reload("p")
    assert kernel.call("p.folder") != str(folder)
    assert not folder.exists()


@pytest.mark.parametrize("how", ["unload", "reload", "stop", "kill", "crash"])
def test_temporary_files_are_removed_however_a_worker_ends(kernel: Kernel, how: str) -> None:
    folder = Path(kernel.call("p.folder"))
    kernel.call("p.fill")
    if how == "crash":
        with pytest.raises(Exception, match="exit status"):
            kernel.call("p.crash")
        state_is(kernel, "p", "stopped", "backoff")
    else:
        getattr(kernel, how)("p")
    if how != "unload":
        assert kernel.unload("p") == []
    assert not folder.exists()
    assert Path("/etc/passwd").exists()


def test_a_kernel_that_has_ended_leaves_no_folder(plugins: Plugins, scratch: Path) -> None:
    plugins.add("p", PLUGIN.format(start="tempfile.mkdtemp()"))
    with plugins.kernel():
        assert list(scratch.iterdir())
    assert not list(scratch.iterdir())


def test_the_next_kernel_removes_what_a_killed_one_left(plugins: Plugins, scratch: Path, tmp_path: Path) -> None:
    plugins.add("p", PLUGIN.format(start="tempfile.mkdtemp()"))
    program = f"""
        from microkernel import Kernel
        with Kernel({str(plugins.folder)!r}, isolation="process") as kernel:
            print(kernel.call("p.folder"), kernel.info("p").pid, flush=True)
            input()
    """
    killed, living = (Script(program, _folder(tmp_path, name)) for name in ("one", "two"))
    folder, pid = killed.line().split()
    other = living.line().split()[0]
    killed.kill()
    killed.end()
    eventually(lambda: gone(int(pid)), "its worker ends")
    assert os.listdir(folder)
    with plugins.kernel():
        eventually(lambda: not Path(folder).parent.exists(), "it is swept")
        assert os.listdir(other)  # its kernel lives
    living.tell()
    living.end()
    assert not list(scratch.iterdir())


def test_plugins_run_without_a_place_for_temporary_files(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("p", PLUGIN.format(start="pass"))
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with plugins.kernel() as kernel:
        assert kernel.info("p").state == "active"
        assert kernel.unload("p") == []


def _folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


# Processes and descriptors


@pytest.mark.parametrize("how", ["unload", "kill"])
def test_no_process_and_no_descriptor_is_left(plugins: Plugins, how: str) -> None:
    plugins.healthy()
    family = Family(plugins, "p")
    path = plugins.path("p").rename(plugins.folder.parent / "p.py")
    with plugins.kernel() as kernel:
        before = descriptors()
        kernel.load(path)
        pid = kernel.info("p").pid
        assert pid is not None
        family.wait_until_whole()
        getattr(kernel, how)("p")
        if how != "unload":
            assert kernel.unload("p") == []
        assert family.is_extinct()
        assert not _in_session(pid)
        assert opened_since(before) == {}


def _in_session(leader: int) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                found.append(entry)
    return found


# Shared memory


@pytest.fixture
def name() -> Iterator[str]:
    name = f"mk-test-{uuid.uuid4().hex[-12:]}"
    yield name
    Path(f"/dev/shm/{name}").unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["unload", "reload"])
def test_shared_memory_that_was_left_is_reported_and_kept(kernel: Kernel, name: str, how: str) -> None:
    kernel.call("p.share", name)
    left = kernel.unload("p") if how == "unload" else kernel.reload("p").leaked
    assert left == [f"shared memory /dev/shm/{name}"]
    assert Path(f"/dev/shm/{name}").exists()


def test_shared_memory_that_another_process_has_open_is_not_reported(kernel: Kernel, name: str) -> None:
    kernel.call("p.share", name)
    mine = SharedMemory(name)
    resource_tracker.unregister(mine._name, "shared_memory")  # type: ignore[attr-defined]
    assert kernel.unload("p") == []
    mine.close()


def test_shared_memory_that_existed_before_is_not_reported(plugins: Plugins, name: str) -> None:
    plugins.add("p", PLUGIN.format(start="pass"))
    mine = SharedMemory(name, create=True, size=4096)
    mine.close()
    with plugins.kernel() as kernel:
        kernel.call("p.share", name, create=False)
        assert kernel.unload("p") == []
    mine.unlink()
