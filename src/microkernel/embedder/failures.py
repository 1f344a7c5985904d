"""Errors of the embedding program's handlers: logged, printed if logging is not configured, or raised."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from microkernel.errors import KernelError
from microkernel.wire.failures import reason_suffix

_log = logging.getLogger("microkernel")
# Maximum number of errors that wait to be raised; further ones are logged.
_MAX_PENDING = 100


class HandlerFailures:
    """Receives the errors of handlers, on any thread. With ``raises`` they are stored for ``raise_pending``."""

    def __init__(self, *, raises: bool) -> None:
        self._raises = raises
        self._lock = threading.Lock()
        self.pending: list[Exception] = []

    def report(self, handler: str, topic: str, error: BaseException) -> None:
        """Log an error; print it if logging is not configured, as asyncio and threading do."""
        with self._lock:
            if self._raises and isinstance(error, Exception) and len(self.pending) < _MAX_PENDING:
                self.pending.append(error)
                return
        kind, reason = type(error).__name__, str(error)
        reported = KernelError(
            "MK0619", handler=handler, topic=topic, kind=kind, reason=reason, said=reason_suffix(reason)
        )
        if _is_configured(_log):
            _log.error("%s", reported, exc_info=error)
        elif logging.lastResort is not None and _log.isEnabledFor(logging.ERROR):
            trace: tuple[type[BaseException], BaseException, TracebackType | None]
            trace = type(error), error, error.__traceback__
            record = _log.makeRecord(_log.name, logging.ERROR, __file__, 0, "%s", (reported,), trace)
            logging.lastResort.handle(record)

    def raise_pending(self) -> None:
        """Raise the stored errors; several as an ExceptionGroup."""
        with self._lock:
            errors, self.pending = self.pending, []
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("handlers of the embedding program raised", errors)

    def log_pending(self) -> None:
        """Log the stored errors, because another error is being raised."""
        with self._lock:
            self._raises, errors, self.pending = False, self.pending, []
        for error in errors:
            self.report("a handler", "closing", error)


def _is_configured(logger: logging.Logger | None) -> bool:
    """Return whether a handler other than our NullHandler receives the records of this logger."""
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
