"""The compiler's own digest, which every stored result of it is keyed by.

It stands outside the compiler's package, so that whoever finds a result stored need not load that.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

_PACKAGE = os.path.dirname(os.path.realpath(__file__))
_PARTS = ("compiler", "diagnostics", "templates", os.path.join(os.pardir, "templates"))


@cache
def fingerprint() -> str:
    """Return a digest of all that a result depends on besides the source and the options.

    That is the compiler's own files, its templates and catalogue, libcst's version and Python's.
    Two machines with the same give the same; it costs some milliseconds, once a process, and
    imports nothing of libcst.
    """
    digest = hashlib.sha256(repr((sys.implementation.name, sys.version_info[:])).encode())
    for name, data in _parts():
        digest.update(f"\0{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _parts() -> Iterator[tuple[str, bytes]]:
    """Every file that matters, by a name that is the same wherever vjpgen is installed."""
    for part in _PARTS:
        for path in sorted(_files(os.path.join(_PACKAGE, part))):
            name = os.path.relpath(path, _PACKAGE).replace(os.sep, "/")
            yield name.removeprefix("../"), _read(path)
    yield "libcst", _libcst_version()


def _files(folder: str) -> Iterator[str]:
    for inner, _, names in os.walk(folder):
        yield from (os.path.join(inner, name) for name in names if name.endswith(".py"))


def _libcst_version() -> bytes:
    """What tells one libcst from another; `importlib.metadata` would take far longer."""
    spec = find_spec("libcst")
    if spec is None or spec.origin is None:
        return b""
    version = os.path.join(os.path.dirname(spec.origin), "_version.py")
    return _read(version if os.path.isfile(version) else spec.origin)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
