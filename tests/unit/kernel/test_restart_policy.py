"""The budget is a pure function of policy, history and time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from microkernel.kernel.manifest import Supervision
from microkernel.kernel.supervision.restart_policy import decide

POLICY = Supervision(intensity=5, period=30.0, backoff=0.1, backoff_max=10.0)


def deaths(times: list[float], policy: Supervision = POLICY, **more: bool) -> list[float | None]:
    """The delays after deaths at these times; None where it did not come back."""
    history: tuple[float, ...] = ()
    delays = []
    for now in times:
        verdict = decide(policy, history, now, abnormal=True, jitter=0.5, **more)
        history = verdict.history
        delays.append(verdict.delay)
    return delays


def test_backoff_doubles_until_the_restart_budget_is_exhausted() -> None:
    assert deaths([1, 2, 3, 4, 5, 6]) == [0.1, 0.2, 0.4, 0.8, 1.6, None]


def test_backoff_resets_after_a_period_without_a_crash() -> None:
    assert deaths([0, 31, 62, 93, 124, 155, 186]) == [0.1] * 7


def test_uncharged_exit_does_not_use_the_restart_budget() -> None:
    assert deaths([1.0] * 100, uncharged=True) == [0.1] * 100


def test_backoff_does_not_overflow_after_a_thousand_crashes() -> None:
    policy = Supervision(intensity=10**9, period=1e9, backoff=0.1, backoff_max=10.0)
    assert deaths([float(time) for time in range(1100)], policy)[-1] == 10.0


def test_backoff_has_a_cap() -> None:
    policy = Supervision(intensity=100, period=1000.0, backoff=1.0, backoff_max=10.0)
    assert deaths(list(map(float, range(8))), policy) == [1, 2, 4, 8, 10, 10, 10, 10]


def test_transient_and_temporary() -> None:
    for restart, abnormal, back in (
        ("transient", True, True), ("transient", False, False), ("temporary", True, False), ("permanent", False, True),
    ):  # fmt: skip
        verdict = decide(Supervision(restart=restart), (), 0.0, abnormal=abnormal, jitter=0.0)  # type: ignore[arg-type]
        assert (verdict.delay is not None, verdict.budget_exhausted) == (back, False)


@given(st.lists(st.floats(0, 1000), max_size=50), st.integers(0, 10), st.floats(0, 1))
def test_at_most_intensity_restarts_in_a_period(times: list[float], intensity: int, jitter: float) -> None:
    policy = Supervision(intensity=intensity, period=30.0)
    history: tuple[float, ...] = ()
    restarts: list[float] = []
    for now in sorted(times):
        verdict = decide(policy, history, now, abnormal=True, jitter=jitter)
        history = verdict.history
        if verdict.delay is None:
            assert verdict.budget_exhausted
            break
        assert 0.75 * policy.backoff <= verdict.delay <= 1.25 * policy.backoff_max
        restarts.append(now)
        assert len([t for t in restarts if now - t < policy.period]) <= intensity
