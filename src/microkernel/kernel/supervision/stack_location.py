"""Summarize the stacks of an instance's threads in one line for people. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

_FRAME = re.compile(r'  File "(?P<path>[^"]+)", line (?P<line>\d{1,9}) in (?P<function>.+)')
# A worker writes its stack itself, so the text may be anything. Lines longer than any frame are skipped, so that
# reading takes time linear in the length.
_LONGEST_LINE = 2048


def locate(stack: str, root: str, sources: Mapping[str, bytes]) -> str:
    """Return the innermost line in the plugin's own files, such as ``billing.py:41 in total `while True:` ``.

    The main thread is preferred. Empty if no thread is in the plugin's files. ``stack`` is as ``faulthandler`` prints
    it: the main thread last, and in each thread the most recent call first. ``sources`` are by path below ``root``.
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
