"""Makes ``lzma`` importable without its C part; using it raises. ``tarfile`` then tries the next format."""

from __future__ import annotations

from typing import Any, NoReturn

FORMAT_AUTO, FORMAT_XZ, FORMAT_ALONE, FORMAT_RAW = range(4)
CHECK_NONE, CHECK_CRC32, CHECK_CRC64, CHECK_SHA256, CHECK_ID_MAX, CHECK_UNKNOWN = 0, 1, 4, 10, 15, 16
MF_HC3, MF_HC4, MF_BT2, MF_BT3, MF_BT4 = 3, 4, 18, 19, 20
MODE_FAST, MODE_NORMAL = 1, 2
FILTER_LZMA1, FILTER_LZMA2, FILTER_DELTA = 0x4000000000000001, 0x21, 3
FILTER_X86, FILTER_POWERPC, FILTER_IA64, FILTER_ARM, FILTER_ARMTHUMB, FILTER_SPARC = range(4, 10)
PRESET_DEFAULT, PRESET_EXTREME = 6, 1 << 31


class LZMAError(Exception): ...


class _Refusing:
    eof, needs_input, unused_data, check = False, True, b"", CHECK_UNKNOWN

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise LZMAError("the level wasm has no xz: use gzip or zlib")

    compress = decompress = flush = _refuse


class LZMACompressor(_Refusing): ...


class LZMADecompressor(_Refusing): ...


def is_check_supported(check: int) -> bool:  # noqa: ARG001
    return False


def _encode_filter_properties(filter: Any) -> NoReturn:  # noqa: ARG001
    raise LZMAError("the level wasm has no xz: use gzip or zlib")


_decode_filter_properties = _encode_filter_properties
