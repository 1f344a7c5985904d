"""``ctypes`` in a guest: C number types with their sizes, and the names that libraries use to define types.

There is no C memory to access and no library to load; operations that need them raise.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, NoReturn

_NO_C = "the level wasm has no libraries in C to load, and no memory of C to look at"
DEFAULT_MODE = RTLD_LOCAL = 0
RTLD_GLOBAL = 0x100


class ArgumentError(Exception): ...


class _CData:
    """Base of C types. ``_code`` is the code of ``struct``; empty if no instance can be created."""

    _code = ""

    def __init__(self, *_: Any) -> None:
        raise NotImplementedError(_NO_C)

    def __init_subclass__(cls, **_: Any) -> None: ...

    @classmethod
    def _size(cls) -> int:
        if not cls._code:
            raise NotImplementedError(_NO_C)
        return struct.calcsize(cls._code)


_SimpleCData = _CData


class _Number(_CData):
    def __init__(self, value: Any = 0) -> None:
        self.value = value

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, self._kept(value) if name == "value" else value)

    @classmethod
    def _kept(cls, value: Any) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self, 'value')!r})"  # noqa: B009

    def __bool__(self) -> bool:
        return bool(getattr(self, "value"))  # noqa: B009


class _Integer(_Number):
    """An integer. A value that is too large keeps its low bits, as in C."""

    @classmethod
    def _kept(cls, value: Any) -> int:
        if not isinstance(value, int):
            raise TypeError(f"an integer is required (got type {type(value).__name__})")
        bits = 8 * cls._size()
        low = value & ((1 << bits) - 1)
        return low - (1 << bits) if cls._code.islower() and low >> (bits - 1) else low


class _Float(_Number):
    @classmethod
    def _kept(cls, value: Any) -> float:
        found: float = struct.unpack(cls._code, struct.pack(cls._code, value))[0]
        return found


class c_bool(_Number):  # noqa: N801
    _code = "?"

    @classmethod
    def _kept(cls, value: Any) -> bool:
        return bool(value)


class c_char(_Number):  # noqa: N801
    _code = "c"

    def __init__(self, value: bytes | int = b"\0") -> None:
        super().__init__(value)

    @classmethod
    def _kept(cls, value: Any) -> bytes:
        found = bytes([value]) if isinstance(value, int) else bytes(value)
        if len(found) != 1:
            raise TypeError("one character bytes, bytearray, or an integer in range(256) expected")
        return found


def _types(base: type[_Number], **codes: str) -> None:
    """Return the C types by the names that ``ctypes`` has for them."""
    for name, code in codes.items():
        globals()[name] = type(name, (base,), {"_code": code, "__module__": __name__})


_types(
    _Integer,
    c_byte="b", c_ubyte="B", c_short="h", c_ushort="H", c_int="i", c_uint="I", c_long="l", c_ulong="L",
    c_longlong="q", c_ulonglong="Q", c_size_t="N", c_ssize_t="n", c_void_p="P",
    c_int8="b", c_uint8="B", c_int16="h", c_uint16="H", c_int32="i", c_uint32="I", c_int64="q", c_uint64="Q",
)  # fmt: skip
_types(_Float, c_float="f", c_double="d", c_longdouble="d")


class c_char_p(_CData):  # noqa: N801
    _code = "P"


class c_wchar_p(_CData):  # noqa: N801
    _code = "P"


class c_wchar(_CData):  # noqa: N801
    _code = "i"


class py_object(_CData):  # noqa: N801
    _code = "P"


class Structure(_CData):
    """May be subclassed, so that modules that define such types can be imported."""

    _fields_: ClassVar[Any] = ()


class Union(Structure): ...


class BigEndianStructure(Structure): ...


class LittleEndianStructure(Structure): ...


class Array(_CData): ...


class _Pointer(_CData):
    _code = "P"


class _Function(_CData):
    _code = "P"


def POINTER(kind: Any) -> type[_Pointer]:  # noqa: N802
    return type(f"LP_{getattr(kind, '__name__', kind)}", (_Pointer,), {"_type_": kind})


def CFUNCTYPE(result: Any, *arguments: Any, **_: Any) -> type[_Function]:  # noqa: N802
    return type("CFunctionType", (_Function,), {"_restype_": result, "_argtypes_": arguments})


PYFUNCTYPE = CFUNCTYPE


def sizeof(kind: Any) -> int:
    return int(kind._size())


def get_errno() -> int:
    return 0


def _no_library(*_: Any, **__: Any) -> NoReturn:
    raise OSError(_NO_C)


class CDLL:
    def __init__(self, *_: Any, **__: Any) -> None:
        _no_library()


class PyDLL(CDLL): ...


class LibraryLoader:
    """Loads libraries by name; every load raises."""

    def __init__(self, kind: type[CDLL]) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        _no_library()

    def LoadLibrary(self, name: object) -> NoReturn:  # noqa: ARG002, N802
        _no_library()


cdll, pydll = LibraryLoader(CDLL), LibraryLoader(PyDLL)


def _no_memory(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError(_NO_C)


byref = addressof = cast = pointer = string_at = wstring_at = memmove = memset = resize = _no_memory
create_string_buffer = create_unicode_buffer = _no_memory


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"at the level wasm, ctypes has the numbers of C and no more: there is no {name}")
