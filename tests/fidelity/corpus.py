"""Real code: every Python file of the standard library, of jax and of flax."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PART_BYTES = 1_500_000


@dataclass(frozen=True)
class Part:
    """Some files of one library, about equally much in each part.

    Args:
        name: the library's name and the part's number.
        root: the library's folder.
        files: the files' paths from there.
    """

    name: str
    root: Path
    files: tuple[str, ...]


def parts() -> Iterator[Part]:
    """Yield everything there is, in parts that several processes can share."""
    for library, root in _roots():
        number, size, files = 0, 0, []
        for path in _python_files(root):
            files.append(path)
            size += (root / path).stat().st_size
            if size >= _PART_BYTES:
                yield Part(f"{library}-{number}", root, tuple(files))
                number, size, files = number + 1, 0, []
        if files:
            yield Part(f"{library}-{number}", root, tuple(files))


def _roots() -> Iterator[tuple[str, Path]]:
    yield "stdlib", Path(sysconfig.get_path("stdlib"))
    for library in ("jax", "flax"):
        found = importlib.util.find_spec(library)
        assert found is not None
        assert found.origin is not None
        yield library, Path(found.origin).parent


def _python_files(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - {"site-packages", "__pycache__"})
        for name in sorted(names):
            if name.endswith(".py"):
                yield os.path.relpath(os.path.join(folder, name), root)
