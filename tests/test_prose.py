"""`tools/prose.py` finds wordings that are refused, in prose and not in code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.prose import REFUSED, findings_in


def patterns_found(path: Path) -> list[str]:
    return [each.pattern for each in findings_in(path, REFUSED)]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("The kernel is told of it.", "told"),
        ("It is started anew.", "anew"),
        ("A thread of its own.", "of its own"),
        ("Work belongs into a thread.", "belongs into"),
        ("Who looks nowhere may name others.", "who for code"),
        ("It waits for the plugin, who answers.", "who for code"),
    ],
)
def test_refused_wordings_are_found_in_docstrings_comments_and_documents(
    tmp_path: Path, text: str, pattern: str
) -> None:
    (module := tmp_path / "module.py").write_text(f'"""Module."""\n\nX = 1  # {text}\n"""{text}"""\n')
    (document := tmp_path / "document.md").write_text(f"# Title\n\n{text}\n")
    assert patterns_found(module) == [pattern, pattern]
    assert patterns_found(document) == [pattern]


@pytest.mark.parametrize("text", ["An operator who reads this.", "Those who wrote it.", "Who is waiting?"])
def test_who_is_for_people_and_questions(tmp_path: Path, text: str) -> None:
    (document := tmp_path / "document.md").write_text(text)
    assert patterns_found(document) == []


def test_code_is_not_prose(tmp_path: Path) -> None:
    (module := tmp_path / "module.py").write_text('told = "anew"  # the list `told` in ``of its own``\n')
    (document := tmp_path / "document.md").write_text("Call `told`.\n\n```python\ntold = 1  # anew\n```\n")
    assert patterns_found(module) == patterns_found(document) == []


def test_a_finding_has_its_line(tmp_path: Path) -> None:
    (document := tmp_path / "document.md").write_text("# Title\n\nGood.\n\nIt is told.\n")
    assert [each.line for each in findings_in(document, REFUSED)] == [5]
