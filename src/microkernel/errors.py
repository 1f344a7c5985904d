"""The errors that the kernel raises.

An error is an id and its fields. Its text is the id's line in the English catalog (``messages/en.toml``), so that one
error can be shown in any language. Each docstring says what state remains after the error.
"""

from __future__ import annotations

import errno
import json
import os
import re
from functools import cache
from typing import Any

_TEXTS = re.compile(r'^\[(\w+)\]\nlevel = .*\ntext = (".*")$', re.MULTILINE)
_SURROGATE = re.compile("[\ud800-\udfff]")


def valid_text(text: str) -> str:
    """Return the text with each lone surrogate escaped, so that it can be encoded.

    Python decodes bytes that are not UTF-8, as in names of files, as surrogates: ``caf\xe9`` is shown for the byte E9.
    """
    return _SURROGATE.sub(_escaped, text) if not text.isascii() else text


def _escaped(surrogate: re.Match[str]) -> str:
    code = ord(surrogate[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


_SHORTAGES = frozenset({
    errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS,
})  # fmt: skip


@cache
def _english() -> dict[str, str]:
    """Return the texts of all ids. Only the lines of these texts are parsed, which are JSON strings too: a TOML parser
    takes 20 ms for the whole catalog, and every kernel reads it when it starts."""
    loader: Any = __spec__.loader  # not ``open``, because the package may be in a zip file
    catalog = loader.get_data(os.path.join(os.path.dirname(__file__), "messages", "en.toml")).decode("utf-8")
    return {id: json.loads(text) for id, text in _TEXTS.findall(catalog)}


class KernelError(Exception):
    """Base class of all errors of the kernel: an ``id`` such as ``MK0606`` and the ``fields`` of its text.

    Fields can be read as attributes too: ``error.target``.
    """

    id: str
    fields: dict[str, Any]
    # The exhausted resource, if that is the cause: the same operation may succeed later.
    shortage: str = ""

    def __init__(self, id: str, /, **fields: Any) -> None:
        super().__init__(id, fields)
        self.id = id
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def text(self) -> str:
        """The English text, without the id."""
        template = _english().get(self.id, "{reason}")
        try:
            lists = {key: ", ".join(map(str, each)) for key, each in self.fields.items() if isinstance(each, list)}
            return valid_text(template.format(**{"cure": "", **self.fields, **lists}))
        except (LookupError, ValueError, TypeError, AttributeError):  # fields may come from a worker
            return valid_text(f"{template} {self.fields}")

    def __str__(self) -> str:
        return f"{self.id} {self.text}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.id, self.fields)


def _rebuild(kind: type[KernelError], id: str, fields: dict[str, Any]) -> KernelError:
    return kind(id, **fields)


def shortage_in(error: BaseException) -> str:
    """Return a description of the exhausted resource if that is why ``error`` was raised; else an empty string."""
    if isinstance(error, KernelError):
        return error.shortage
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "no more threads or processes"
    if isinstance(error, OSError) and error.errno in _SHORTAGES:
        return _words_of(error)
    return ""


def _words_of(error: OSError) -> str:
    words = (error.strerror or str(error)).lower()
    return f"no more threads or processes ({words})" if error.errno == errno.EAGAIN else words


class PluginNotFound(KernelError):
    """No plugin has that name. Nothing changed."""


class MethodNotFound(KernelError):
    """The plugin exposes no method of that name. Nothing was called."""


class PluginNotActive(KernelError):
    """The plugin does not run, or a method of its API was used too early or too late.

    It is stopped, failed, held, quarantined or a zombie. Nothing was sent. Not raised for a plugin that is starting or
    in backoff: calls wait for it until their deadline.
    """


class PluginLoadError(KernelError):
    """The plugin could not be loaded or started, and is ``failed``. Other plugins are not affected."""


class PluginNotReady(PluginLoadError):
    """The plugin's ``start`` raised NotReady, or a plugin that it requires is not ready.

    It is ``waiting``, and is started again later. Only ``ReloadFailed`` has it as its cause: the old source continues.
    """


class ManifestError(PluginLoadError):
    """The manifest cannot be read or is not valid. None of the plugin's code has run."""


class RequirementError(PluginLoadError):
    """A requirement between plugins is not met.

    A required plugin is missing, has another version or is in a cycle; or running plugins require the one to stop.
    """


class BadTopic(KernelError):
    """A topic or pattern is not a sequence of words joined by dots. Nothing was emitted or registered."""


class PermissionDenied(KernelError):
    """The sender has no grant for this. Nothing was delivered. The text contains the line to add to the manifest."""


class PluginHeld(PermissionDenied):
    """The plugin requests more than was approved, or its files have changed since. None of its code has run.

    It is ``held`` until it is approved. In a reload, the old source keeps running.
    """


class InvalidArguments(KernelError):
    """The arguments do not fit the method's type hints. The method was not entered.

    Not raised for events: an event that does not fit a handler becomes a dead letter, and the emitter gets no error.
    """


class NotPlainData(KernelError):
    """A payload contains an object that is not a value; ``path`` is where. Nothing was sent."""


class PayloadTooLarge(KernelError):
    """A payload is over 16 MiB encoded, or the plugin's quota in the kernel (``limits.kernel_memory``) is exhausted.

    Nothing was sent, written or registered.
    """


class CallTimeout(KernelError):
    """The deadline passed before the answer came. The callee was asked to cancel; the method may have run."""


class CallDeadlock(KernelError):
    """The call would wait for a plugin that waits for the caller. Raised immediately; ``chain`` names the plugins.

    Nothing was called. Not raised if some plugin in the cycle can still proceed (``async`` handlers, a free thread,
    ``acall``).
    """


class CallFailed(KernelError):
    """The method raised: see ``remote_type``, ``remote_message`` and ``remote_traceback``. The callee keeps running."""


class PluginDied(KernelError):
    """The callee died before it answered. The method may have run.

    Raised as soon as the death is known, not at the deadline.
    """


class MailboxFull(KernelError):
    """A plugin's mailbox had no space within the time that its policy allows. The message was not delivered."""


class IsolationUnavailable(KernelError):
    """This machine cannot provide the requested level; the missing layer is named.

    The plugin was not run at a weaker level.
    """


class ReloadFailed(KernelError):
    """The new source failed. The old source keeps running, with its state and its queued messages; see ``.report``."""


class RevisionConflict(KernelError):
    """The key is not at the expected revision; ``revision`` is the current one. The value is unchanged."""


class ProtocolError(KernelError):
    """The other end of a channel sent an invalid message. That channel is closed; others are not affected."""


class KernelClosed(KernelError):
    """The kernel was used after it stopped, or in a forked copy of its process. Nothing was done."""


class ConfigError(KernelError):
    """``microkernel.toml`` cannot be read or is not valid. No plugin was started."""


class PluginKilled(BaseException):
    """Raised repeatedly in a thread plugin that did not end when it was asked to."""


_ERRORS: dict[str, type[KernelError]] = {}


def error_types() -> dict[str, type[KernelError]]:
    """Return all error classes by name."""
    if not _ERRORS:
        _ERRORS.update({n: c for n, c in globals().items() if isinstance(c, type) and issubclass(c, KernelError)})
    return _ERRORS


def make_error(kind: str, id: str, fields: dict[str, Any]) -> KernelError:
    """Return the error of the class that ``kind`` names; a plain ``KernelError`` for an unknown class."""
    return error_types().get(kind, KernelError)(id, **fields)
