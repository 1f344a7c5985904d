"""The guest's image: built once, and never loaded from where others may write, nor when it is not what was built."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from microkernel.errors import IsolationUnavailable
from microkernel.hosts import _image
from microkernel.hosts._image import STEPS, Image


@pytest.fixture
def built(tmp_path: Path) -> Image:
    """A copy, in a folder of its own, of what is built for all tests."""
    image = Image().ready()
    folder = tmp_path / "wasm"
    folder.mkdir(mode=0o700)
    for file in (image, image.with_suffix(".sha256")):
        shutil.copy(file, folder)
    return Image(folder)


def test_what_is_built_is_built_once(built: Image) -> None:
    assert built.is_built()
    steps: list[str] = []
    assert built.ready(steps.append).parent == built.folder
    assert steps == []


def test_what_is_not_what_was_built_is_never_loaded(built: Image) -> None:
    path = built.ready()
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"another's code")
    with pytest.raises(IsolationUnavailable, match="is not what was built"):
        built.ready()
    assert not built.is_built()


def test_versions_that_nobody_used_for_long_are_dropped(built: Image) -> None:
    for name, age in (("old", 31), ("young", 29)):
        for suffix in (".cwasm", ".sha256"):
            (built.folder / f"{name}{suffix}").touch()
        seen = (built.folder / f"{name}.sha256").stat().st_mtime - age * 24 * 3600
        os.utime(built.folder / f"{name}.sha256", (seen, seen))
    built._forget_unused()
    assert sorted(path.stem for path in built.folder.glob("*.cwasm")) == sorted(["young", built.ready().stem])


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_folder_that_is_not_ours_alone_is_refused(built: Image, mode: int) -> None:
    os.chmod(built.folder, mode)
    with pytest.raises(IsolationUnavailable, match="must be yours alone"):
        built.ready()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_image, "find_spec", lambda name: None)
    with pytest.raises(IsolationUnavailable, match=r'pip install "microkernel\[wasm\]"'):
        Image(tmp_path / "new").ready()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tree: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_image, "_gather", full)
    with pytest.raises(IsolationUnavailable, match=r"could not be built in .*: No space left on device"):
        Image(tmp_path / "new").ready()


def test_a_build_that_fails_leaves_nothing_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_image, "_COMPONENTIZE", "raise SystemExit('the disk is full')")
    image, steps = Image(tmp_path / "new"), list[str]()
    with pytest.raises(IsolationUnavailable, match="the disk is full"):
        image.ready(steps.append)
    assert steps == [*STEPS[:2]]
    assert [path.name for path in image.folder.iterdir()] == ["lock"]
