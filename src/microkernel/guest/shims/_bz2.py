"""bzip2 is in C: ``bz2`` can be imported, and refuses at its use. ``tarfile`` then tries the next."""

from __future__ import annotations

import errno
from typing import Any, NoReturn


class _Refusing:
    """``OSError`` is how these say that data is not theirs."""

    eof, needs_input, unused_data = False, True, b""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOTSUP, "the level wasm has no bzip2: use gzip or zlib")

    compress = decompress = flush = _refuse


class BZ2Compressor(_Refusing): ...


class BZ2Decompressor(_Refusing): ...
