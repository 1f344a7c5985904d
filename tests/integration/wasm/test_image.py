"""The guest's image is built once, and never loaded from a folder that others may write, or if it was changed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from microkernel.errors import IsolationUnavailable
from microkernel.hosts.wasm import image
from microkernel.hosts.wasm.image import DAMAGED, STEPS, Image


@pytest.fixture
def built(tmp_path: Path) -> Image:
    """Return a copy, in a separate folder, of the image that is built for all tests."""
    image = Image().ensure()
    folder = tmp_path / "wasm"
    folder.mkdir(mode=0o700)
    for file in (image, image.with_suffix(".sha256")):
        shutil.copy(file, folder)
    shutil.copytree(Image().library, folder / Image().library.name)
    return Image(folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the build, which takes ten seconds."""

    def run(command: Sequence[str], folder: Path) -> None:
        for target in (folder / "guest.wasm", folder / Image().path.name):
            target.write_bytes(b"new")

    monkeypatch.setattr(image, "_run", run)


def test_an_image_is_built_once(built: Image) -> None:
    assert built.is_built()
    steps: list[str] = []
    assert built.ensure(steps.append).parent == built.folder
    assert steps == []


def _altered(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"another's code")


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Image], object]] = {
    "altered": lambda image: _altered(image.path),
    "cut short": lambda image: os.truncate(image.path, 1000),
    "a folder": lambda image: _a_folder(image.path),
    "a link": lambda image: (image.path.unlink(), image.path.symlink_to("/etc/passwd")),
    "no checksum": lambda image: image._seal.write_bytes(b""),
    "no text for a checksum": lambda image: image._seal.write_bytes(b"\xff\xfe"),
    "a folder for a checksum": lambda image: _a_folder(image._seal),
    "a module altered": lambda image: (image.library / "json" / "__init__.py").write_text("another's code"),
    "a module gone": lambda image: (image.library / "abc.py").unlink(),
    "a module more": lambda image: (image.library / "more.py").touch(),
    "no library": lambda image: shutil.rmtree(image.library),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_image_is_rebuilt_and_never_loaded(
    damage: Callable[[Image], object], built: Image, quick: None
) -> None:
    damage(built)
    steps: list[str] = []
    assert built.ensure(steps.append).read_bytes() == b"new"
    assert steps == [DAMAGED, *STEPS]
    assert built.ensure(steps.append).read_bytes() == b"new"
    assert len(steps) == 1 + len(STEPS)


@pytest.fixture
def times_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Record each time that the image is read completely."""
    read: list[Path] = []
    real = image._digest

    def counted(image: Path, library: Path) -> str:
        read.append(image)
        return real(image, library)

    monkeypatch.setattr(image, "_digest", counted)
    return read


def test_a_process_verifies_an_image_once(
    built: Image, times_read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_SETTLED", 0)
    for _ in range(3):
        built.ensure()
    assert times_read == [built.path]


def test_an_image_that_has_just_changed_is_verified_again(
    built: Image, times_read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_SETTLED", 3600_000_000_000)
    for _ in range(2):
        built.ensure()
    assert times_read == [built.path] * 2


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_image_that_was_damaged_after_its_verification_is_not_loaded(
    damage: Callable[[Image], object], built: Image, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_SETTLED", 0)
    steps: list[str] = []
    built.ensure(steps.append)
    assert steps == []
    damage(built)
    assert built.ensure(steps.append).read_bytes() == b"new"
    assert steps == [DAMAGED, *STEPS]


def test_a_damaged_image_that_cannot_be_rebuilt_is_not_loaded(built: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_COMPONENTIZE", "raise SystemExit('the disk is full')")
    _altered(built.path)
    for _ in range(2):
        with pytest.raises(IsolationUnavailable, match="the disk is full"):
            built.ensure()


def test_an_image_built_ahead_is_used_from_a_read_only_folder(built: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def read_only(path: Any, flags: int, *mode: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *mode)

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    (built.folder / "lock").touch(0o600)
    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "utime", refuse)
    assert built.ensure() == built.path


def test_the_next_build_removes_what_a_killed_build_left(tmp_path: Path, quick: None) -> None:
    image = Image(tmp_path / "wasm")
    (image.folder / "building-x" / "tree").mkdir(parents=True)
    image.folder.chmod(0o700)
    image.ensure()
    made = [image.path.name, image.library.name, image._seal.name, "lock"]
    assert sorted(path.name for path in image.folder.iterdir()) == sorted(made)


def test_another_builder_is_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder brings the interpreter. If it was removed, the image that it built is still valid."""
    versions = {"wasmtime": "1.0", "componentize-py": "1.0"}
    monkeypatch.setattr(image, "_version_of", lambda package: versions.get(package, ""))
    first = Image(tmp_path)
    first._seal.touch()
    versions["componentize-py"] = "2.0"
    assert Image(tmp_path).path != first.path
    del versions["componentize-py"]
    assert Image(tmp_path).path == first.path


def test_images_unused_for_long_are_removed(built: Image) -> None:
    for name, age in (("old", 31), ("young", 29)):
        for suffix in (".cwasm", ".sha256"):
            (built.folder / f"{name}{suffix}").touch()
        (built.folder / f"{name}.library" / "json").mkdir(parents=True)
        seen = (built.folder / f"{name}.sha256").stat().st_mtime - age * 24 * 3600
        os.utime(built.folder / f"{name}.sha256", (seen, seen))
    built._remove_unused()
    for suffix in (".cwasm", ".library", ".sha256"):
        assert sorted(path.stem for path in built.folder.glob(f"*{suffix}")) == sorted(["young", built.ensure().stem])


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_folder_that_others_can_write_is_refused(built: Image, mode: int) -> None:
    os.chmod(built.folder, mode)
    with pytest.raises(IsolationUnavailable, match="must belong to you alone"):
        built.ensure()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "find_spec", lambda name: None)
    with pytest.raises(IsolationUnavailable, match=r'pip install "microkernel\[wasm\]"'):
        Image(tmp_path / "new").ensure()


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tree: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(image, "_gather", full)
    with pytest.raises(IsolationUnavailable, match=r"could not be built in .*: No space left on device"):
        Image(tmp_path / "new").ensure()


def test_a_build_that_fails_leaves_nothing_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_COMPONENTIZE", "raise SystemExit('the disk is full')")
    broken, steps = Image(tmp_path / "new"), list[str]()
    with pytest.raises(IsolationUnavailable, match="the disk is full"):
        broken.ensure(steps.append)
    assert steps == [*STEPS[:2]]
    assert [path.name for path in broken.folder.iterdir()] == ["lock"]
