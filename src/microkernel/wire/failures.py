"""Errors to messages and back, and what a Reply is to who waited for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from microkernel.errors import CallFailed, InvalidArguments, KernelError, make_error
from microkernel.wire.codec import decode, plain_text
from microkernel.wire.messages import Failure, Fields, Reply, Scalar

# The errors of ours that an instance itself may report, by the names of their classes. A worker can send whatever it
# likes: without these a callee could report a missing permission or level to its caller in the kernel's name.
OF_REPLIES: Mapping[str, frozenset[str]] = {
    "CallDeadlock": frozenset({"MK0607"}),
    "CallTimeout": frozenset({"MK0606"}),
    "InvalidArguments": frozenset({"MK0605"}),
    "KernelClosed": frozenset({"MK0612"}),
    "MethodNotFound": frozenset({"MK0604"}),
    "NotPlainData": frozenset({"MK0602"}),
    "PayloadTooLarge": frozenset({"MK0603", "MK0623"}),
}
OF_LOADING: Mapping[str, frozenset[str]] = {
    "PluginLoadError": frozenset({
        "MK0105", "MK0106", "MK0118", "MK0121", "MK0122", "MK0124", "MK0130", "MK0132", "MK0133", "MK0136", "MK0312",
    }),
}  # fmt: skip
# Of a worker that is not confined: it may also report that its process could not be set up.
OF_STARTING = {**OF_LOADING, "IsolationUnavailable": frozenset({"MK0501"})}


def as_reported(failure: Failure, known: Mapping[str, frozenset[str]]) -> Failure:
    """What an instance reports; an error of ours that is not among the ``known`` ones is an exception of its own."""
    if not failure.kind or failure.id in known.get(failure.kind, ()):
        return failure
    return Failure(type=plain_text(failure.kind, _LONGEST_NAME), message=f"reported as {failure.id[:_LONGEST_NAME]!r}")


_LONGEST_NAME = 100


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
        **suffix_fields(failure),
        hops=[f"{target}: {failure.type}{reason_suffix(failure.message)}", *failure.hops],
    )


def unwrap_reply(reply: Reply, target: str, returns: Any, attached: Sequence[Any] = ()) -> Any:
    """What ``target`` answered, converted to ``returns`` if that is given. Raises what its Reply tells of, and
    InvalidArguments, naming the target, for a value that does not fit."""
    if reply.failure is not None:
        raise to_error(reply.failure, target)
    try:
        return decode(reply.value, Any if returns is None else returns, attached)
    except InvalidArguments as error:
        error.fields["reason"] = f"{target} returned what does not fit: {error.fields['reason']}"
        raise


def suffix_fields(failure: Failure) -> dict[str, str]:
    """The fields that end a text: what an exception said, and where it was raised."""
    return {"said": reason_suffix(failure.message), "where": f" ({failure.where})" if failure.where else ""}


def reason_suffix(text: str) -> str:
    """``: no such line``, or nothing: many an exception has no text."""
    return f": {text}" if text else ""


def _plain(fields: dict[str, object]) -> Fields:
    return {key: [*map(_scalar, value)] if isinstance(value, list) else _scalar(value) for key, value in fields.items()}


def _scalar(value: object) -> Scalar:
    return value if value is None or isinstance(value, bool | int | float) else plain_text(str(value))
