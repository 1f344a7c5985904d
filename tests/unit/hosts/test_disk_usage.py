"""Disk usage of a process counts files however they are hidden."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from microkernel.hosts.confined.disk_usage import Measuring, TooMany, free_space, growth, measure_disk
from microkernel.hosts.confined.protections import protections_of, threads_over
from microkernel.wire.messages import ConfinementReport

MiB = 1 << 20


def measured(measuring: Measuring) -> tuple[int, int]:
    """Return the result, and how many steps it took."""
    steps = 0
    while True:
        try:
            next(measuring)
        except StopIteration as ended:
            return ended.value, steps
        steps += 1


def used(folder: Path, limit: int = 1 << 40) -> int:
    return measured(measure_disk([str(folder)], os.getpid(), MiB, limit))[0]


def test_files_below_a_folder_count(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(bytes(3 * MiB))
    assert 3 * MiB <= used(tmp_path) < 4 * MiB


def test_a_folder_that_is_a_link_counts_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(bytes(3 * MiB))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert used(tmp_path / "link") >= 3 * MiB


@pytest.mark.parametrize("name", ["plain", "with\rreturn", "with\nnewline", "caf\udce9", "(deleted)", "tab\t"])
def test_a_mapped_file_without_a_name_counts_whatever_its_name_was(tmp_path: Path, name: str) -> None:
    with open(tmp_path / name, "w+b") as file:
        file.truncate(4096)
        mapped = mmap.mmap(file.fileno(), 4096)
    os.unlink(tmp_path / name)
    before = used(tmp_path)
    mapped.close()
    assert before - used(tmp_path) == MiB  # its size is unknown: it counts as the largest permitted file


def test_an_unnamed_file_that_only_another_thread_has_open_counts(tmp_path: Path) -> None:
    """A thread can leave the process's table of descriptors (``unshare``); ``/proc/<pid>/fd`` shows the main
    thread's."""
    opened, measured_now = threading.Event(), threading.Event()

    def hold() -> None:
        _unshare_descriptors()
        with open(tmp_path / "file", "wb") as file:
            os.unlink(tmp_path / "file")
            file.write(bytes(3 * MiB))
            file.flush()
            opened.set()
            measured_now.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert opened.wait(30)
    try:
        assert used(tmp_path) >= 3 * MiB
    finally:
        measured_now.set()
        thread.join()


def test_a_removed_folder_counts_while_it_is_open(tmp_path: Path) -> None:
    """Its entries are gone, but not the blocks that held their names."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}{'x' * 200}").touch()
    for file in folder.iterdir():
        file.unlink()
    before = used(tmp_path / "none")
    with closing_descriptor(os.open(folder, os.O_RDONLY)) as held:
        takes = os.fstat(held).st_blocks * 512
        if not takes:
            pytest.skip("a folder takes no blocks in this file system")
        folder.rmdir()
        assert used(tmp_path / "none") - before == takes


@contextmanager
def closing_descriptor(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_too_many_entries_are_refused_before_all_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.hosts.confined.disk_usage.MAX_ENTRIES", 100)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(49):
            (tmp_path / folder / str(number)).touch()
    assert used(tmp_path) > 0
    (tmp_path / "one more").touch()
    with pytest.raises(TooMany, match="over its bound: more than 100 files and folders"):
        used(tmp_path)


def test_more_mappings_than_the_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.hosts.confined.disk_usage.MAX_MAPPINGS", 5)
    with pytest.raises(TooMany, match="over its bound: more than 5 mappings of memory"):
        used(tmp_path)


def test_growth_adds_up_file_systems_and_ignores_freed_space() -> None:
    assert growth([100, 50], [70, 90]) == 30
    assert growth([], [70]) == 0


def test_free_space_is_reported_for_existing_folders(tmp_path: Path) -> None:
    assert free_space([str(tmp_path)])[0] > 0
    assert free_space([str(tmp_path / "none")]) == [0]


def _unshare_descriptors() -> None:
    import ctypes

    assert ctypes.CDLL(None, use_errno=True).unshare(0x400) == 0  # CLONE_FILES


def test_ten_thousand_empty_files_are_measured_in_steps(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / str(number)).touch()
    result, steps = measured(measure_disk([str(tmp_path)], os.getpid(), MiB, 1 << 40))
    assert result >= 10_000 * 4096
    assert steps >= 10_000 / 128


@pytest.mark.slow
def test_counting_stops_beyond_the_limit(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / str(number)).touch()
    result, steps = measured(measure_disk([str(tmp_path)], os.getpid(), MiB, 4 * MiB))
    assert result > 4 * MiB
    assert steps < 20


@pytest.fixture
def renamed() -> Iterator[None]:
    """Give this process a name that is not UTF-8, which appears in ``/proc/<pid>/status``."""
    comm = Path("/proc/self/comm")
    before = comm.read_bytes()
    comm.write_bytes(b"\xff\xfe:\rx")
    yield
    comm.write_bytes(before.rstrip(b"\n"))


@pytest.mark.usefixtures("renamed")
def test_a_process_whose_name_is_not_utf8_is_measured_like_any_other() -> None:
    assert threads_over(os.getpid(), 0).startswith("over its limit")
    assert protections_of(os.getpid(), ConfinementReport())["network"] == "unavailable"
