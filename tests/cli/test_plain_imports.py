"""VJP402 from the command line: notes on files that are read for nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.building.conftest import GOOD, Tree
from tests.building.conftest import tree as tree
from vjpgen.cli import group

IGNORED = '{"__init__.py" = ["VJP402"]}'
WANTED = '[tool.vjpgen]\nextend-select = ["VJP402"]\n'
TRAIN = """\
import os

import pkg.layers
from . import model  # vjpgen: ignore[VJP402]
"""
FILES = {
    "pkg/__init__.py": "from .layers import scale\n",
    "pkg/layers.py": GOOD,
    "pkg/model.py": "from .layers import scale as s\n\n\n" + GOOD,
    "pkg/train.py": TRAIN,
    "pkg/types.py": "if TYPE_CHECKING:\n    from .layers import scale\n",
    "pkg/broken.py": "from .layers import (\n",
    "skipped/a.py": "import pkg.layers\n",
    ".gitignore": "skipped/\n",
}
ALL = [("pkg/__init__.py", 1), ("pkg/train.py", 3)]


def notes(*arguments: str) -> list[tuple[str, int]]:
    done = CliRunner().invoke(group, [*arguments, "--output-format", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {(item["code"], item["severity"]) for item in found} <= {("VJP402", "note")}
    here = Path.cwd()
    names = [Path(item["filename"]) for item in found]
    rows = [item["location"]["row"] for item in found]
    shown = [n.relative_to(here) if n.is_absolute() else n for n in names]
    return [(name.as_posix(), row) for name, row in zip(shown, rows, strict=True)]


@pytest.mark.parametrize("command", ["check", "build"])
def test_they_are_given_where_they_are_asked_for(tree: Tree, command: str):
    root = tree({"pyproject.toml": "", **FILES})
    assert notes(command, ".") == []
    (root / "pyproject.toml").write_text(WANTED)
    assert notes(command, ".") == ALL
    assert notes(command, ".") == ALL  # nothing that was remembered hides them
    assert notes(command, "pkg/train.py") == ALL[1:]
    assert notes(command, "pkg/train.py", "pkg") == ALL
    assert notes(command, "pkg/layers.py") == []


def test_files_can_be_left_out(tree: Tree):
    tree(
        {"pyproject.toml": f'{WANTED}per-file-ignores = {{"__init__.py" = ["VJP402"]}}\n', **FILES}
    )
    assert notes("check") == ALL[1:]


def test_a_mirrored_package_has_none(tree: Tree):
    tree({"pyproject.toml": f'{WANTED}out-dir = "out"\n', **FILES})
    assert notes("check", "pkg") == []
