"""Buffers seen without a client: text in, the view that features get out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vjpgen.lsp.document import Document
from vjpgen.lsp.project import Workspace
from vjpgen.lsp.view import View

Look = Callable[..., View]
MARK = "|"


def cursor(text: str) -> tuple[str, tuple[int, int]]:
    """A text without its cursor mark, and the place of that."""
    before, _, after = text.partition(MARK)
    return before + after, (before.count("\n") + 1, len(before) - before.rfind("\n") - 1)


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """See a text as the buffer of a file in an own project; `files` lie beside it on disk."""

    def view(
        text: str, name: str = "model.py", files: dict[str, str] | None = None, config: str = ""
    ) -> View:
        (tmp_path / "pyproject.toml").write_text(config)
        for other, content in (files or {}).items():
            path = tmp_path / other
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        path = tmp_path / name
        document = Document(path.as_uri(), str(path), text, 1)
        told: list[str] = []
        workspace = Workspace(None, told.append)
        workspace.folders = (str(tmp_path),)
        job, roots = workspace.job(document), workspace.roots(document.path)
        assert told == []
        return View(document, job, roots, _read)

    return view


def _read(path: str) -> Document | None:
    file = Path(path)
    return Document(file.as_uri(), path, file.read_text(), None) if file.is_file() else None
