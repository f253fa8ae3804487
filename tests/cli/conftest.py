"""A folder of sources and a way to run the command line in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vjpgen.cli import group

RULE = """\
def scale_bwd(vjp_fn, y_t):
    (x_t,) = vjp_fn(y_t)
    return (2 * x_t,)


"""
GOOD = RULE + "# custom-vjp: bwd=scale_bwd\ndef scale(x):\n    return 3 * x\n"
BAD = RULE + "# custom-vjp: bwd=scale_bwdd\ndef scale(x):\n    return 3 * x\n"
WARNS = GOOD.replace("bwd=scale_bwd\n", "bwd=scale_bwd  # vjpgen: ignore[VJP202]\n")
PLAIN = "def scale(x):\n    return 3 * x\n"


@dataclass(frozen=True)
class Folder:
    """The current folder of a test."""

    path: Path

    def write(self, name: str, text: str = GOOD) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
        return file

    def read(self, name: str) -> str:
        return (self.path / name).read_bytes().decode()

    def names(self) -> list[str]:
        files = (file for file in self.path.rglob("*") if file.is_file() or file.is_symlink())
        return sorted(file.relative_to(self.path).as_posix() for file in files)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """An empty project that is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    (tmp_path / "pyproject.toml").write_text("")
    return Folder(tmp_path)


Run = Callable[..., Result]


@pytest.fixture
def run(folder: Folder) -> Run:
    """Run `vjpgen ARGS` in the folder; a crash is a failure of the test."""

    def call(*args: str, stdin: bytes | str | None = None) -> Result:
        return CliRunner().invoke(group, args, input=stdin, catch_exceptions=False)

    return call
