"""What compiling a module gave, kept in `__pycache__` beside Python's own bytecode.

A file holds Python's magic number, a digest, and a marshalled value. The digest is over the value
and everything that it depends on, so that a file that is stale, damaged or cut short is none.
"""

from __future__ import annotations

import hashlib
import marshal
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source
from typing import Any

from vjpgen._version import __version__
from vjpgen.fingerprint import fingerprint

_DIGEST_SIZE = 32
_HEAD = len(MAGIC_NUMBER) + _DIGEST_SIZE


def cache_path(path: str, tag: str) -> str | None:
    """Return where the value for a source is kept; None where Python keeps no bytecode."""
    try:
        return cache_from_source(path, optimization=tag)
    except NotImplementedError:  # there is no cache tag
        return None


def key(*parts: bytes) -> bytes:
    """Return a digest of what a value depends on: these, vjpgen, its compiler and Python."""
    digest = hashlib.sha256(MAGIC_NUMBER + f"{__version__} {fingerprint()}".encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def load(cached: str | None, key: bytes) -> Any | None:
    """Return the value that was kept under this key, if it is there and whole."""
    if cached is None:
        return None
    try:
        with open(cached, "rb") as file:
            data = file.read()
    except OSError:
        return None
    value = data[_HEAD:]
    return marshal.loads(value) if data[:_HEAD] == _head(key, value) else None


def store(path: str, cached: str | None, key: bytes, value: Any) -> None:
    """Keep a value, unless Python writes no bytecode; where that fails, nothing is kept.

    Args:
        path: the source, whose mode the file gets.
        cached: where to.
        key: what the value depends on.
        value: what `marshal` can write.
    """
    if cached is None or sys.dont_write_bytecode:
        return
    data = marshal.dumps(value)
    writer: Any = SourceFileLoader("", path)
    writer._cache_bytecode(path, cached, _head(key, data) + data)


def _head(key: bytes, value: bytes) -> bytes:
    return MAGIC_NUMBER + hashlib.sha256(key + value).digest()
