"""The compiler's own digest, which every stored result of it is keyed by."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_PARTS = ("compiler", "diagnostics")
_TEMPLATES = ("templates", os.path.join(os.pardir, "templates"))


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
        yield from _files(_PACKAGE / part, part)
    for templates in _TEMPLATES:
        yield from _files(_PACKAGE / templates, "templates")
    yield "libcst", _libcst_version()


def _files(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*.py")):
        yield f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _libcst_version() -> bytes:
    """What tells one libcst from another; `importlib.metadata` would take far longer."""
    spec = find_spec("libcst")
    if spec is None or spec.origin is None:
        return b""
    for name in ("_version.py", "__init__.py"):
        path = Path(spec.origin).with_name(name)
        if path.is_file():
            return path.read_bytes()
    return spec.origin.encode()
