"""``api.log``: a standard logger per instance, whose records are sent to the kernel."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from microkernel.sdk.denials import explain
from microkernel.sdk.process_copies import is_forked_copy
from microkernel.wire.codec import plain_text
from microkernel.wire.messages import Log
from microkernel.wire.secrets import Secrets

_FORMAT = logging.Formatter()


class ChannelLogHandler(logging.Handler):
    """Log handler that sends records as messages."""

    def __init__(self, send: Callable[[Log], None], secrets: Secrets) -> None:
        super().__init__()
        self._send = send
        self._secrets = secrets

    def emit(self, record: logging.LogRecord) -> None:
        if is_forked_copy():  # the output of a forked copy belongs to the plugin too
            print(self._secrets.redact(_FORMAT.format(record)), file=sys.stderr)  # noqa: T201
            return
        if record.exc_info and record.exc_info[1] is not None:
            explain(record.exc_info[1])
        self._send(Log(record.levelno, plain_text(self._secrets.redact(_FORMAT.format(record))), record.created))


def plugin_logger(name: str, level: int, send: Callable[[Log], None], secrets: Secrets) -> logging.Logger:
    """Return a logger outside the global tree, so that generations and kernels do not share it."""
    logger = logging.Logger(f"microkernel.plugin.{name}", level)
    logger.addHandler(ChannelLogHandler(send, secrets))
    return logger
