"""Where an instance is: from the stacks of its threads to one line for people. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

_FRAME = re.compile(r'  File "(?P<path>[^"]+)", line (?P<line>\d{1,9}) in (?P<function>.+)')
# A worker writes its stack itself, so it may be anything: what is longer than a frame can be is passed over, so that
# reading it takes time by its length alone.
_LONGEST_LINE = 2048


def locate(stack: str, root: str, sources: Mapping[str, bytes]) -> str:
    """``billing.py:41 in total `while True:` ``: the innermost line of the plugin's own files, of its main thread if
    that is there; empty where there is none.

    ``stack`` is as ``faulthandler`` prints it: threads with the main one last, of each the most recent call first.
    ``sources`` are by their paths below ``root``.
    """
    for thread in reversed(stack.split("\n\n")):
        for frame in _frames(thread):
            path, line = frame["path"], int(frame["line"])
            if path.startswith(f"{root}/"):
                code = _line_of(sources.get(path.removeprefix(f"{root}/"), b""), line)
                return f"{os.path.basename(path)}:{line} in {frame['function']}" + (f" `{code}`" if code else "")
    return ""


def _frames(thread: str) -> Iterator[re.Match[str]]:
    for line in thread.split("\n"):
        if len(line) <= _LONGEST_LINE and (frame := _FRAME.fullmatch(line)):
            yield frame


def _line_of(source: bytes, line: int) -> str:
    lines = source.splitlines()
    return lines[line - 1].decode(errors="replace").strip()[:80] if 0 < line <= len(lines) else ""
