"""The service ``kernel``: what the console, the command line and plugins with ``kernel.control`` may have done.

Each call runs on a thread of its own: it may wait, and the caller's deadline is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any, Protocol

from microkernel.errors import InvalidArguments, KernelError, MethodNotFound, shortage_in, valid_text
from microkernel.kernel.registry.record import did_you_mean
from microkernel.kernel.runtime.threads import in_thread
from microkernel.wire import codec
from microkernel.wire.failures import from_error
from microkernel.wire.messages import Call, Failure, Reply
from microkernel.wire.texts import valid_texts


class Controls(Protocol):
    """What the service offers, by the names of its methods."""

    def list(self) -> Any: ...
    def info(self, name: str) -> Any: ...
    def names(self) -> Any: ...
    def listeners(self, topic: str) -> Any: ...
    def start(self, name: str, reset: bool = False) -> Any: ...
    def stop(self, name: str, cascade: bool = False, now: bool = False) -> Any: ...
    def kill(self, name: str) -> Any: ...
    def reload(self, name: str, expect: str = "") -> Any: ...
    def reload_all(self) -> Any: ...
    def discover(self) -> Any: ...
    def source(self, name: str) -> Any: ...
    def sources(self) -> Any: ...
    def announce(self, id: str, plugin: str = "", fields: dict[str, Any] | None = None) -> Any: ...
    def load(self, path: str | bytes) -> Any: ...
    def unload(self, name: str) -> Any: ...
    def review(self, name: str) -> Any: ...
    def approve(self, name: str, digest: str = "", remember: bool = True) -> Any: ...
    def dead(self, name: str = "") -> Any: ...
    def replay(self, letter: int) -> Any: ...
    def drop(self, letter: int) -> Any: ...
    def logs(self, name: str = "", last: int = 100) -> Any: ...
    def data(self, prefix: str = "") -> Any: ...
    def tell(self, id: str, fields: dict[str, Any], language: str = "en") -> Any: ...
    def explain(self, id: str, language: str = "en", columns: int = 0) -> Any: ...
    def glossary(self, word: str = "", language: str = "en") -> Any: ...
    def shutdown(self) -> Any: ...


METHODS = frozenset(name for name in vars(Controls) if not name.startswith("_"))


class KernelService:
    """Answers calls to ``kernel.<method>``."""

    def __init__(self) -> None:
        self.controls: Controls

    def call(self, call: Call, answer: Callable[[Reply], object]) -> None:
        """Raises MethodNotFound at once; everything else is in the answer."""
        method = call.target.partition(".")[2]
        if method not in METHODS:
            suggestion = did_you_mean(method, METHODS)
            raise MethodNotFound("MK0604", target=call.target, suggestion=suggestion)
        try:
            in_thread(partial(self._answer, method, call, answer), f"kernel.{method}")
        except RuntimeError as error:
            raise KernelError("MK0515", reason=shortage_in(error) or str(error)) from None

    def _answer(self, method: str, call: Call, answer: Callable[[Reply], object]) -> None:
        try:
            args, kwargs = codec.decode(call.args, list[Any]), codec.decode(call.kwargs, dict[str, Any])
            value = self._perform(method, args, kwargs)
            reply = Reply(call.id, codec.Raw(codec.encode(valid_texts(_plain(value)))))
        except KernelError as error:
            reply = Reply(call.id, failure=from_error(error))
        except Exception as error:
            reply = Reply(call.id, failure=Failure(type=type(error).__name__, message=valid_text(str(error))))
        answer(reply)

    def _perform(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        function = getattr(self.controls, method)
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if f"{method}()" in str(error):
                raise InvalidArguments("MK0605", reason=f"kernel.{error}", path="") from None
            raise


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, errors as their text, so that everything can travel."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key if isinstance(key, bytes) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, KernelError) else value
