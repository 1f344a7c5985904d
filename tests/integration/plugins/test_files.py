"""Which files matter, and whether they have changed."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from microkernel.plugins.watcher.debounce import ChangeDebouncer
from microkernel.plugins.watcher.files import FileDigests, aliases, survey


def write(path: Path, text: str = "x = 1\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_folder_of_plugins(tmp_path: Path) -> None:
    files = {write(tmp_path / name) for name in ("a.py", "pack/plugin.py", "pack/sub/b.py", "pack/data.txt")}
    for name in ("readme.md", "_a.py", "data/x.json", "pack/.git/x", "pack/__pycache__/y.py", "pack/b.py~"):
        write(tmp_path / name)
    found = survey([str(tmp_path)], ())
    assert set(found.files()) == files
    assert found.folders == {str(tmp_path / name) for name in (".", "pack", "pack/sub", "data")}
    assert found.is_relevant(str(tmp_path / "data" / "__init__.py"))


def test_a_file_and_one_that_is_not_there(tmp_path: Path) -> None:
    here = write(tmp_path / "here" / "a.py")
    write(tmp_path / "here" / "b.py")
    found = survey([here, str(tmp_path / "gone" / "c.py"), "entry-points"], ("entry-point:x",))
    assert list(found.files()) == [here]
    assert found.folders == {str(tmp_path / "here"), str(tmp_path)}


def test_what_was_done_to_a_file(tmp_path: Path) -> None:
    digests, path = FileDigests(), write(tmp_path / "a.py")
    assert digests.check(path) == "changed"
    digests.record(path)
    assert digests.check(path) == "same"
    os.utime(path, (1, 1))
    assert digests.check(path) == "same"
    write(tmp_path / "a.py", "y = 1\n")
    assert digests.check(path) == "changed"
    write(tmp_path / "a.py", "y = ")
    assert digests.check(path) == "doubtful"
    Path(path).unlink()
    assert digests.check(path) == "gone"
    digests.forget(path)
    assert digests.check(path) == "same"


def test_doubts_are_given_time(tmp_path: Path) -> None:
    digests = FileDigests()
    debouncer = ChangeDebouncer(digests)
    half, whole = write(tmp_path / "half.py", "x ="), write(tmp_path / "whole.py")
    debouncer.add([half, whole])
    first = debouncer.settle(0.0)
    assert (first.changed, first.gone) == ({whole}, set())
    assert debouncer.due is not None
    assert debouncer.settle(0.2).changed == set()
    write(tmp_path / "half.py", "x = (")  # goes on: the time begins again
    assert debouncer.settle(0.26).changed == set()
    assert debouncer.settle(0.5).changed == set()
    assert debouncer.settle(0.52).changed == {half}
    assert debouncer.due is None


def test_a_file_that_is_gone_for_a_moment_is_not_gone(tmp_path: Path) -> None:
    digests, path = FileDigests(), write(tmp_path / "a.py")
    digests.record(path)
    debouncer = ChangeDebouncer(digests)
    Path(path).unlink()
    debouncer.add([path])
    assert debouncer.settle(0.0).gone == set()
    write(tmp_path / "a.py")
    assert debouncer.settle(0.1).gone == set()
    assert debouncer.due is None
    Path(path).unlink()
    debouncer.add([path])
    debouncer.settle(1.0)
    assert debouncer.settle(1.3).gone == {path}


def test_a_folder_however_deep_is_surveyed(tmp_path: Path) -> None:
    write(tmp_path / "p" / "__init__.py")
    handle = os.open(tmp_path / "p", os.O_RDONLY)
    for _ in range(1_200):  # by descriptors: the whole path is longer than the system takes
        os.mkdir("d", dir_fd=handle)
        handle, outer = os.open("d", os.O_RDONLY, dir_fd=handle), handle
        os.close(outer)
    os.close(handle)
    try:
        for found in (survey([str(tmp_path)], ()), survey([], [str(tmp_path / "p")])):
            assert len([path for path in found.folders if path.startswith(f"{tmp_path}/p")]) == 65
    finally:
        subprocess.run(["rm", "-r", str(tmp_path / "p")], check=True)  # Python 3.11 cannot remove it


def test_a_chain_of_links_is_followed_as_far_as_the_system_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would resolve the whole chain for each file, and recurse for each link."""
    count, followed = 1500, 40
    paths = [str(tmp_path / f"l{number:04}.py") for number in range(count + 1)]
    for path, target in itertools.pairwise(paths):
        os.symlink(os.path.basename(target), path)
    (tmp_path / os.path.basename(paths[-1])).write_text("")
    read: list[object] = []
    readlink = os.readlink

    def counted(path: str) -> str:
        read.append(path)
        return readlink(path)

    monkeypatch.setattr(os, "readlink", counted)
    found = survey([str(tmp_path)], paths)
    assert found.single == {*paths}
    assert found.bare == {str(tmp_path)}
    assert len(read) <= followed * followed
    assert aliases(paths[0]) == (paths[0], paths[0])
    assert aliases(paths[-followed]) == (paths[-followed], paths[-1])
