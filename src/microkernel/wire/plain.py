"""Convert values of other libraries to plain values, and suggest what to send instead of objects that are not
values."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from numbers import Integral
from typing import Any


def plain(value: Any) -> Any:
    """Return the plain value of a number, text or datetime of another class (``np.int64``, ``pd.Timestamp``, a subclass
    of float), or the fields of a pydantic model.

    Raises TypeError for anything else, and for conversions that would lose information.
    """
    for base, make in _BASES.items():
        if isinstance(value, base):
            if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0):
                break
            return make(value)
    if hasattr(type(value), "dtype") and hasattr(type(value), "ndim") and value.ndim == 0:
        number = _SCALARS.get(getattr(value.dtype, "kind", ""))
        if number is not None:
            return number(value)
    if isinstance(value, Integral):
        return int(value)
    if hasattr(type(value), "model_dump"):
        return value.model_dump()
    raise TypeError(type(value).__name__)


def is_convertible(kind: Any) -> bool:
    """Return whether ``convert`` can create this class from a payload's value."""
    return hasattr(kind, "__from_bytes__") or hasattr(kind, "model_validate")


def convert(kind: Any, value: Any) -> Any:
    """Convert a value to a class that is not plain: by its ``__from_bytes__``, or by a pydantic model's validation. For
    other classes, return the value unchanged."""
    make = getattr(kind, "__from_bytes__", None)
    if make is not None and isinstance(value, bytes):
        return make(value)
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        return value
    try:
        return validate(value)
    except ValueError as failure:
        raise ValueError(_in_a_line(failure)) from None


def _in_a_line(failure: ValueError) -> str:
    """Return the text of a pydantic error on one line, without links and input values."""
    each: list[dict[str, Any]] = getattr(failure, "errors", list)()
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in each) or str(failure)


def cure(value: Any) -> str:
    """Return what to send instead of ``value``, such as ``; send instead: str()``; empty if unknown."""
    found = _cure(value)
    return f"; send instead: {found}" if found else ""


def _cure(value: Any) -> str:
    if isinstance(value, int):
        return "str()"
    if isinstance(value, _PLAIN):
        return ""
    if isinstance(value, complex):
        return "[.real, .imag]"
    if type(value).__module__ in _WRITTEN_AS_TEXT:
        return "str()"
    for name, words in _BY_METHOD.items():
        if hasattr(type(value), name):
            return words
    for kinds, words in _BY_CLASS.items():
        if isinstance(value, kinds):
            return words
    if callable(value):
        return ""
    return "str() or vars()" if hasattr(value, "__dict__") else "str()"


def _datetime(value: datetime) -> datetime:
    return datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.tzinfo,
        fold=value.fold,
    )  # fmt: skip


def _time(value: time) -> time:
    return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


_BASES: dict[type, Any] = {
    str: str.__str__, bytes: bytes, float: float.__float__, int: int.__int__, datetime: _datetime,
    date: lambda value: date(value.year, value.month, value.day), time: _time,
    timedelta: lambda value: timedelta(value.days, value.seconds, value.microseconds), Decimal: Decimal,
}  # fmt: skip
# By the kind of a numpy dtype.
_SCALARS: dict[str, Any] = {"b": bool, "i": int, "u": int, "f": float}
_BY_METHOD = {
    "to_pydatetime": ".to_pydatetime() or .isoformat()", "to_pytimedelta": ".to_pytimedelta()",
    "model_dump": ".model_dump()", "to_dicts": ".to_dicts()", "to_records": '.to_dict("list")',
    "__dataframe__": ".to_pylist() or api.share()", "__array_interface__": ".tolist() or api.share()",
    "__attrs_attrs__": "attrs.asdict()", "_asdict": "._asdict()",
}  # fmt: skip
_BY_CLASS: dict[Any, str] = {
    datetime: ".isoformat()", memoryview: ".tobytes()", os.PathLike: "str()",
    type: ".__name__", BaseException: "str()", Mapping: "dict()", Iterable: "list()", Coroutine: "its awaited result",
}  # fmt: skip
_WRITTEN_AS_TEXT = frozenset({"ipaddress", "fractions", "zoneinfo", "re", "uuid"})
_PLAIN = (str, float, bytes, bytearray, list, dict, tuple, set, frozenset, type(None), bool)
