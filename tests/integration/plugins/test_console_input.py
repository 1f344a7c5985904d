"""Typed or pasted text as commands of the console."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from microkernel.plugins.console.commands import command_lines
from microkernel.plugins.console.prompt import _History
from microkernel.wire.folders import make_private


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("ps", ["ps"]),
        ("", []),
        ("  \n \r\n", []),
        ("ps\ninfo a\r\nstop a\rstart a\n\n  call a.b 1  ", ["ps", "info a", "stop a", "start a", "call a.b 1"]),
        ("emit t text='one\ntwo' n=1\nps", ["emit t text='one\ntwo' n=1", "ps"]),
        ('call a.b "it\'s"\nps', ['call a.b "it\'s"', "ps"]),
        ("ps\nemit t text='never closed\nstop a", ["ps", "emit t text='never closed\nstop a"]),
        ("info a\\\nps", ["info a\\\nps"]),
    ],
)
def test_each_line_is_a_command(text: str, commands: list[str]) -> None:
    assert command_lines(text) == commands


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_history_is_its_users_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_private(tmp_path / "state" / "console")
        history = _History(tmp_path / "state" / "console")
        history.store_string("call mailer.login secret")
        assert mode(tmp_path / "state" / "console" / "history") == 0o600
        assert mode(tmp_path / "state" / "console") == mode(tmp_path / "state") == 0o700
        assert [*history.load_history_strings()] == ["call mailer.login secret"]
    finally:
        os.umask(before)


def test_an_open_history_of_before_is_closed(tmp_path: Path) -> None:
    (tmp_path / "console").mkdir(mode=0o755)
    (tmp_path / "console" / "history").touch(0o644)
    _History(tmp_path / "console")
    assert (mode(tmp_path / "console"), mode(tmp_path / "console" / "history")) == (0o700, 0o600)


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir(mode=0o755)
    make_private(tmp_path / "given")
    assert mode(tmp_path / "given") == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "file")
