"""File names that are not UTF-8 do not end the watching, and a folder whose path is not UTF-8 is watched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import Open, Watched, source

BAD = os.fsdecode(b"caf\xe9.py")
SHOWN = r"caf\xe9"


def test_a_plugin_whose_file_name_is_not_utf_8_is_refused_alone(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", source(1))
    watched.write(BAD, source(1))
    begin()
    assert (watched.state(SHOWN), watched.kernel.info(SHOWN).error_id) == ("failed", "MK0108")
    watched.write("hello.py", source(2))
    watched.wait_for("hello", "MK0301")
    assert watched.value("hello") == 2


def test_such_a_file_that_comes_later_is_refused_and_watching_goes_on(watched: Watched, begin: Open) -> None:
    watched.write("hello.py", source(1))
    begin()
    for number in range(2, 5):
        watched.write(BAD, source(number))
        watched.until(lambda: SHOWN in [info.name for info in watched.kernel.list()])
        watched.write("hello.py", source(number))
        watched.wait_for("hello", "MK0301", number - 1)
        assert watched.value("hello") == number
    watched.settle()
    assert watched.kernel.info(SHOWN).error_id == "MK0108"


def test_such_a_file_that_is_removed_is_forgotten(watched: Watched, begin: Open) -> None:
    path = watched.write(BAD, source(1))
    begin()
    path.unlink()
    watched.until(lambda: SHOWN not in [info.name for info in watched.kernel.list()])
    path = watched.write("data.py", source(1))
    watched.wait_for("data", "MK0218")


def test_data_with_such_a_name_beside_a_plugin_reloads_it(watched: Watched, begin: Open) -> None:
    watched.write("pack/__init__.py", source(1))
    begin()
    watched.write(os.fsdecode(b"pack/caf\xe9.txt"), "data\n")
    watched.wait_for("pack", "MK0301")


@pytest.mark.parametrize("name", [b"p\xe9", b"\xff\xfe", b"caf\xe9/plugins"])
def test_a_folder_whose_path_is_not_utf_8(watched: Watched, begin: Open, tmp_path: Path, name: bytes) -> None:
    watched.folder = tmp_path / os.fsdecode(name)
    watched.write("hello.py", source(1))
    watched.write("pack/__init__.py", source(1))
    begin(watched.folder)
    for number in range(2, 4):
        watched.write("hello.py", source(number))
        watched.wait_for("hello", "MK0301", number - 1)
        assert watched.value("hello") == number
    watched.write("pack/__init__.py", source(2))
    watched.wait_for("pack", "MK0301")
    assert watched.value("pack") == 2
    watched.write("fresh.py", source(3))
    watched.wait_for("fresh", "MK0218")
    (watched.folder / "hello.py").unlink()
    watched.wait_for("hello", "MK0306")
