"""The ledger would see it: what is lost, late, uncounted or never answered. And what is no fault is none."""

from __future__ import annotations

import pytest

from tests.chaos.evidence import Fact, line, parse
from tests.chaos.ledger import SLACK, Ledger, Verdict

AUDIENCE = {"t": ["p"], "d": ["q"]}
OVERFLOW = {"p": "block", "q": "drop_oldest"}


def judged(*facts: str) -> Verdict:
    """Facts as ``kind who generation time words...``."""
    ledger = Ledger(AUDIENCE, OVERFLOW)
    for fact in facts:
        ledger.read(parse(fact))
    return ledger.verdict()


SENT = ("emitting harness 0 1.0 e1 t", "arrived harness 0 1.1 e1", "emitted harness 0 1.2 e1")
HANDLED = ("began p 1 1.3 e1 1", "done p 1 1.4 e1 1")


def test_parse_reverses_line() -> None:
    assert parse(line("done", "p", 3, 1.5, "e1", 2).decode()) == Fact("done", "p", 3, 1.5, ("e1", "2"))


def test_an_event_that_was_handled_is_not_lost() -> None:
    verdict = judged(*SENT, *HANDLED)
    assert (verdict.sent, verdict.deliveries, verdict.handled, verdict.redelivered) == (1, 1, 1, 0)
    assert verdict.problems == []


def test_event_that_was_not_handled_is_lost() -> None:
    assert len(judged(*SENT).lost) == 1


def test_event_whose_handler_only_started_is_lost() -> None:
    assert len(judged(*SENT, HANDLED[0]).lost) == 1


def test_a_dead_letter_is_not_lost() -> None:
    verdict = judged(*SENT, "dead p 0 2.0 e1")
    assert (verdict.dead, verdict.problems) == (1, [])


def test_an_event_handled_twice_is_counted_as_redelivered() -> None:
    verdict = judged(*SENT, *HANDLED, "began p 2 2.0 e1 2", "done p 2 2.1 e1 2")
    assert (verdict.handled, verdict.redelivered, verdict.problems) == (1, 1, [])


def test_an_event_that_never_reached_the_kernel_is_lost() -> None:
    assert "never arrived" in judged(SENT[0], SENT[2]).lost[0]


def test_event_whose_emit_never_returned_need_not_be_handled() -> None:
    verdict = judged(*SENT[:2])
    assert (verdict.sent, verdict.unreturned, verdict.problems) == (0, 1, [])


@pytest.mark.parametrize(("when", "lost"), [(1.1, 0), (1.3, 1)])
def test_events_emitted_after_the_kill_need_not_arrive(when: float, lost: int) -> None:
    facts = ("emitting x 4 1.0 e1 t", "emitted x 4 1.2 e1", f"cut x 4 {when} {when}")
    assert len(judged(*facts).lost) == lost


def test_kill_of_another_generation_does_not_excuse_a_loss() -> None:
    assert len(judged("cut x 3 0.5 0.5", "emitting x 4 1.0 e1 t", "emitted x 4 1.2 e1").lost) == 1


@pytest.mark.parametrize(("since", "until", "lost"), [(0.5, 0.9, 1), (0.5, 1.05, 0), (1.05, 2.0, 0), (1.15, 2.0, 1)])
def test_only_a_listener_stopped_during_the_emit_may_miss_the_event(since: float, until: float, lost: int) -> None:
    assert len(judged(*SENT, f"absent p 0 {until} {since}").lost) == lost


def test_dropped_events_must_match_the_drop_count() -> None:
    sent = ("emitting harness 0 1.0 e1 d", "arrived harness 0 1.1 e1", "emitted harness 0 1.2 e1")
    assert judged(*sent, "dropped q 0 9.0 1").problems == []
    assert len(judged(*sent, "dropped q 0 9.0 0").drops_wrong) == 1
    assert len(judged(*sent, "dropped q 0 9.0 2").drops_wrong) == 1


def test_drops_under_a_policy_that_never_drops_are_wrong() -> None:
    assert len(judged(*SENT, *HANDLED, "dropped p 0 9.0 1").drops_wrong) == 1


def test_handled_event_that_was_never_sent_is_a_stray() -> None:
    assert len(judged("began p 1 1.0 e9 1", "done p 1 1.1 e9 1").strays) == 1


def test_finished_handler_that_never_started_is_a_stray() -> None:
    assert len(judged(*SENT, HANDLED[1]).strays) == 1


CALLING = "calling harness 0 1.0 c1 0.5"


@pytest.mark.parametrize(("ended", "late"), [(1.5 + SLACK - 0.1, 0), (1.5 + SLACK + 0.1, 1)])
def test_a_call_is_late_beyond_its_deadline_and_the_slack(ended: float, late: int) -> None:
    assert len(judged(CALLING, f"called harness 0 {ended} c1 CallTimeout").late) == late


def test_time_in_which_the_caller_was_stopped_does_not_make_a_call_late() -> None:
    facts = ("calling x 2 1.0 c1 0.5", "called x 2 6.0 c1 value")
    assert judged(*facts, "stopped x 2 5.5 1.2").late == []
    assert len(judged(*facts, "stopped x 3 5.5 1.2").late) == 1


def test_a_call_without_an_end_is_unanswered_unless_its_caller_died() -> None:
    assert len(judged(CALLING).unanswered) == 1
    assert len(judged("calling x 2 1.0 c1 0.5", "last x 2 9.0").unanswered) == 1
    assert judged("calling x 2 1.0 c1 0.5", "last x 3 9.0").unanswered == []


@pytest.mark.parametrize("outcome", ["wrong", "MethodNotFound", "KernelClosed"])
def test_outcome_that_no_call_may_have_is_wrong(outcome: str) -> None:
    assert len(judged(CALLING, f"called harness 0 1.1 c1 {outcome}").wrong) == 1


def test_reported_trouble_is_a_problem() -> None:
    assert judged("trouble kernel 0 1.0 MK0699 at once").problems == ["troubles: kernel MK0699 at once"]
