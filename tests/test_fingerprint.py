"""The compiler's own digest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = """
import sys
from vjpgen.fingerprint import fingerprint
print(fingerprint(), *({"jax", "libcst", "importlib.metadata"} & sys.modules.keys()))
"""


def digest(tree: Path) -> str:
    command = [sys.executable, "-c", CODE]
    env = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=tree)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    passed_over = shutil.ignore_patterns("__pycache__")
    for name in ("vjpgen", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=passed_over)
    return tmp_path


def test_it_is_the_same_wherever_the_compiler_lies_and_imports_nothing_heavy(tree: Path):
    assert digest(tree) == digest(ROOT)
    assert len(digest(tree).split()) == 1


@pytest.mark.parametrize(
    "name",
    ["vjpgen/compiler/lower.py", "vjpgen/diagnostics/catalogue/names.py", "templates/lifted.py"],
)
def test_it_changes_with_each_file_that_matters(tree: Path, name: str):
    before = digest(tree)
    (tree / name).write_text((tree / name).read_text() + "# changed\n")
    assert digest(tree) != before


def test_it_does_not_change_with_what_does_not_matter(tree: Path):
    before = digest(tree)
    (tree / "vjpgen/runtime/rule.py").write_text("# changed\n")
    assert digest(tree) == before
