"""Parts are not wired together after their construction, and the check of that bites."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import late_wiring


def test_nothing_sets_an_attribute_of_another_part() -> None:
    assert late_wiring.check(late_wiring.CHECKED) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("journal.bus = bus", ["journal.bus"]),
        ("self.journal.bus = bus", ["self.journal.bus"]),
        ("a, (journal.bus, b) = x", ["journal.bus"]),
        ("journal.count += 1", ["journal.count"]),
        ("journal.bus: EventBus = bus", ["journal.bus"]),
        ("setattr(journal, 'bus', bus)", ["setattr(journal, 'bus', bus)"]),
        ("self.bus = cls.other = bus", []),
        ("record.state = 'active'", []),
        ("target.counts.calls += 1", []),
        ("bus = journal.bus", []),
        ("import sys\nsys.stdout = output", []),
        ("from socket import socket\nsetattr(socket, name, refused)", []),
        ("from microkernel.sdk.runtime import threads\nthreads.clear = function", ["threads.clear"]),
        ("import microkernel.worker.main\nmicrokernel.worker.main.kept = 1", ["microkernel.worker.main.kept"]),
        ("_send.argtypes = (int,)", []),
        ("module.__name__ = name", []),
    ],
)
def test_what_is_found(line: str, found: list[str]) -> None:
    assert [target for _, target in late_wiring.late_wiring(line)] == found


def test_the_assembly_is_passed_over_and_others_are_named(tmp_path: Path) -> None:
    for name in ("assembly.py", "part.py"):
        (tmp_path / name).write_text("\njournal.bus = bus\n")
    assert late_wiring.check((tmp_path,)) == [f"{tmp_path / 'part.py'}:2: journal.bus is set from outside its object"]


def test_each_record_that_is_allowed_is_used() -> None:
    sources = [file.read_text() for folder in late_wiring.CHECKED for file in folder.rglob("*.py")]
    allowed = {*late_wiring.RECORDS, *late_wiring.OF_PYTHON}
    assert {name for name in allowed if any(f"{name}." in s or f"setattr({name}," in s for s in sources)} == allowed
