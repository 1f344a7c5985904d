"""From a stack to one line for people."""

from __future__ import annotations

from microkernel.kernel.supervision.stack_location import locate

SOURCES = {"billing.py": b"import time\ndef total():\n    while True: pass\n", "deep/er.py": b""}
STACK = """\
Thread 0x00007f01 (most recent call first):
  File "/plugins/billing/billing.py", line 1 in helper
  File "/lib/threading.py", line 1 in run

Current thread 0x00007f02 (most recent call first):
  File "/lib/json/decoder.py", line 5 in decode
  File "/plugins/billing/billing.py", line 3 in total
  File "/plugins/billing/billing.py", line 9 in handler
"""


def test_the_innermost_line_of_the_plugin_on_its_main_thread() -> None:
    assert locate(STACK, "/plugins/billing", SOURCES) == "billing.py:3 in total `while True: pass`"


def test_another_thread_is_located_if_the_main_one_is_in_foreign_code() -> None:
    stack = STACK.split("\n\n")[0] + '\n\nThread 0x1 (most recent call first):\n  File "/lib/x.py", line 1 in x\n'
    assert locate(stack, "/plugins/billing", SOURCES) == "billing.py:1 in helper `import time`"


def test_a_line_that_is_not_in_the_snapshot_has_no_code() -> None:
    stack = 'Thread 0x1 (most recent call first):\n  File "/plugins/billing/deep/er.py", line 7 in x\n'
    assert locate(stack, "/plugins/billing", SOURCES) == "er.py:7 in x"


def test_a_forged_stack_is_read_in_one_pass() -> None:
    """A line that could match in many ways at once matches in none."""
    pieces = '  File "' + '", line 1 in x' * 4000
    assert locate(pieces + "\n" + STACK, "/plugins/billing", SOURCES).startswith("billing.py:3")
    assert locate('  File "/plugins/billing/a.py", line ' + "9" * 60_000 + " in x", "/plugins/billing", SOURCES) == ""
    assert locate(f'  File "/plugins/billing/{"x" * 60_000}", line 1 in x', "/plugins/billing", SOURCES) == ""


def test_stack_without_plugin_code_has_no_location() -> None:
    assert locate(STACK, "/elsewhere", SOURCES) == ""
    assert locate("", "/plugins", {}) == ""
    assert locate('\0garbage\n  File "x", line 99999999999999999999 in', "/plugins", {}) == ""
