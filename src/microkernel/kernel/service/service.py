"""The service ``kernel``, called by the console, the command line and plugins with ``kernel.control``.

Each call runs on a separate thread, because it may wait. The caller watches its own deadline.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

from microkernel.errors import InvalidArguments, KernelError, MethodNotFound, shortage_in, valid_text
from microkernel.kernel.registry.suggestions import did_you_mean
from microkernel.kernel.routing.service_queue import ServiceQueue
from microkernel.kernel.runtime.threads import run_in_thread
from microkernel.wire import codec
from microkernel.wire.failures import from_error
from microkernel.wire.messages import Call, Failure, Response
from microkernel.wire.texts import valid_texts

Method = Callable[..., Any]


class KernelService:
    """Answers calls to ``kernel.<method>`` from a table of typed methods. ``call`` on any thread."""

    def __init__(self, queue: ServiceQueue, *tables: Mapping[str, Method]) -> None:
        self.methods = {name: method for table in tables for name, method in table.items()}
        queue.consume(self.call)

    def call(self, call: Call, answer: Callable[[Response], object]) -> None:
        """Answer a call. Raises MethodNotFound, and KernelError if no thread can be started; other errors are in the
        answer."""
        name = call.target.partition(".")[2]
        method = self.methods.get(name)
        if method is None:
            suggestion = did_you_mean(name, self.methods)
            raise MethodNotFound("MK0604", target=call.target, suggestion=suggestion)
        try:
            run_in_thread(partial(self._answer, name, method, call, answer), f"kernel.{name}")
        except RuntimeError as error:
            raise KernelError("MK0515", reason=shortage_in(error) or str(error)) from None

    def _answer(self, name: str, method: Method, call: Call, answer: Callable[[Response], object]) -> None:
        try:
            args, kwargs = codec.decode(call.args, list[Any]), codec.decode(call.kwargs, dict[str, Any])
            value = _perform(name, method, args, kwargs)
            reply = Response(call.id, codec.Raw(codec.encode(valid_texts(_plain(value)))))
        except KernelError as error:
            reply = Response(call.id, failure=from_error(error))
        except Exception as error:
            reply = Response(call.id, failure=Failure(type=type(error).__name__, message=valid_text(str(error))))
        answer(reply)


def _perform(name: str, method: Method, args: list[Any], kwargs: dict[str, Any]) -> Any:
    try:
        return method(*args, **kwargs)
    except TypeError as error:
        if f"{name}()" in str(error):
            cure = f"; the method is kernel.{name}{_signature_of(method)}"
            raise InvalidArguments("MK0605", reason=f"kernel.{error}", path="", cure=cure) from None
        raise


def _signature_of(method: Method) -> str:
    """Return the parameters with their defaults. The type hints are left out, because some name internal classes."""
    parameters = inspect.signature(method).parameters.values()
    return str(inspect.Signature([each.replace(annotation=each.empty) for each in parameters]))


def _plain(value: Any) -> Any:
    """Convert dataclasses to dicts and errors to their text, so that every value can be encoded."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key if isinstance(key, bytes) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, KernelError) else value
