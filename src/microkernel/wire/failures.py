"""Errors to messages and back, and what a Reply is to who waited for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from microkernel.errors import CallFailed, InvalidArguments, KernelError, make_error
from microkernel.wire.codec import decode, plain_text
from microkernel.wire.messages import Failure, Fields, Reply, Scalar


def from_error(error: KernelError) -> Failure:
    """One of our errors, to be raised again as what it is at the other end."""
    return Failure(kind=type(error).__name__, id=error.id, fields=_plain(error.fields))


def to_error(failure: Failure, target: str) -> KernelError:
    """What the caller of ``target`` gets to see: our own error as it was, anything else as CallFailed."""
    if failure.kind:
        return make_error(failure.kind, failure.id, failure.fields)
    return CallFailed(
        "MK0608",
        target=target,
        remote_type=failure.type,
        remote_message=failure.message,
        remote_traceback=failure.traceback,
        **ends_of(failure),
        hops=[f"{target}: {failure.type}{said(failure.message)}", *failure.hops],
    )


def value_in(reply: Reply, target: str, returns: Any, attached: Sequence[Any] = ()) -> Any:
    """What ``target`` answered, converted to ``returns`` if that is given. Raises what its Reply tells of, and
    InvalidArguments, naming the target, for a value that does not fit."""
    if reply.failure is not None:
        raise to_error(reply.failure, target)
    try:
        return decode(reply.value, Any if returns is None else returns, attached)
    except InvalidArguments as error:
        error.fields["reason"] = f"{target} returned what does not fit: {error.fields['reason']}"
        raise


def ends_of(failure: Failure) -> dict[str, str]:
    """The fields that end a text: what an exception said, and where it was raised."""
    return {"said": said(failure.message), "where": f" ({failure.where})" if failure.where else ""}


def said(text: str) -> str:
    """``: no such line``, or nothing: many an exception has no text."""
    return f": {text}" if text else ""


def _plain(fields: dict[str, object]) -> Fields:
    return {key: [*map(_scalar, value)] if isinstance(value, list) else _scalar(value) for key, value in fields.items()}


def _scalar(value: object) -> Scalar:
    return value if value is None or isinstance(value, bool | int | float) else plain_text(str(value))
