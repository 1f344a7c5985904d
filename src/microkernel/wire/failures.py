"""Convert errors to wire failures and back, and unwrap replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from microkernel.errors import CallFailed, InvalidArguments, KernelError, make_error
from microkernel.wire.codec import decode, plain_text
from microkernel.wire.messages import Failure, Fields, Response, Scalar

# Kernel errors that an instance itself may report, by class name. A worker can send anything: without these lists a
# callee could report a missing permission or level to its caller in the kernel's name.
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
    "PluginNotReady": frozenset({"MK0227"}),
}  # fmt: skip
# An unconfined worker may also report that its process could not be set up.
OF_STARTING = {**OF_LOADING, "IsolationUnavailable": frozenset({"MK0501"})}


def as_reported(failure: Failure, known: Mapping[str, frozenset[str]]) -> Failure:
    """Return a failure as it may be reported by an instance: a kernel error that is not ``known`` becomes a plugin's
    exception."""
    if not failure.kind or failure.id in known.get(failure.kind, ()):
        return failure
    return Failure(type=plain_text(failure.kind, _MAX_NAME), message=f"reported as {failure.id[:_MAX_NAME]!r}")


_MAX_NAME = 100


def from_error(error: KernelError) -> Failure:
    """Convert a kernel error to a Failure that ``to_error`` converts back."""
    return Failure(kind=type(error).__name__, id=error.id, fields=_plain(error.fields))


def to_error(failure: Failure, target: str) -> KernelError:
    """Convert a Failure to the error for the caller of ``target``: a kernel error as it was, anything else as
    CallFailed."""
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


def unwrap_reply(reply: Response, target: str, returns: Any, attached: Sequence[Any] = ()) -> Any:
    """Return the value of a reply from ``target``, converted to the type ``returns`` if given.

    Raises the error that the reply contains, and InvalidArguments, naming the target, for a value that does not fit.
    """
    if reply.failure is not None:
        raise to_error(reply.failure, target)
    try:
        return decode(reply.value, Any if returns is None else returns, attached)
    except InvalidArguments as error:
        error.fields["reason"] = f"{target} returned what does not fit: {error.fields['reason']}"
        raise


def suffix_fields(failure: Failure) -> dict[str, str]:
    """Return the fields that end a message: the exception's text and where it was raised."""
    return {"said": reason_suffix(failure.message), "where": f" ({failure.where})" if failure.where else ""}


def reason_suffix(text: str) -> str:
    """Return ``: no such line``, or an empty string for an exception without text."""
    return f": {text}" if text else ""


def _plain(fields: dict[str, object]) -> Fields:
    return {key: [*map(_scalar, value)] if isinstance(value, list) else _scalar(value) for key, value in fields.items()}


def _scalar(value: object) -> Scalar:
    return value if value is None or isinstance(value, bool | int | float) else plain_text(str(value))
