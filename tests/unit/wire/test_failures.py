"""Which kernel errors an instance may report, and how others are converted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from microkernel.errors import CallFailed, error_types
from microkernel.wire.failures import OF_LOADING, OF_REPLIES, as_reported, to_error
from microkernel.wire.messages import Failure

SDK = Path(__file__).resolve().parents[3] / "src/microkernel/sdk"


@pytest.mark.parametrize("kind", sorted({*error_types()} - {*OF_REPLIES}))
def test_a_kernel_error_reported_by_a_callee_becomes_its_own_exception(kind: str) -> None:
    error = to_error(as_reported(Failure(kind, "MK0401", {"name": "p"}), OF_REPLIES), "q.m")
    assert isinstance(error, CallFailed)
    assert error.id == "MK0608"
    assert error.remote_type == kind


def test_an_id_of_another_error_class_is_not_accepted() -> None:
    for id in ("MK0501", "MK9999", "", "\x1b[2J", "MK0605\n", "x" * 1_000_000):
        error = to_error(as_reported(Failure("InvalidArguments", id, {"reason": "x"}), OF_REPLIES), "q.m")
        assert error.id == "MK0608"
        assert len(str(error)) < 500


def test_an_error_that_a_callee_may_report_is_unchanged() -> None:
    failure = Failure("InvalidArguments", "MK0605", {"reason": "x"})
    assert as_reported(failure, OF_REPLIES) is failure
    own = Failure(type="ValueError", message="x")
    assert as_reported(own, OF_REPLIES) is own


def test_every_error_that_the_sdk_raises_while_loading_may_be_reported() -> None:
    raised = {
        id
        for module in SDK.rglob("*.py")
        for id in re.findall(r'PluginLoadError\(\s*"(MK\d{4})"', module.read_text("utf-8"))
    }
    assert raised <= OF_LOADING["PluginLoadError"]
    assert len(raised) >= 5
