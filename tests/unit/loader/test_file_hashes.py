"""A large file is hashed once while it is unchanged, and again after any change."""

from __future__ import annotations

import hashlib
import json
import os
from io import BufferedReader
from pathlib import Path

import pytest

from microkernel.loader import file_hashes
from microkernel.loader.discovery import find
from microkernel.loader.file_hashes import SMALLEST, FileHashes, cache_file
from microkernel.loader.snapshot import take_snapshot


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the inodes of files that are read. All changes count as old."""
    seen: list[int] = []
    digest = hashlib.file_digest

    def counted(file: BufferedReader, name: str) -> object:
        seen.append(os.fstat(file.fileno()).st_ino)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    monkeypatch.setattr(file_hashes, "_SETTLED", -1)
    return seen


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(b"x" * SMALLEST)
    return path


def sha(hashes: FileHashes, path: Path) -> str:
    with path.open("rb") as file:
        return hashes.sha256(file).hex()


def right(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_is_read_once_also_by_the_next_kernel(tmp_path: Path, large: Path, read: list[int]) -> None:
    file = str(tmp_path / "cache" / "hashes")
    assert sha(FileHashes(file), large) == sha(FileHashes(file), large) == right(large)
    assert len(read) == 1
    assert os.stat(file).st_mode & 0o777 == 0o600


def test_a_change_is_seen_even_with_its_size_and_time_as_before(large: Path, read: list[int]) -> None:
    hashes = FileHashes()
    before, found = sha(hashes, large), large.stat()
    large.write_bytes(b"y" * SMALLEST)
    os.utime(large, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert sha(hashes, large) == right(large) != before
    assert len(read) == 2


def test_recently_changed_files_are_not_cached(large: Path, read: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "_SETTLED", 10**15)
    hashes = FileHashes()
    assert sha(hashes, large) == sha(hashes, large)
    assert len(read) == 2


def test_a_small_file_is_always_read(tmp_path: Path, read: list[int]) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"x")
    hashes = FileHashes()
    assert sha(hashes, path) == sha(hashes, path) == right(path)
    assert len(read) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": "zz"}', "[" * 100_000])
def test_an_invalid_cache_is_ignored(tmp_path: Path, large: Path, read: list[int], content: str) -> None:
    file = tmp_path / "hashes"
    file.write_text(content)
    file.chmod(0o600)
    assert sha(FileHashes(str(file)), large) == right(large)
    assert len(read) == 1
    assert list(json.loads(file.read_text()).values()) == [right(large)]


def test_a_cache_writable_by_others_is_ignored(tmp_path: Path, large: Path, read: list[int]) -> None:
    file = tmp_path / "hashes"
    sha(FileHashes(str(file)), large)
    lie = dict.fromkeys(json.loads(file.read_text()), "0" * 64)
    file.write_text(json.dumps(lie))
    file.chmod(0o666)
    assert sha(FileHashes(str(file)), large) == right(large)
    assert len(read) == 2


def test_where_it_cannot_be_kept_it_is_computed(large: Path, read: list[int]) -> None:
    assert sha(FileHashes("/dev/null/hashes"), large) == right(large)
    assert len(read) == 1


def test_only_so_many_are_kept(tmp_path: Path, large: Path, read: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "MOST", 1)
    other = tmp_path / "other.bin"
    other.write_bytes(b"z" * SMALLEST)
    hashes = FileHashes(str(tmp_path / "hashes"))
    for path in (large, other, other, large):
        assert sha(hashes, path) == right(path)
    assert len(read) == 3
    assert len(json.loads((tmp_path / "hashes").read_text())) == 1


def test_the_digest_of_a_plugin_covers_every_file(tmp_path: Path) -> None:
    place = tmp_path / "p"
    place.mkdir()
    (place / "__init__.py").write_text("class Plugin(Base): ...\n")
    data = place / "model.bin"
    data.write_bytes(b"x" * SMALLEST)
    first, again = take_snapshot(find(str(place)).path), take_snapshot(find(str(place)).path)
    data.write_bytes(b"x" * (SMALLEST - 1) + b"y")
    other = take_snapshot(find(str(place)).path)
    assert first.digest == again.digest != other.digest
    assert first.files["model.bin"] != other.files["model.bin"] == right(data)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_file() == "/somewhere/microkernel/file-hashes"
