"""Convert a plugin's exception to a Failure: its type, message, location, and the traceback of its files."""

from __future__ import annotations

import os
from types import FrameType, TracebackType

from microkernel.errors import CallDeadlock, CallFailed, valid_text
from microkernel.sdk.denials import explain
from microkernel.wire import codec
from microkernel.wire.failures import from_error
from microkernel.wire.messages import Failure
from microkernel.wire.secrets import Secrets

# Maximum length of a traceback in characters.
_MAX_TRACEBACK = 64_000


def failure_of(error: BaseException, root: str, secrets: Secrets) -> Failure:
    """Return the Failure for ``error``, with ``secrets`` redacted. A CallDeadlock is passed on as it is; every other
    error is an exception of the plugin."""
    if isinstance(error, CallDeadlock):
        return from_error(error)
    behind = explain(error)
    said = f"{_message_of(error)} ({behind})" if behind else _message_of(error)
    return Failure(
        type=valid_text(type(error).__name__),
        message=codec.plain_text(secrets.redact(said.lstrip())),
        traceback=_shortened(valid_text(secrets.redact(_traceback(error, root)))),
        where=codec.plain_text(_where(error, root)),
        hops=[secrets.redact(str(hop)) for hop in error.fields.get("hops", [])]
        if isinstance(error, CallFailed)
        else [],
    )


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<its text cannot be had: {type(broken).__name__}>"


def _where(error: BaseException, root: str) -> str:
    """Return the innermost line in the plugin's own files, as ``billing.py:41 in total``."""
    if isinstance(error, SyntaxError):
        return f"{os.path.basename(error.filename or '?')}:{error.lineno}"
    place = ""
    for frame, line in _own_frames(error.__traceback__, root):
        place = f"{os.path.basename(frame.f_code.co_filename)}:{line} in {frame.f_code.co_name}"
    return place


def _own_frames(trace: TracebackType | None, root: str) -> list[tuple[FrameType, int]]:
    frames = []
    while trace is not None:
        if root and trace.tb_frame.f_code.co_filename.startswith(f"{root}/"):
            frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return frames


def _traceback(error: BaseException, root: str) -> str:
    """Return Python's traceback, reduced to the plugin's own frames; of an exception without any, the last frame."""
    import traceback  # slow to load, and only needed for errors

    whole = traceback.TracebackException.from_exception(error, compact=True)
    parts = [whole]
    while parts:
        part = parts.pop()
        own = [frame for frame in part.stack if frame.filename.startswith(f"{root}/")]
        part.stack[:] = own or part.stack[-1:]
        parts += [*filter(None, (part.__cause__, part.__context__)), *(part.exceptions or ())]
    return "".join(whole.format())


def _shortened(text: str) -> str:
    """Return a long text without its middle: the outermost caller and the exception are at its ends."""
    half = _MAX_TRACEBACK // 2
    return text if len(text) <= _MAX_TRACEBACK else f"{text[:half]}\n  …\n{text[-half:]}"
