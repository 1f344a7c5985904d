"""What is shown of one plugin leaves room for the others, whatever it keeps in the kernel."""

from __future__ import annotations

import logging

from microkernel.kernel.registry.record import LogRecord
from microkernel.kernel.reporting.plugin_info import OF_ALL, OF_ONE, ShownValues
from microkernel.kernel.service.plugin_service import _LONGEST_LOG, _newest
from microkernel.wire.codec import MAX_PAYLOAD, encode
from microkernel.wire.messages import Log
from tests.unit.kernel.test_rate_limit import Plugin


def test_large_values_of_one_plugin_are_named_and_not_decoded() -> None:
    shown = ShownValues()
    lists = b"\xdd" + (15_000_000).to_bytes(4, "big") + b"\x90" * 15_000_000
    assert shown.value("p", lists) == "<15,000,005 bytes, too many to be shown here>"
    assert shown.value("p", encode([[]] * 200_000)) == "<200,005 bytes of very many values>"
    assert shown.value("p", encode(bytes(300_000))) == bytes(300_000)
    assert shown.value("p", encode([1, 2])) == [1, 2]
    assert "no value" in shown.value("p", b"\xc1")


def test_many_values_of_one_plugin_leave_room_for_the_others() -> None:
    shown, value = ShownValues(), encode(bytes(1000))
    decoded = [shown.value("greedy", value) for _ in range(100_000)].count(bytes(1000))
    assert decoded == OF_ONE // len(value)
    assert shown.value("other", value) == bytes(1000)
    for number in range(1000):
        shown.value(f"p{number}", encode(bytes(OF_ONE - 100)))
    assert shown._left >= 0
    assert OF_ALL < MAX_PAYLOAD


def lines(count: int, text: str) -> list[LogRecord]:
    return [LogRecord("p", float(number), logging.INFO, "log", text) for number in range(count)]


def test_shown_log_fits_into_a_reply() -> None:
    few = lines(10, "text")
    assert _newest(few) == few
    wide = _newest(lines(4000, "\U0001f600" * 16_000))
    assert len(encode([line.text for line in wide])) < MAX_PAYLOAD
    assert wide[-1].time == 3999.0
    assert len(wide) == _LONGEST_LOG // 64_000


def test_log_line_time_is_capped_at_the_present_and_not_negative() -> None:
    plugin = Plugin()
    log = plugin.journal.on_log
    for time in (1e300, float("inf"), -5.0, 0.5):
        log(plugin.record, Log(20, "text", time))
    assert [line.time for line in plugin.record.logs] == [1.0, 0.0, 0.0, 0.5]
