"""What vjpgen has written into a folder of mirrored packages, in a file in that folder.

    # What `vjpgen build` has written into this folder. Commit it with the rest.
    pkg/data.json
        sha256 <digest> from ../src
    pkg/model.py
        generated from ../src

Each file has its path and, below it, the digest of what was copied there and the folder that
its own path starts from in the sources. A generated module says of itself what it is. The path
keeps a line of its own, so that two branches that change two files do not conflict.

A file is known by its digest alone, so a line that is damaged never makes a file of the user's
one of vjpgen's. Both sides of a conflict that nobody resolved hold.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from vjpgen.building.files import read_if_there

MANIFEST = ".vjpgen-out"
_TITLE = "# What `vjpgen build` has written into this folder. Commit it with the rest.\n"
_DETAIL = re.compile(r" {4}(?:sha256 (?P<digest>[0-9a-f]{64})|generated) from (?P<root>.+)$")


@dataclass(frozen=True)
class Entry:
    """One file that vjpgen has written.

    Args:
        root: the folder that its path starts from in the sources, seen from the mirror, with "/".
        digests: what was copied there; none for a generated module, which has a header. More
            than one where a run was cut short or branches were merged.
    """

    root: str
    digests: frozenset[str] = frozenset()


def read_manifest(folder: str) -> dict[str, Entry]:
    """Return the entries of a folder's manifest by path, with "/".

    Raises:
        OSError: where there is a manifest that cannot be read.
    """
    data = read_if_there(os.path.join(folder, MANIFEST))
    return {} if data is None else parse(data)


def parse(data: bytes) -> dict[str, Entry]:
    """Read a manifest; what is no entry is passed over."""
    entries: dict[str, Entry] = {}
    name = None
    for line in data.decode(errors="replace").splitlines():
        detail = _DETAIL.match(line)
        if detail is None:
            name = _unescaped(line)
        elif name is not None and _is_inside(name):
            digests = {detail["digest"]} if detail["digest"] else set()
            known = entries[name].digests if name in entries else frozenset()
            entries[name] = Entry(_unescaped(detail["root"]), known | digests)
    return entries


def render(entries: Mapping[str, Entry]) -> bytes:
    """Return the text of a manifest; the same entries give the same bytes."""
    return "".join([_TITLE, *_lines(entries)]).encode()


def _lines(entries: Mapping[str, Entry]) -> Iterator[str]:
    for name, entry in sorted(entries.items()):
        for digest in sorted(entry.digests) or [""]:
            kind = f"sha256 {digest}" if digest else "generated"
            yield f"{_escaped(name)}\n    {kind} from {_escaped(entry.root)}\n"


def digest_of(data: bytes) -> str:
    """Return the digest of these bytes."""
    counted = Digest()
    counted.add(data)
    return counted.text()


class Digest:
    """The digest of bytes that come in pieces, in which every line end counts as one newline.

    So a checkout with other line ends is no edit, as for generated modules.
    """

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._held = b""

    def add(self, chunk: bytes) -> None:
        """Count some more bytes."""
        data = self._held + chunk
        self._held = b"\r" if data.endswith(b"\r") else b""
        self._sum.update(data.removesuffix(self._held).replace(b"\r\n", b"\n"))

    def text(self) -> str:
        """Return the digest of all bytes so far; no more can be counted."""
        self._sum.update(self._held)
        return self._sum.hexdigest()


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keep other processes from changing a folder's manifest meanwhile, where the system can."""
    handle = _locked_handle(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _locked_handle(folder: str) -> int | None:
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _is_inside(name: str) -> bool:
    """Whether a path leads to a file in the folder."""
    parts = name.split("/")
    return not os.path.isabs(name) and not {"", ".", ".."} & set(parts) and name != MANIFEST


def _escaped(name: str) -> str:
    if name.isprintable() and "%" not in name and not name.startswith(" "):
        return name
    text = "".join(each if _is_plain(each) else _percent(each) for each in name)
    return f"%20{text[1:]}" if text.startswith(" ") else text


def _is_plain(character: str) -> bool:
    return character.isprintable() and character != "%"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(character))


def _unescaped(text: str) -> str:
    if "%" not in text:
        return text
    data = re.sub(rb"%([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())
    return os.fsdecode(data)
