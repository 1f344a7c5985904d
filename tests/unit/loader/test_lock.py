"""``microkernel.lock``: written locks can be read, and an unreadable lock is never overwritten."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from microkernel.errors import ConfigError
from microkernel.kernel.admission.permissions import of_fields
from microkernel.kernel.manifest import NO_PERMISSIONS, Approval
from microkernel.loader import lock_guard
from microkernel.loader.lock import LockFile, parse, render

MAILER = Approval(
    "2.0",
    "ab12",
    of_fields({"net": ["smtp.example.com:587", "a.example.com:1"], "data.read": ["rates.*"], "kernel": ["observe"]}),
    {"mailer.py": "aa", 'da ta/odd "name"\x7f\n.txt': "bb"},
)
BARE = Approval("", "cd34", NO_PERMISSIONS)


def same(one: Approval) -> Approval:
    """Return an approval with sorted lists."""
    fields = {name: sorted(getattr(one.permissions, name)) for name in ("emit", "net", "data_read", "kernel")}
    return Approval(one.version, one.digest, of_fields(fields), dict(one.files))


def test_written_locks_can_be_read() -> None:
    read = parse(render({"mailer": MAILER, "bare": BARE}), "microkernel.lock")
    assert {name: same(each) for name, each in read.items()} == {"mailer": same(MAILER), "bare": same(BARE)}


def test_the_text_is_sorted_and_the_same_each_time() -> None:
    text = render({"mailer": MAILER, "bare": BARE})
    assert text == render({"bare": BARE, "mailer": MAILER}) == render(parse(text, "x"))
    assert text.index("[plugin.bare]") < text.index("[plugin.mailer]")
    assert 'net = ["a.example.com:1", "smtp.example.com:587"]' in text


def test_a_place_below_the_folder_of_the_lock_is_written_relative_to_it(tmp_path: Path) -> None:
    inside, outside = str(tmp_path / "plugins" / "a.py"), "/srv/plugins/b"
    path = tmp_path / "microkernel.lock"
    lock = LockFile(str(path))
    for name, place in (("a", inside), ("b", outside), ("c", "entry-point:c")):
        lock.keep(name, Approval("1", "d", NO_PERMISSIONS, path=place))
    assert 'path = "plugins/a.py"' in path.read_text(encoding="utf-8")
    assert {name: each.path for name, each in LockFile(str(path)).read().items()} == {
        "a": inside, "b": outside, "c": "entry-point:c",
    }  # fmt: skip


def test_half_characters_do_not_stop_it() -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    assert parse(render({"p": Approval("1", "d", NO_PERMISSIONS, {name: "aa"})}), "x")["p"].files == {
        "caf\\udce9.txt": "aa"
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("format = 1\n[plugin.a\n", "line 2"),
        ("<<<<<<< HEAD\nformat = 1\n", "line 1"),
        ("", "format is not given"),
        ("format = 2\n", "format is 2"),
        ("format = 1\nplugins = 1\n", "plugins"),
        ('format = 1\n[plugin.a]\nversion = "1"\n[plugin.a.permissions]\n', "plugin.a: digest is missing"),
        ('format = 1\n[plugin.a]\nversion = "1"\ndigest = "d"\n', "plugin.a: permissions is missing"),
        ('format = 1\n[plugin.a.permissions]\nnett = ["a:1"]\n', "did you mean 'plugin.a.permissions.net'"),
        ('format = 1\n[plugin.a.permissions]\nnet = "a:1"\n', "plugin.a.permissions.net"),
    ],
)
def test_a_broken_one_is_one_error_and_stays(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "microkernel.lock"
    path.write_text(text, encoding="utf-8")
    lock = LockFile(str(path))
    for use in (lock.read, lambda: lock.keep("mailer", MAILER)):
        with pytest.raises(ConfigError) as caught:
            use()
        assert caught.value.id == "MK0414"
        assert reason in caught.value.text
        assert "microkernel.lock" in caught.value.text
    assert path.read_text(encoding="utf-8") == text
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_is_not_there_has_approved_nothing(tmp_path: Path) -> None:
    assert LockFile(str(tmp_path / "microkernel.lock")).read() == {}


def test_two_kernels_keep_what_the_other_wrote(tmp_path: Path) -> None:
    one, other = (LockFile(str(tmp_path / "microkernel.lock")) for _ in range(2))
    one.keep("mailer", MAILER)
    other.keep("bare", BARE)
    one.keep("third", BARE)
    assert sorted(other.read()) == ["bare", "mailer", "third"]
    assert [each.name for each in tmp_path.iterdir()] == ["microkernel.lock"]


def test_a_lock_on_the_folder_does_not_block_writing(tmp_path: Path) -> None:
    """Every program that may read the folder can lock it, including a plugin."""
    path = tmp_path / "microkernel.lock"
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        LockFile(str(path)).keep("mailer", MAILER)
    finally:
        os.close(handle)
    assert "mailer" in LockFile(str(path)).read()


@pytest.mark.parametrize("is_homeless", [False, True])
def test_a_lock_that_is_held_without_end_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_homeless: bool
) -> None:
    monkeypatch.setattr(lock_guard, "PATIENCE", 0.05)
    path = tmp_path / "microkernel.lock"
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(path if is_homeless else tmp_path / "cache"))
    path.write_text("format = 1\n", encoding="utf-8")
    with lock_guard.held(str(path)), pytest.raises(ConfigError, match=r"MK0414.*another program has held its lock"):
        LockFile(str(path)).keep("mailer", MAILER)
    assert path.read_text(encoding="utf-8") == "format = 1\n"
    LockFile(str(path)).keep("mailer", MAILER)


def test_changes_written_without_the_lock_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "microkernel.lock"
    one = LockFile(str(path))
    one.keep("mailer", MAILER)
    theirs = [render({"mailer": MAILER, "other": BARE}), render({"mailer": MAILER, "other": BARE, "more": BARE})]
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        if theirs:
            path.write_text(theirs.pop(0), encoding="utf-8")

    monkeypatch.setattr(os, "fsync", fsync)
    one.keep("third", BARE)
    assert sorted(LockFile(str(path)).read()) == ["mailer", "more", "other", "third"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["microkernel.lock"]


def test_a_change_by_hand_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "microkernel.lock"
    lock = LockFile(str(path))
    lock.keep("mailer", MAILER)
    assert "mailer" in lock.read()
    path.write_text("format = 1\n", encoding="utf-8")
    assert lock.read() == {}


def test_only_its_owner_may_write_it_whatever_the_umask(tmp_path: Path) -> None:
    for number, (mask, mode) in enumerate([(0o000, 0o644), (0o002, 0o644), (0o077, 0o600)]):
        path = tmp_path / f"{number}.lock"
        before = os.umask(mask)
        try:
            LockFile(str(path)).keep("mailer", MAILER)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "etc" / "mk.lock"
    real.parent.mkdir()
    link = tmp_path / "microkernel.lock"
    link.symlink_to(real)
    LockFile(str(link)).keep("mailer", MAILER)
    assert link.is_symlink()
    assert "mailer" in LockFile(str(real)).read()


def test_a_lock_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        LockFile(str(tmp_path / "no" / "microkernel.lock")).keep("mailer", MAILER)
    assert caught.value.id == "MK0414"
    assert "cannot be written" in caught.value.text


KILLED = """
import os, sys
from microkernel.loader import lock
from microkernel.kernel.manifest import NO_PERMISSIONS, Approval
os.replace = lambda *_: os._exit(9)
lock.LockFile(sys.argv[1]).keep("other", Approval("1", "d", NO_PERMISSIONS))
"""


def test_a_kernel_that_ends_in_the_middle_of_writing_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "microkernel.lock"
    LockFile(str(path)).keep("mailer", MAILER)
    before = path.read_bytes()
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == 9
    assert path.read_bytes() == before
