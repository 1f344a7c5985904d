"""Every error the kernel raises.

An error is an id and its fields; the text is the id's line in the English catalog (``messages/en.toml``), so that one
error can be shown in any language. Each docstring says what survives the error.
"""

from __future__ import annotations

import errno
import re
from functools import cache
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")


def valid_text(text: str) -> str:
    """Return the text with each lone surrogate escaped, so that it can be encoded.

    Python reads bytes that are not UTF-8, as in names of files, as surrogates: ``caf\\xe9`` is shown for the byte E9.
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
    import tomllib  # only who shows an error needs it
    from importlib.resources import files  # not a path: the package may lie in a zip file

    text = (files(__package__) / "messages" / "en.toml").read_text(encoding="utf-8")
    return {key: entry["text"] for key, entry in tomllib.loads(text).items()}


class KernelError(Exception):
    """The root of all errors of the kernel: an ``id`` (``MK0606``) and the ``fields`` of its text.

    Fields can be read as attributes too: ``error.target``.
    """

    id: str
    fields: dict[str, Any]
    shortage: str = ""
    """What the system had run out of, where that is the cause: the same may succeed later."""

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
        """The English line, without the id."""
        template = _english().get(self.id, "{reason}")
        try:
            return valid_text(template.format(**{"cure": "", **self.fields}))
        except (LookupError, ValueError, TypeError, AttributeError):  # fields may come from a worker
            return valid_text(f"{template} {self.fields}")

    def __str__(self) -> str:
        return f"{self.id} {self.text}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.id, self.fields)


def _rebuild(kind: type[KernelError], id: str, fields: dict[str, Any]) -> KernelError:
    return kind(id, **fields)


def shortage_in(error: BaseException) -> str:
    """Return what the system has run out of, in words, if that is why ``error`` was raised; else an empty text."""
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
    """No plugin of that name is known. Nothing changed."""


class MethodNotFound(KernelError):
    """The plugin is there, but exposes no such method. Nothing was called."""


class PluginNotActive(KernelError):
    """The plugin is stopped, failed, held, quarantined or a zombie; or an API was used too early or too late.

    Not raised for a plugin that is starting or in backoff: calls wait for it, until their deadline.
    """


class PluginLoadError(KernelError):
    """The plugin could not be loaded or started. It is ``failed``; everything else goes on."""


class ManifestError(PluginLoadError):
    """The manifest cannot be read or does not fit. None of the plugin's code has run."""


class RequirementError(PluginLoadError):
    """A required plugin is missing, of another version, in a circle; or others require the one to be stopped."""


class BadTopic(KernelError):
    """A topic or pattern is not words joined by dots. Nothing was emitted or registered."""


class PermissionDenied(KernelError):
    """The sender has no grant for this. Nothing was delivered; the text names the line to add to the manifest."""


class PluginHeld(PermissionDenied):
    """The plugin asks for more than was approved, or its files are not those that were. None of its code has run; it
    is ``held`` until somebody approves it. In a reload the old source goes on."""


class InvalidArguments(KernelError):
    """The arguments do not fit the method's type hints. The method was not entered.

    Not raised for an event: what does not fit a handler is a dead letter, the emitter does not hear of it.
    """


class NotPlainData(KernelError):
    """A payload holds something that is not a value; ``path`` names the place. Nothing was sent."""


class PayloadTooLarge(KernelError):
    """A payload is longer than 16 MiB encoded, or with it the kernel would keep more for a plugin than it may
    (``limits.kept``). Nothing was sent, written or registered."""


class CallTimeout(KernelError):
    """The deadline passed before the answer came. The callee was told to cancel; it may have done its work."""


class CallDeadlock(KernelError):
    """The call would wait for a plugin that waits for the caller. Refused at once; ``chain`` names the plugins.

    Not raised when somebody in the cycle can still proceed (``async`` handlers, a free thread, ``acall``).
    """


class CallFailed(KernelError):
    """The method raised. ``remote_type``, ``remote_message`` and ``remote_traceback`` tell what; the callee goes on."""


class PluginDied(KernelError):
    """The callee died before it answered. Raised when the death is decided or seen, not at the deadline."""


class MailboxFull(KernelError):
    """A plugin's mailbox had no room within the time its policy allows."""


class IsolationUnavailable(KernelError):
    """This machine cannot give the level asked for; the missing layer is named. The plugin was not run weaker."""


class ReloadFailed(KernelError):
    """The new code was not taken. The old source goes on, with its state and its waiting messages; see ``.report``."""


class RevisionConflict(KernelError):
    """The key is not at the revision the writer expected. The value is unchanged; ``revision`` is the present one."""


class ProtocolError(KernelError):
    """The other end of a channel sent what is no message. That channel is closed; no other is touched."""


class KernelClosed(KernelError):
    """The kernel was used after it stopped, or in a forked copy of its process."""


class ConfigError(KernelError):
    """``microkernel.toml`` cannot be read or does not fit. No plugin was started."""


class PluginKilled(BaseException):
    """Raised again and again inside a thread plugin that did not end when it was asked to."""


_ERRORS: dict[str, type[KernelError]] = {}


def error_types() -> dict[str, type[KernelError]]:
    """All error classes by name."""
    if not _ERRORS:
        _ERRORS.update({n: c for n, c in globals().items() if isinstance(c, type) and issubclass(c, KernelError)})
    return _ERRORS


def make_error(kind: str, id: str, fields: dict[str, Any]) -> KernelError:
    """The error that ``kind`` names; an unknown kind gives a plain ``KernelError``."""
    return error_types().get(kind, KernelError)(id, **fields)
