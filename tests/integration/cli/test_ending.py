"""A request to end by signal ends the program, whenever it arrives."""

from __future__ import annotations

import subprocess
import sys

from microkernel.cli.shutdown import SAME, Ending

SIGNALS_AT_ANY_MOMENT = """
import queue, signal, threading
from microkernel.cli.shutdown import Ending
ending, turns = None, queue.SimpleQueue()
main = threading.main_thread().ident
def send():
    while True:
        for _ in range(turns.get()): pass
        signal.pthread_kill(main, signal.SIGUSR1)
signal.signal(signal.SIGUSR1, lambda *_: ending.ask())
threading.Thread(target=send, daemon=True).start()
for turn in range(300):
    ending = Ending()
    turns.put(turn)
    ending.wait()
print("all came")
"""


def test_a_signal_at_any_moment_ends_the_wait() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALS_AT_ANY_MOMENT], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all came\n", "")


def test_a_signal_that_comes_again_at_once_is_the_same_one() -> None:
    now = 7.0
    ending = Ending(lambda: now)
    assert not ending.is_asked_again()
    ending.ask()
    assert not ending.is_asked_again()
    now += SAME / 2
    ending.ask()
    assert not ending.is_asked_again()
    now += SAME / 2
    assert ending.is_asked_again()
