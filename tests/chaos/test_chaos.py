"""The chaos, short: once from a seed that stays, once from one that is printed."""

from __future__ import annotations

from pathlib import Path
from random import SystemRandom

import pytest

from microkernel.kernel.registry.instance import Instance
from tests.chaos.harness import Harness
from tests.chaos.report import report

SECONDS = 6.0
WARM_UP = 1.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # of an event loop that was killed
@pytest.mark.timeout(300)  # of which nearly all is patience that is only needed when something is wrong
@pytest.mark.parametrize("seed", [20_260_728, None], ids=["fixed", "random"])
def test_chaos(tmp_path: Path, seed: int | None) -> None:
    """Nothing is lost, nothing late, and nothing left, whatever is done to thirty plugins."""
    seed = SystemRandom().randrange(2**32) if seed is None else seed
    print(f"again: ./run chaos --minutes {SECONDS / 60:.2f} --seed {seed}")
    disconnect = Instance.disconnect
    result = Harness(tmp_path, seed).run(SECONDS, WARM_UP)
    assert Instance.disconnect is disconnect, "the harness takes its observer back"
    print(report(result))
    assert result.problems == []
