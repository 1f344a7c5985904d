"""Fixtures of all tests. Nothing is written into the home directory of the user that runs them."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from tests.harness.leftovers import descendants
from tests.harness.preloaded_zygote import FORKING, preloaded_zygotes
from tests.harness.waiting import eventually

pytest.register_assert_rewrite("microkernel.testing")

# A shell that starts the tests with `&` has them ignore SIGINT and SIGQUIT, `nohup` has them ignore SIGHUP, and the
# programs that they start inherit that.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are millions of objects. While they are made next to nothing becomes garbage; and each audit
    of a plugin at `thread` collects twice: it leaves alone what was there before the first test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


_LONGEST_FILE = "test_unprivileged.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the file that takes longest and cannot be shared is begun first: at the
    end the others would be done, and wait for it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.name != _LONGEST_FILE)


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_behind() -> Iterator[None]:
    """Each file of tests ends its processes and threads: those who look at the whole process come later."""
    ours, others = os.getpid(), {*threading.enumerate()}
    before = descendants(ours).keys()

    def left() -> list[object]:
        return [
            *(line for pid, line in descendants(ours).items() if pid not in before and not _ENDS_LATER.search(line)),
            *(thread for thread in threading.enumerate() if thread not in others),
        ]

    yield
    with suppress(AssertionError):
        eventually(lambda: not left())
    assert left() == []


# Where most tests start a kernel, and what is tested is the same whether its zygote was executed or forked ...
_FORKED = ("contract/", "integration/", "security/attacks/", "unit/kernel/", "unit/hosts/test_plugin_processes.py")
# ... but not in these files, which are about the death of zygotes, and about a lack of memory and descriptors.
_EXECUTED = ("test_families.py", "test_exhaustion.py")


@pytest.fixture(autouse=True, scope="module")
def _zygotes(request: pytest.FixtureRequest, _nothing_is_left_behind: None) -> Iterator[None]:
    """In some folders, kernels fork their zygotes instead of executing them: ``preloaded_zygote.py``."""
    file = request.path.relative_to(Path(__file__).parent).as_posix()
    if not FORKING or not file.startswith(_FORKED) or file.endswith(_EXECUTED):
        yield
        return
    with pytest.MonkeyPatch.context() as patch, preloaded_zygotes(patch):
        yield


# Multiprocessing starts the first when shared memory is first used, and ends it with the process; the second serves all
# tests of a folder.
_ENDS_LATER = re.compile(r"resource_tracker|preloaded_mk")
_numbers = count()


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory for data folders of kernels that do not name one. It is created on first use."""
    home = tmp_path_factory.getbasetemp() / f"state-home-{next(_numbers)}"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home
