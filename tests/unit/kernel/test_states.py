"""The table of states: every way that is in it, and an error for each that is not."""

from __future__ import annotations

from typing import get_args

import pytest

from microkernel.errors import KernelError
from microkernel.kernel.registry.states import CALLS_WAIT, RUNNING, SETTLED, TABLE, State, Trigger, advance, diagram

WAYS = [(state, happening) for state in get_args(State) for happening in get_args(Trigger)]


@pytest.mark.parametrize(("state", "happening"), WAYS)
def test_transition_is_in_the_table_or_raises(state: State, happening: Trigger) -> None:
    if (state, happening) in TABLE:
        assert advance(state, happening) == TABLE[state, happening]
        assert f"{state} --> {TABLE[state, happening]}: {happening}" in diagram()
    else:
        with pytest.raises(KernelError, match="MK0220"):
            advance(state, happening)


def test_every_state_can_be_reached_and_left() -> None:
    states = {*get_args(State)}
    assert {*TABLE.values()} | {"discovered"} == states
    assert {state for state, _ in TABLE} == states


def test_every_running_state_can_die_or_be_stopped() -> None:
    for state in RUNNING - {"stopping"}:
        assert TABLE[state, "died"] == "backoff"
        assert TABLE[state, "stop"] == "stopping"


def test_every_state_is_settled_or_transitional() -> None:
    assert not SETTLED & CALLS_WAIT
    assert SETTLED | CALLS_WAIT | {"stopping"} == {*get_args(State)}
