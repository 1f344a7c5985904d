"""The machinery of ``./run libraries``, with what needs no installation."""

from __future__ import annotations

import re

import pytest

from tests.integration.libraries.matrix import BEGIN, DOCS, Outcome, table, use
from tests.integration.libraries.uses import LIBRARIES, PURE, Library, packages

BY_NAME = {each.name: each for each in LIBRARIES}
_PORTS = (1, 1)


@pytest.mark.parametrize("level", ["thread", "process", "sandbox"])
def test_a_library_of_pythons_own_is_used_for_real(level: str) -> None:
    assert use(BY_NAME["sqlite3"], level, _PORTS) == Outcome("pass")


def test_what_is_refused_by_design_is_refused_with_its_reason() -> None:
    found = use(BY_NAME["subprocess"], "sandbox", _PORTS)
    assert (found.result, "MK0419" in found.fault) == ("refused", True)
    assert use(BY_NAME["subprocess"], "process", _PORTS) == Outcome("pass")


@pytest.mark.parametrize(("code", "result"), [("1 / 0", "fails"), ("result = False", "fails"), ("result = 1", "pass")])
def test_only_what_came_out_right_passes(code: str, result: str) -> None:
    assert use(Library("x", ("", ""), code), "process", _PORTS).result == result


def test_another_failure_than_the_meant_one_is_no_refusal() -> None:
    refused = {"process": ("by design", "")}
    assert use(Library("x", ("", ""), "1 / 0", refused=refused), "process", _PORTS).result == "fails"


def test_what_is_not_installed_is_not_tried() -> None:
    library = Library("x", ("", ""), "result = True", ("surely-not-installed-here",))
    assert use(library, "process", _PORTS) == Outcome("not here")


def test_a_row_says_what_happened_at_each_level() -> None:
    outcomes = {level: {"subprocess": Outcome("pass")} for level in PURE[:2]} | {
        "sandbox": {"subprocess": Outcome("refused", "MK0419")}, "wasm": {},
    }  # fmt: skip
    text = table(outcomes, "en")
    assert "| subprocess | part of Python | run a program | pass | pass | refused | — |" in text
    assert "- subprocess, `sandbox`: starts no processes" in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_docs_have_a_row_for_each_library_and_no_failure(language: str) -> None:
    text = DOCS[language].read_text(encoding="utf-8").partition(BEGIN)[2]
    rows = re.findall(r"^\| ([^|]+) \|", text, re.M)[2:]
    assert rows == [each.name for each in LIBRARIES], "run: ./run libraries --write"
    assert not re.search(r"\| (fails|失败|not here|此处没有) \|", text)


def test_each_library_has_a_use_in_both_languages() -> None:
    assert len(packages()) > 25
    for each in LIBRARIES:
        assert all(each.use), each.name
        assert {*each.refused} <= {*each.levels}, each.name
