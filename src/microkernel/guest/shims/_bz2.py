"""Makes ``bz2`` importable without its C part; using it raises OSError. ``tarfile`` then tries the next format."""

from __future__ import annotations

import errno
from typing import Any, NoReturn


class _Refusing:
    """Raises ``OSError``, which these modules raise for data in another format."""

    eof, needs_input, unused_data = False, True, b""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOTSUP, "the level wasm has no bzip2: use gzip or zlib")

    compress = decompress = flush = _refuse


class BZ2Compressor(_Refusing): ...


class BZ2Decompressor(_Refusing): ...
