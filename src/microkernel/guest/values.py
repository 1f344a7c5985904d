"""Small parts of the codec: encoded values, markers for absence, and its errors."""

from __future__ import annotations

from typing import Any

# Maximum nesting of lists and dicts in a payload.
MAX_DEPTH = 128
# Code of the MessagePack extension that stands for an attachment: its index, one byte.
ATTACHED = 1


class DecodeError(ValueError):
    """The bytes are not a value, or the value is not of the requested type."""


class Mismatch(DecodeError):
    """A value is not of the requested type. Callers that were inside a container add the path, from the inside out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def at(self, place: str) -> Mismatch:
        """Prepend a step to the path: ``.name``, ``[3]``, ``[...]`` or ``key``."""
        self.path.append(place)
        return self

    def __str__(self) -> str:
        if not self.path:
            return self.reason
        *outer, last = self._groups()
        return f"{self.reason} - at " + " in ".join([f"`{last}`", *(f"`{group}`" for group in reversed(outer))])

    def _groups(self) -> list[str]:
        groups = ["$"]
        for place in reversed(self.path):
            if place == "key":
                groups.append(place)
            else:
                groups[-1] += place
        return groups


class Absent:
    """Class of the two markers below, which are false."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return self._name


UNSET = Absent("UNSET")
NODEFAULT = Absent("NODEFAULT")


class Raw:
    """An encoded value: a slice of the received bytes, which it keeps alive."""

    __slots__ = ("base", "end", "start")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, data: Any = b"") -> None:
        self.base = data.encode() if isinstance(data, str) else bytes(data)
        self.start, self.end = 0, len(self.base)

    @classmethod
    def piece(cls, base: bytes, start: int, end: int) -> Raw:
        """Return the bytes from ``start`` to ``end``, not copied."""
        raw = cls.__new__(cls)
        raw.base, raw.start, raw.end = base, start, end
        return raw

    def copy(self) -> Raw:
        """Return a copy that does not keep the received bytes alive."""
        return Raw(bytes(self))

    def __bytes__(self) -> bytes:
        return self.base[self.start : self.end]

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.base)[self.start : self.end]

    def __len__(self) -> int:
        return self.end - self.start

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, Raw) else NotImplemented

    def __reduce__(self) -> tuple[type[Raw], tuple[bytes]]:
        return Raw, (bytes(self),)


class Ext:
    """A MessagePack extension other than a timestamp: a code and its data."""

    __slots__ = ("code", "data")

    def __init__(self, code: int, data: bytes) -> None:
        self.code, self.data = code, data

    def __eq__(self, other: object) -> bool:
        return (self.code, self.data) == (other.code, other.data) if isinstance(other, Ext) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.code, self.data))
