"""Each example does what its docstrings say, and the same at both levels."""

from __future__ import annotations

import ast
import re
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from microkernel.errors import CallFailed, InvalidArguments, ReloadFailed
from tests.harness.waiting import eventually

from .conftest import EXAMPLES, Run


def test_hello_is_as_a_beginner_writes_it_and_greets(run: Run) -> None:
    source = (EXAMPLES / "hello" / "hello.py").read_text(encoding="utf-8")
    assert "///" not in source
    assert [path.name for path in (EXAMPLES / "hello").iterdir() if path.name != "__pycache__"] == ["hello.py"]

    kernel, seen = run("hello")
    kernel.emit("greet", name="Ada")
    kernel.emit("greet", name="Bo")
    assert seen.wait("greeting", 2) == [{"text": "Hello, Ada!"}, {"text": "Hello, Bo!"}]
    kernel.stop("hello")
    assert seen.wait("hello.stopped") == [{"text": "Goodbye."}]


def test_events_go_by_pattern_in_order_and_once(run: Run) -> None:
    kernel, seen = run("events")
    for city, celsius in (("Oslo", -4.5), ("Rome", 20.5), ("Oslo", 3.0), ("Oslo", -1.0)):
        kernel.emit("measured", city=city, celsius=celsius)
    noted = seen.wait("almanac.noted", 6)
    assert [note["topic"] for note in noted] == [
        "weather.oslo.temperature",
        "weather.oslo.frost",
        "weather.rome.temperature",
        "weather.oslo.temperature",
        "weather.oslo.temperature",
        "weather.oslo.frost",
    ]
    assert noted[0] == {"topic": "weather.oslo.temperature", "by": "station", "celsius": -4.5, "rest": ["city"]}
    records = [(record["city"], record["celsius"]) for record in seen.of("almanac.record")]
    assert records == [("Oslo", -4.5), ("Rome", 20.5), ("Oslo", 3.0)]
    assert seen.of("almanac.first_frost") == [{"city": "oslo"}]


def test_an_event_that_does_not_fit_its_hints_is_a_dead_letter(run: Run) -> None:
    kernel, seen = run("events")
    kernel.emit("measured", city="Oslo", celsius="warm")
    kernel.emit("measured", city="Oslo", celsius=1.0)
    seen.wait("almanac.noted")
    eventually(lambda: kernel.dead_letters("station"))
    (letter,) = kernel.dead_letters("station")
    assert letter["data"] == {"city": "Oslo", "celsius": "warm"}
    assert "celsius" in letter["reason"]


def test_calls_are_typed_and_mistakes_come_back_to_the_caller(run: Run) -> None:
    kernel, _ = run("calls")
    basket = [{"item": "tea", "count": 2}, {"item": "cake"}]
    assert kernel.call("cashier.total", basket, returns=Decimal) == Decimal("7.95")
    kernel.call("prices.change", item="tea", price="2.60")
    assert kernel.call("cashier.total", basket, returns=Decimal) == Decimal("8.35")
    assert [kernel.call("cashier.sells", item) for item in ("tea", "rope")] == [True, False]
    with pytest.raises(InvalidArguments):
        kernel.call("prices.change", "tea", "a lot")
    with pytest.raises(CallFailed, match="rope"):
        kernel.call("cashier.total", [{"item": "rope"}])


def test_the_board_is_watched_and_a_key_goes_with_its_owner(run: Run) -> None:
    kernel, seen = run("context")
    assert kernel.get_data("rates.EUR") == 1.0
    kernel.emit("quoted", currency="CNY", rate=7.0)
    kernel.emit("quoted", currency="CNY", rate=7.5)
    assert [quoted["revision"] for quoted in seen.wait("exchange.quoted", 2)] == [1, 2]
    assert kernel.call("display.convert", 2.0, "CNY") == 15.0
    kernel.emit("withdrawn", currency="CNY")
    eventually(lambda: {"key": "rates.CNY", "value": None, "revision": 0} in seen.of("display.shows"))
    shown = [show for show in seen.of("display.shows") if show["key"] == "rates.CNY"]
    assert [(show["value"], show["revision"]) for show in shown] == [(7.0, 1), (7.5, 2), (None, 0)]
    kernel.unload("exchange")
    assert kernel.get_data("rates.EUR") is None


def test_two_who_count_in_one_key_lose_nothing(run: Run) -> None:
    kernel, seen = run("context")
    for _ in range(4):
        kernel.emit("sold", count=25)
    seen.wait("shop.added", 8)
    assert kernel.get_data("shop.sold") == 200


def test_timers_beat_ring_and_end(run: Run) -> None:
    kernel, seen = run("timers")
    kernel.emit("alarm.set", seconds=0.1, text="tea")
    assert seen.wait("alarm.rings") == [{"text": "tea"}]
    numbers = [beat["number"] for beat in seen.wait("ticker.beat", 3)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    seen.wait("ticker.worked", 2)
    assert kernel.stop("ticker").state == "stopped"
    (stopped,) = seen.wait("ticker.stopped")
    assert stopped["beats"] >= numbers[-1]


def test_async_handlers_interleave(run: Run) -> None:
    kernel, seen = run("asynchronous")
    questions = [f"question {number}" for number in range(10)]
    kernel.emit("wonder", questions=questions)
    kernel.emit("ping", number=7)
    assert seen.wait("crowd.pong") == [{"number": 7}]
    assert seen.wait("crowd.answered") == [{"answers": [f"{question}? Perhaps." for question in questions]}]
    assert kernel.call("oracle.most_at_once") > 1


def test_state_outlives_a_reload(run: Run) -> None:
    kernel, seen = run("state")
    for _ in range(3):
        kernel.emit("hit")
    report = kernel.reload("counter")
    assert (report.generation, report.leaked) == (2, [])
    kernel.emit("hit")
    assert kernel.call("counter.hits") == 4
    (took_over,) = seen.wait("counter.took_over")
    assert took_over["from_version"] == "1.0"


def test_changed_code_takes_over_and_broken_code_does_not(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "plugins" / "counter.py"
    source.parent.mkdir()
    shutil.copy(EXAMPLES / "state" / "counter.py", source)
    text = source.read_text(encoding="utf-8")
    kernel, _ = run(source.parent)
    kernel.emit("hit")
    assert kernel.call("counter.hits") == 1

    source.write_text(text.replace("STEP = 1", "STEP = 10").replace('version = "1.0"', 'version = "1.1"'))
    assert kernel.reload("counter").version == "1.1"
    kernel.emit("hit")
    assert kernel.call("counter.hits") == 11

    source.write_text(text.replace("STEP = 1", "STEP ="))
    with pytest.raises(ReloadFailed):
        kernel.reload("counter")
    kernel.emit("hit")
    assert kernel.call("counter.hits") == 21


def test_every_example_says_in_its_docstring_what_it_shows() -> None:
    plugins = [path for path in EXAMPLES.rglob("*.py") if path.parent.name not in ("stdlib_index", "parser_b")]
    assert len(plugins) > 15
    for path in plugins:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_every_folder_of_examples_is_in_their_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(re.findall(r"^\| \[\w+\]\((\w+)\)", readme, re.MULTILINE)) == folders
