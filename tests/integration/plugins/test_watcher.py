"""Reload on save: saved sources run, and other plugins are left alone."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import KernelError, ReloadFailed

from .conftest import Open, Watched, source


def replace(path: Path, text: str) -> None:
    """Replace a file as editors do that write a new file and rename it."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def test_a_saved_file_is_reloaded(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", source(1))
    watched.write("other.py", source(1))
    begin()
    watched.write("hello.py", source(2))
    watched.wait_for("hello", "MK0301")
    assert watched.value("hello") == 2
    assert watched.generation("other") == 1


def test_one_save_is_one_reload(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", source(1))
    begin()
    for number in range(2, 6):
        watched.write("hello.py", source(number))
        watched.wait_for("hello", "MK0301", number - 1)
        assert watched.value("hello") == number
    watched.settle()
    assert watched.said("hello").count("MK0301") == 4


def test_a_save_by_rename(watched: Watched, begin: Open) -> None:
    path = watched.write("hello.py", source(1))
    begin()
    for number in (2, 3):
        replace(path, source(number))
        watched.wait_for("hello", "MK0301", number - 1)
        assert watched.value("hello") == number


def test_a_save_by_backup_and_rewrite(watched: Watched, begin: Open) -> None:
    path = watched.write("hello.py", source(1))
    begin()
    path.rename(path.with_name("hello.py~"))
    watched.write("hello.py", source(2))
    watched.wait_for("hello", "MK0301")
    watched.settle()
    assert watched.said("hello") == ["MK0218", "MK0301"]


def test_a_touch_is_no_change(watched: Watched, begin: Open) -> None:
    path = watched.write("hello.py", source(1))
    begin()
    os.utime(path)
    path.write_text(source(1), encoding="utf-8")
    replace(path, source(1))
    watched.settle()
    assert watched.generation("hello") == 1


@pytest.mark.parametrize(
    "name", ["pack/__init__.py", "pack/helper.py", "pack/deep/more.py", "pack/words.txt", "pack/plugin.toml"]
)
def test_every_file_of_a_folder_counts(watched: Watched, begin: Open, name: str) -> None:
    watched.write("pack/plugin.toml", 'version = "1"\n')
    watched.write("pack/__init__.py", source(1))
    for other in ("pack/helper.py", "pack/deep/more.py", "pack/words.txt"):
        watched.write(other, "# 1\n")
    watched.write("other/__init__.py", source(1))
    begin()
    path = watched.folder / name
    path.write_text(path.read_text(encoding="utf-8").replace("1", "2"), encoding="utf-8")
    watched.wait_for("pack", "MK0301")
    watched.settle()
    assert (watched.generation("pack"), watched.generation("other")) == (2, 1)


def test_what_editors_and_interpreters_leave_does_not_count(watched: Watched, begin: Open) -> None:
    watched.write("pack/__init__.py", source(1))
    watched.write("hello.py", source(1))
    begin()
    for noise in (".__init__.py.swp", "__init__.py~", ".#__init__.py", "4913", "x.tmp", "__pycache__/a.pyc", ".git/x"):
        watched.write(f"pack/{noise}", "noise")
    (watched.folder / ".#hello.py").symlink_to("somebody@somewhere.1")
    watched.write("hello.py.bak", "noise")
    watched.settle()
    assert (watched.generation("pack"), watched.generation("hello")) == (1, 1)


def test_a_module_in_a_new_folder_of_a_plugin(watched: Watched, begin: Open) -> None:
    watched.write("pack/__init__.py", source(1))
    begin()
    watched.write("pack/sub/one.py", "A = 1\n")
    watched.until(lambda: watched.generation("pack") >= 2)
    watched.settle()
    before = watched.generation("pack")
    watched.write("pack/sub/one.py", "A = 2\n")
    watched.until(lambda: watched.generation("pack") > before)


def test_a_module_that_is_removed(watched: Watched, begin: Open) -> None:
    watched.write("pack/__init__.py", source(1))
    helper = watched.write("pack/helper.py", "A = 1\n")
    begin()
    helper.unlink()
    watched.wait_for("pack", "MK0301")


def test_a_save_that_cannot_run_is_told_once_and_changes_nothing(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", source(1))
    begin()
    watched.write("hello.py", "class Plugin(:\n")
    watched.wait_for("hello", "MK0305")
    watched.settle()
    assert watched.value("hello") == 1
    assert watched.said("hello") == ["MK0218", "MK0305"]
    watched.write("hello.py", source(3))
    watched.wait_for("hello", "MK0301")
    assert watched.value("hello") == 3


def test_a_file_that_is_written_slowly_is_waited_for(watched: Watched, begin: Open) -> None:
    path = watched.write("hello.py", source(1))
    begin()
    for number in range(2, 12):
        with path.open("w", encoding="utf-8") as file:
            for part in source(number).partition("IPlugin)"):  # within a line
                file.write(part)
                file.flush()
        watched.until(lambda number=number: watched.value("hello") == number)
    watched.settle()
    assert "MK0305" not in watched.said("hello")


def test_saves_during_a_reload_are_one_more_reload(watched: Watched, begin: Open, tmp_path: Path) -> None:
    started, go_on = tmp_path / "started", tmp_path / "go-on"
    waits = (
        f"import pathlib, time; pathlib.Path({str(started)!r}).touch()\n"
        f"        while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.002)"
    )
    watched.write("slow.py", source(1))
    begin()
    watched.write("slow.py", source(2, body=f"\n        {waits}"))
    watched.until(started.exists)
    for number in (3, 4, 5):
        watched.write("slow.py", source(number))
    watched.settle()
    go_on.touch()
    watched.until(lambda: watched.value("slow") == 5)
    watched.settle()
    assert watched.said("slow").count("MK0301") == 2


def test_a_plugin_that_takes_its_time_keeps_no_other_from_it(watched: Watched, begin: Open, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    body = f"\n        import pathlib, time\n        while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.002)"
    watched.write("slow.py", source(1))
    watched.write("hello.py", source(1))
    begin()
    watched.write("slow.py", source(2, body=body))
    watched.settle()
    watched.write("hello.py", source(2))
    watched.wait_for("hello", "MK0301")
    go_on.touch()
    watched.wait_for("slow", "MK0301")


@pytest.mark.parametrize("broken", ["class Plugin(:\n", source(1, body="1 / 0"), "# /// script\n# [tool\n# ///\n"])
def test_a_failed_plugin_is_started_anew(watched: Watched, begin: Open, broken: str) -> None:
    watched.write("hello.py", broken)
    begin()
    assert watched.state("hello") == "failed"
    watched.write("hello.py", source(2))
    watched.wait_for("hello", "MK0218")
    assert watched.value("hello") == 2


def test_a_failed_plugin_that_is_still_broken_is_told_once(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", "class Plugin(:\n")
    begin()
    before = len(watched.said("hello"))
    watched.write("hello.py", "# /// script\n# [tool\n# ///\n")
    watched.wait_for("hello", "MK0111")
    watched.settle()
    assert watched.said("hello")[before:] == ["MK0111"]


def test_what_somebody_stopped_stays_stopped(watched: Watched, begin: Open) -> None:
    for name in ("stopped", "killed"):
        watched.write(f"{name}.py", source(1))
    begin()
    watched.kernel.stop("stopped")
    watched.kernel.kill("killed")
    for name in ("stopped", "killed"):
        watched.write(f"{name}.py", source(2))
    watched.settle()
    assert (watched.state("stopped"), watched.state("killed")) == ("stopped", "stopped")
    watched.kernel.start("stopped")
    assert watched.value("stopped") == 2


@pytest.mark.parametrize("end", [Kernel.stop, Kernel.kill])
def test_a_save_of_a_stopped_plugin_is_reported_once_until_it_has_run(
    watched: Watched, begin: Open, end: Callable[[Kernel, str], object]
) -> None:
    watched.write("hello.py", source(1))
    begin()
    reported: list[dict[str, str]] = []

    def report(id: str, fields: dict[str, str]) -> None:
        if id == "MK0315":
            reported.append(fields)

    watched.kernel.on("kernel.message", report, inline=True)
    end(watched.kernel, "hello")
    for number in (2, 3):
        watched.write("hello.py", source(number))
        watched.wait_for("hello", "MK0315")
        watched.settle()
    assert watched.said("hello").count("MK0315") == 1
    assert KernelError("MK0315", **reported[0]).text.endswith("; to start it: mk start hello")
    watched.kernel.start("hello")
    assert watched.value("hello") == 3
    watched.settle()
    end(watched.kernel, "hello")
    watched.write("hello.py", source(4))
    watched.wait_for("hello", "MK0315", 2)


def test_a_quarantined_plugin_is_mended(watched: Watched, begin: Open) -> None:
    block = "supervision = { intensity = 0 }"
    watched.write("sick.py", source(1, header=block) + "    @expose\n    def die(self): raise SystemExit(1)\n")
    watched.write("hello.py", source(1))
    begin()
    watched.kernel.emit("nothing")
    with pytest.raises(Exception, match="died"):
        watched.kernel.call("sick.die")
    watched.wait_for("sick", "MK0205")
    watched.write("hello.py", source(2))
    watched.settle()
    assert watched.state("sick") == "quarantined"
    watched.write("sick.py", source(2))
    watched.until(lambda: watched.state("sick") == "active")
    assert watched.value("sick") == 2


def test_a_plugin_in_backoff_takes_the_new_source(watched: Watched, begin: Open) -> None:
    block = "supervision = { backoff = 1000.0, backoff_max = 1000.0 }"
    watched.write("sick.py", source(1, header=block) + "    @expose\n    def die(self): raise SystemExit(1)\n")
    begin()
    with pytest.raises(Exception, match="died"):
        watched.kernel.call("sick.die")
    watched.until(lambda: watched.state("sick") == "backoff")
    watched.write("sick.py", source(2))
    watched.until(lambda: watched.state("sick") == "active")
    assert watched.value("sick") == 2


def test_a_new_file_and_a_new_folder_are_loaded(watched: Watched, begin: Open) -> None:
    begin()
    watched.write("fresh.py", source(1))
    watched.wait_for("fresh", "MK0218")
    watched.write("pack/helper.py", "A = 7\n")
    watched.write("pack/__init__.py", "from .helper import A\n" + source(1))
    watched.wait_for("pack", "MK0218")
    watched.write("pack/helper.py", "A = 8\n")
    watched.wait_for("pack", "MK0301")
    assert watched.said("fresh") == ["MK0218"]


def test_a_folder_that_is_moved_in(watched: Watched, begin: Open, tmp_path: Path) -> None:
    begin()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "__init__.py").write_text(source(1), encoding="utf-8")
    (tmp_path / "made").rename(watched.folder / "moved")
    watched.wait_for("moved", "MK0218")
    watched.write("moved/__init__.py", source(2))
    watched.wait_for("moved", "MK0301")


def test_new_plugins_that_require_each_other(watched: Watched, begin: Open) -> None:
    begin()
    watched.write("able.py", source(1, header='requires = ["zebra"]'))
    watched.write("zebra.py", source(1))
    watched.wait_for("zebra", "MK0218")
    watched.wait_for("able", "MK0218")


def test_a_requirement_that_comes_brings_up_who_waited_for_it(watched: Watched, begin: Open) -> None:
    watched.write("able.py", source(1, header='requires = ["zebra"]'))
    begin()
    assert watched.state("able") == "failed"
    watched.write("zebra.py", source(1))
    watched.wait_for("able", "MK0218")


def test_an_empty_new_file_is_waited_for(watched: Watched, begin: Open) -> None:
    begin()
    (watched.folder / "fresh.py").touch()
    watched.write("fresh.py", source(1))
    watched.wait_for("fresh", "MK0218")
    assert watched.said("fresh") == ["MK0218"]


def test_a_file_that_vanishes_is_told_of_and_its_plugin_goes_on(watched: Watched, begin: Open) -> None:
    path = watched.write("hello.py", source(1))
    begin()
    path.unlink()
    watched.wait_for("hello", "MK0306")
    assert watched.value("hello") == 1
    watched.write("hello.py", source(2))
    watched.wait_for("hello", "MK0301")
    assert watched.value("hello") == 2
    assert watched.said("hello").count("MK0306") == 1


def test_a_failed_one_whose_file_is_renamed_is_forgotten(watched: Watched, begin: Open) -> None:
    """Otherwise `mk ps` would show two entries, one of which never ran."""
    path = watched.write("turtle.py", source(1))  # no name for a plugin: Python has a module of it
    begin()
    path.rename(watched.folder / "tortoise.py")
    watched.wait_for("tortoise", "MK0218")
    watched.until(lambda: "turtle" not in [info.name for info in watched.kernel.list()])
    assert "MK0306" not in watched.said("turtle")


def test_a_folder_that_vanishes_and_comes_back(watched: Watched, begin: Open) -> None:
    watched.write("pack/__init__.py", source(1))
    watched.write("pack/helper.py", "A = 1\n")
    begin()
    shutil.rmtree(watched.folder / "pack")
    watched.wait_for("pack", "MK0306")
    assert watched.value("pack") == 1
    watched.write("pack/helper.py", "A = 1\n")
    watched.write("pack/__init__.py", source(2))
    watched.until(lambda: watched.value("pack") == 2)


def test_what_changes_together_is_reloaded_in_the_order_of_requirement(
    watched: Watched, begin: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {"able": "baker", "baker": "charlie", "charlie": ""}

    def write(value: int) -> None:
        for name, need in needs.items():
            watched.write(f"{name}.py", source(value, header=f'requires = ["{need}"]' if need else 'version = "1"'))

    write(1)
    methods = begin().kernel.core.service.methods
    asked, go_on, sources = threading.Event(), threading.Event(), methods["sources"]
    monkeypatch.setitem(methods, "sources", lambda: (asked.set(), go_on.wait(), sources())[-1])
    watched.write("first.py", source(1))
    asked.wait()  # it is about the first one, and hears of the others when it is done with that
    write(2)
    go_on.set()
    for name in needs:
        watched.wait_for(name, "MK0301")
    assert [name for name, id in watched.messages if id == "MK0301"] == ["charlie", "baker", "able"]


def test_a_plugin_loaded_from_elsewhere_is_watched(watched: Watched, begin: Open, tmp_path: Path) -> None:
    begin()
    far = tmp_path / "far" / "distant.py"
    far.parent.mkdir()
    far.write_text(source(1), encoding="utf-8")
    watched.kernel.load(far)
    replace(far, source(2))
    watched.until(lambda: watched.value("distant") == 2)


def test_a_place_that_is_a_file_and_one_that_is_a_plugin(watched: Watched, begin: Open, tmp_path: Path) -> None:
    alone, pack = tmp_path / "alone.py", tmp_path / "pack" / "__init__.py"
    pack.parent.mkdir()
    for path in (alone, pack):
        path.write_text(source(1), encoding="utf-8")
    begin(alone, pack.parent)
    (tmp_path / "stranger.py").write_text(source(1), encoding="utf-8")
    for path in (alone, pack):
        replace(path, source(2))
    watched.wait_for("alone", "MK0301")
    watched.wait_for("pack", "MK0301")
    assert {info.name for info in watched.kernel.list()} == {"alone", "pack", "watcher"}


def test_links_are_followed(watched: Watched, begin: Open, tmp_path: Path) -> None:
    real = tmp_path / "real.py"
    real.write_text(source(1), encoding="utf-8")
    (watched.folder / "linked.py").symlink_to(real)
    begin()
    replace(real, source(2))
    watched.wait_for("linked", "MK0301")
    other = tmp_path / "other.py"
    other.write_text(source(3), encoding="utf-8")
    (watched.folder / ".new").symlink_to(other)
    (watched.folder / ".new").replace(watched.folder / "linked.py")
    watched.until(lambda: watched.value("linked") == 3)


def test_a_second_plugin_of_a_name_is_told_once(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", source(1))
    begin()
    watched.write("twin.py", source(2, header='name = "hello"'))
    watched.wait_for("hello", "MK0107")
    watched.settle()
    assert watched.said("hello").count("MK0107") == 1
    assert watched.value("hello") == 1


def test_another_name_in_the_manifest_is_refused(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", source(1))
    begin()
    watched.write("hello.py", source(2, header='name = "greeter"'))
    watched.wait_for("hello", "MK0305")
    assert [info.name for info in watched.kernel.list()] == ["watcher", "hello"]
    with pytest.raises(ReloadFailed, match="MK0126"):
        watched.kernel.reload("hello")


def test_a_plugin_that_writes_into_its_own_folder_is_not_reloaded_without_end(watched: Watched, begin: Open) -> None:
    writes = "\n        import pathlib, time; pathlib.Path({!r}, 'state.txt').write_text(str(time.time_ns()))"
    body = writes.format(str(watched.folder / "pack"))
    watched.write("pack/__init__.py", source(1, body=body))
    begin()
    watched.write("pack/state.txt", "begin\n")
    watched.wait_for("pack", "MK0309")
    watched.settle()
    before = watched.generation("pack")
    watched.settle()
    assert watched.generation("pack") == before
    watched.write("pack/__init__.py", source(2, body=body))
    watched.until(lambda: watched.value("pack") == 2)


def test_what_is_saved_while_the_kernel_starts_counts(watched: Watched, begin: Open, tmp_path: Path) -> None:
    """The slow plugin delays the start; the other one is saved after it was loaded."""
    started, go_on = tmp_path / "started", tmp_path / "go-on"
    body = (
        f"\n        import pathlib, time; pathlib.Path({str(started)!r}).touch()\n"
        f"        while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.002)"
    )
    watched.write("slow.py", source(1, body=body, header='requires = ["hello"]'))
    watched.write("hello.py", source(1))

    def save() -> None:
        while not started.exists():
            pass
        replace(watched.folder / "hello.py", source(2))
        watched.wait_for("hello", "MK0301")
        go_on.touch()

    saving = threading.Thread(target=save)
    saving.start()
    begin()
    saving.join()
    assert watched.value("hello") == 2


def test_it_stops_at_once_and_leaves_no_thread(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", source(1))
    before = set(threading.enumerate())
    tasks = len(os.listdir("/proc/self/task"))
    begin()
    watched.write("hello.py", source(2))
    watched.wait_for("hello", "MK0301")
    assert watched.kernel.stop("watcher").state == "stopped"
    watched.write("hello.py", source(3))
    assert watched.kernel.unload("watcher") == []
    watched.kernel.close()
    watched.until(lambda: set(threading.enumerate()) <= before)
    watched.until(lambda: len(os.listdir("/proc/self/task")) <= tasks)


def test_it_stops_while_a_reload_is_under_way(watched: Watched, begin: Open, tmp_path: Path) -> None:
    started, go_on = tmp_path / "started", tmp_path / "go-on"
    body = (
        f"\n        import pathlib, time; pathlib.Path({str(started)!r}).touch()\n"
        f"        while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.002)"
    )
    watched.write("slow.py", source(1))
    begin()
    watched.write("slow.py", source(2, body=body))
    watched.until(started.exists)
    assert watched.kernel.stop("watcher").state == "stopped"
    assert "MK0209" not in watched.said("watcher")
    go_on.touch()
    watched.wait_for("slow", "MK0301")


def test_an_embedded_kernel_watches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hello.py"
    path.write_text(source(1), encoding="utf-8")
    with Kernel(path, isolation="thread") as kernel:
        assert [info.name for info in kernel.list()] == ["hello"]
