"""How far a manifest moves limits and supervision without the operator."""

from __future__ import annotations

from dataclasses import fields, replace
from math import inf, nan

import pytest

from microkernel.kernel.admission import limit_bounds
from microkernel.kernel.admission.limit_bounds import (
    KEPT_WHEN_CONFINED,
    changes,
    fixed_by,
    is_covered,
    keep_within,
    lower,
    raised,
)
from microkernel.kernel.config import PluginConfig
from microkernel.kernel.manifest import CONFINED_LIMITS, Limits, Manifest, Supervision

GREEDY = Manifest(
    "p",
    limits=Limits(
        load=0, stop=1e9, drain=1e9, heartbeat=1e-6, memory=1000 << 30, threads=90_000, kernel_memory=0, mailbox=10**9
    ),
    supervision=Supervision(intensity=10**9, period=0, backoff=0, backoff_max=0),
    concurrency=10**9,
)
UNSET = {name: most for name, most in KEPT_WHEN_CONFINED.items() if name != "kernel_memory"}
MODEST = Manifest(
    "p",
    limits=Limits(
        load=1, stop=0.5, drain=0, kill_grace=0, heartbeat=1, memory=1 << 20, cpu=3, mailbox=1, kernel_memory=100
    ),
    supervision=Supervision(intensity=0, period=60, backoff=1, backoff_max=60),
    concurrency=4,
)


def test_every_limit_and_number_of_supervision_has_a_bound() -> None:
    assert {*limit_bounds.LIMITS} == {each.name for each in fields(Limits)}
    assert {*limit_bounds.SUPERVISION, "restart"} == {each.name for each in fields(Supervision)}
    assert {*CONFINED_LIMITS} <= {*limit_bounds.LIMITS}


def test_default_limits_are_within_their_bounds_and_need_no_approval() -> None:
    assert keep_within(Manifest("p"), ()) == Manifest("p")
    for approved in ((), None):
        assert lower(Manifest("p"), (), approved) == Manifest("p", limits=Limits(**KEPT_WHEN_CONFINED))
    assert raised(Manifest("p"), ()) == ()
    assert changes(Manifest("p"), lower(Manifest("p"), (), ())) == []  # nobody set these


@pytest.mark.parametrize("name", ["load", "start", "drain", "stop", "kill_grace", "probation", "full_mailbox_timeout"])
@pytest.mark.parametrize("value", [0.0, 1e9, 2.0**62])
def test_waits_that_a_manifest_asks_for_are_bounded(name: str, value: float) -> None:
    held = getattr(keep_within(Manifest("p", limits=Limits(**{name: value})), ()).limits, name)
    assert 0.0 <= held <= 30.0
    zero_is_the_least = name in ("drain", "kill_grace", "probation", "full_mailbox_timeout")  # elsewhere 0 is no bound
    assert held > 0.0 or zero_is_the_least


def test_heartbeat_and_restart_delay_have_a_minimum() -> None:
    held = keep_within(GREEDY, ())
    assert held.limits.heartbeat == 0.25
    assert held.supervision == Supervision(intensity=1000, period=1.0, backoff=0.01, backoff_max=0.1)
    assert held.concurrency == 256


def test_unapproved_values_that_cost_more_are_the_defaults() -> None:
    held = lower(keep_within(GREEDY, ()), (), ())
    assert held.limits == Limits(heartbeat=0.25, memory=512 << 20, threads=64, **KEPT_WHEN_CONFINED)
    assert held.supervision == Supervision()


def test_manifest_may_lower_its_costs() -> None:
    assert lower(keep_within(MODEST, ()), (), ()).limits == replace(MODEST.limits, **UNSET)
    assert lower(keep_within(MODEST, ()), (), ()).supervision == MODEST.supervision


def test_costlier_values_need_approval_and_then_apply() -> None:
    asked = raised(GREEDY, ())
    assert asked == (
        "load 30", "drain 30", "stop 30", "mailbox 1000000000", "kernel_memory none", "memory 1000GiB", "threads 90000",
        "supervision.intensity 1000", "supervision.period 1", "supervision.backoff 0.01", "supervision.backoff_max 0.1",
    )  # fmt: skip
    bounded = keep_within(GREEDY, ())
    whole = replace(bounded, limits=replace(bounded.limits, **UNSET))
    assert lower(bounded, (), asked) == lower(bounded, (), None) == whole
    assert lower(bounded, (), ["memory 1GiB"]).limits.memory == 1 << 30


def test_values_set_by_the_operator_are_not_bounded() -> None:
    own = PluginConfig(limits={"stop": 1e9}, supervision={"intensity": 10**9}, concurrency=5000)
    fixed = fixed_by(own, limits={"memory": 0})
    held = lower(keep_within(GREEDY, fixed), fixed, ())
    assert (held.limits.stop, held.limits.memory, held.supervision.intensity) == (1e9, 1000 << 30, 10**9)
    assert held.concurrency == 10**9  # the operator's own, laid over the manifest before
    assert (held.limits.drain, held.supervision.backoff) == (5.0, 0.1)
    assert not {"stop 30", "memory 1000GiB"} & {*raised(GREEDY, fixed)}


@pytest.mark.parametrize(
    ("line", "approved", "covered"),
    [("memory 1GiB", "memory 1GiB", True), ("memory 1GiB", "memory 2GiB", True), ("memory 2GiB", "memory 1GiB", False),
     ("memory 1GiB", "disk 2GiB", False), ("kernel_memory 1GiB", "kernel_memory none", True),
     ("kernel_memory none", "kernel_memory 1TiB", False),
     ("supervision.backoff 0.05", "supervision.backoff 0.01", True),
     ("supervision.backoff 0.01", "supervision.backoff 0.05", False),
     ("memory 1GiB", "**", False), ("**", "memory 1GiB", False), ("memory 1e400", "memory 1GiB", False)],
)  # fmt: skip
def test_approved_line_covers_lower_values_only(line: str, approved: str, covered: bool) -> None:
    assert is_covered(line, [approved]) is covered


def test_approval_line_keeps_the_exact_number() -> None:
    for value in (11.0, 10.000001, 29.99999999999, 12.345):
        manifest = Manifest("p", limits=Limits(stop=value))
        assert lower(manifest, (), raised(manifest, ())).limits.stop == value


def test_infinite_and_invalid_numbers_are_bounded() -> None:
    for value in (inf, -inf, nan, -1.0, 10**400):
        held = keep_within(Manifest("p", limits=Limits(stop=value)), ()).limits
        assert 0.01 <= held.stop <= 30.0


def test_changes_say_what_was_asked_and_what_holds() -> None:
    held = lower(keep_within(GREEDY, ()), (), ())
    assert ("memory 1000GiB", "512MiB") in changes(GREEDY, held)
    assert ("load none", "10") in changes(GREEDY, held)
