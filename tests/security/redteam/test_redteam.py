"""Our own attempts to get out, run for real. ``./run redteam`` is the long form: all of them, as both users."""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import pytest

from tests.security.redteam import campaign, table
from tests.security.redteam.attempts import ALL
from tests.security.redteam.model import (
    ABSENT,
    CONFINED,
    LAYERS,
    LEVELS,
    NOWHERE,
    OPEN,
    SKIPPED,
    Attempt,
    Outcome,
    disagreement,
)

pytestmark = pytest.mark.timeout(400)  # who comes first waits for all attempts of a level, on a busy machine too
QUICK = [attempt for attempt in ALL if not attempt.slow]
AS_USER = [attempt for number, attempt in enumerate(QUICK) if number % 4 == 0]
RUNS = {("thread", "root"): QUICK, ("process", "root"): QUICK, ("sandbox", "root"): QUICK,
        ("wasm", "root"): QUICK,
        ("process", "user"): AS_USER, ("sandbox", "user"): AS_USER}  # fmt: skip
ORDINARY = {("thread", "user"): QUICK, ("process", "user"): QUICK, ("sandbox", "user"): QUICK,
            ("wasm", "user"): QUICK}  # fmt: skip
"""Where the tests themselves are run by an ordinary user."""


def _runs() -> dict[tuple[str, str], list[Attempt]]:
    import os

    return RUNS if os.geteuid() == 0 else ORDINARY


CASES = [(level, user, attempt) for (level, user), attempts in _runs().items() for attempt in attempts]


@cache
def _pool() -> dict[tuple[str, str], Future[dict[str, Outcome]]]:
    """All levels at once: most of the time they wait."""
    pool = ThreadPoolExecutor(len(_runs()))
    futures = {key: pool.submit(_outcomes, *key, tuple(each.name for each in tried)) for key, tried in _runs().items()}
    pool.shutdown(wait=False)
    return futures


def _outcomes(level: str, user: str, names: tuple[str, ...]) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in campaign.run(level, user, names)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "user", "attempt"), CASES, ids=[f"{level}-{user}-{attempt.name}" for level, user, attempt in CASES]
)
def test_an_attempt_comes_out_as_the_table_says(level: str, user: str, attempt: Attempt) -> None:
    try:
        outcome = _pool()[level, user].result()[attempt.name]
    except campaign.Unavailable as error:
        pytest.skip(f"{level} as {user}: {error}")
    assert disagreement(attempt, level, user, outcome) == ""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_docs_have_this_table(language: str) -> None:
    assert table.section_of(table.DOCS[language]) == table.render(language), "run: ./run redteam --write"


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len(ALL) >= 100
    assert [name for name, count in Counter(attempt.name for attempt in ALL).items() if count > 1] == []
    assert [zh for zh, count in Counter(attempt.zh for attempt in ALL).items() if count > 1] == []


def test_what_is_said_of_an_attempt_makes_sense() -> None:
    for each in ALL:
        said = {level: each.expected(level, "root") for level in LEVELS}
        assert {*said.values()} <= {OPEN, SKIPPED, NOWHERE, *LAYERS}, each.name
        confined = [said[level] for level in CONFINED]
        assert (OPEN in confined) == all(each.means), each.name
        assert SKIPPED not in confined, each.name
        assert said["wasm"] != NOWHERE, each.name


@pytest.mark.parametrize("attempt", [attempt for attempt in ALL if "microkernel" in attempt.code], ids=lambda a: a.name)
def test_what_an_attempt_imports_of_ours_exists(attempt: Attempt) -> None:
    """Also of the slow ones, which are not run here: a name that is gone would be found only by the long form."""
    for node in ast.walk(ast.parse(textwrap.dedent(f"def attempt():\n{textwrap.indent(attempt.code, ' ')}"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("microkernel"):
            for name in [each.name for each in node.names]:
                assert hasattr(import_module(node.module), name) or find_spec(f"{node.module}.{name}"), name


def test_what_should_have_failed_and_did_not_is_told() -> None:
    """The judge itself: nothing passes for blocked because it was not made, or by another layer."""
    attempt = next(each for each in ALL if each.sandbox == "landlock")
    assert disagreement(attempt, "sandbox", "root", Outcome(attempt.name, "blocked", "EACCES")) == ""
    for outcome in (("open", "nothing"), ("blocked", "NameError"), ("blocked", "ENOENT"), ("unknown", "")):
        assert disagreement(attempt, "sandbox", "root", Outcome(attempt.name, *outcome))
    assert disagreement(attempt, "process", "root", Outcome(attempt.name, "blocked", "EACCES"))


def test_what_a_guest_lacks_holds_only_where_that_is_said() -> None:
    lacks, gated = (next(each for each in ALL if each.expected("wasm", "root") == layer) for layer in ("wasm", "gate"))
    assert disagreement(lacks, "wasm", "root", Outcome(lacks.name, "blocked", ABSENT)) == ""
    assert disagreement(lacks, "wasm", "root", Outcome(lacks.name, "blocked", "nothing"))
    assert disagreement(lacks, "wasm", "root", Outcome(lacks.name, "blocked", "AttributeError"))
    assert disagreement(gated, "wasm", "root", Outcome(gated.name, "blocked", ABSENT))
