"""What all tests share: nothing is written into the home of who runs them."""

from __future__ import annotations

import gc
import signal
from itertools import count
from pathlib import Path

import pytest

pytest.register_assert_rewrite("microkernel.testing")

# A shell that starts the tests with `&` has them ignore SIGINT and SIGQUIT, `nohup` has them ignore SIGHUP, and the
# programs that they start inherit that.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


gc.disable()  # until all tests are collected: next to nothing becomes garbage meanwhile


def pytest_collection_finish() -> None:
    """Thousands of tests are millions of objects, and each audit of a plugin at `thread` collects twice. From here on
    the collector leaves alone what was there before the first test."""
    gc.collect()
    gc.freeze()
    gc.enable()


_numbers = count()


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folders of kernels that name none are here. It is made by who needs it."""
    home = tmp_path_factory.getbasetemp() / f"state-home-{next(_numbers)}"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home
