"""Golden files: each tests/cases/NAME.py compiles to tests/cases/NAME_vjp.py, byte for byte.

`python tests/compiler/test_cases.py` writes the expected files anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vjpgen.compiler import Options, Result, Siblings, compile_source

CASES = Path(__file__).resolve().parents[1] / "cases"
SUFFIX = "_vjp"
SOURCES = sorted(path for path in CASES.glob("*.py") if not path.stem.endswith(SUFFIX))


def compile_case(path: Path) -> Result:
    """Compile a case as a module of the package `cases`, all of which are annotated."""
    modules = frozenset(f"cases.{source.stem}" for source in SOURCES)
    return compile_source(
        path.read_bytes(),
        path.name,
        options=Options(origin=f"cases/{path.name}"),
        siblings=Siblings(modules, "cases"),
    )


def expected(path: Path) -> Path:
    return path.with_name(path.stem + SUFFIX + path.suffix)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_case_compiles_to_its_expected_file(path: Path) -> None:
    result = compile_case(path)
    assert result.diagnostics == ()
    assert result.output is not None
    assert result.output.decode() == expected(path).read_bytes().decode()


def test_every_expected_file_has_its_case() -> None:
    assert {expected(path) for path in SOURCES} == set(CASES.glob(f"*{SUFFIX}.py"))


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--isolated", "--no-cache"],
        ["ruff", "format", "--isolated", "--no-cache", "--check"],
        ["black", "--check", "--quiet", "--config", "/dev/null"],
    ],
    ids=["ruff check", "ruff format", "black"],
)
def test_sources_and_generated_files_are_clean(command: list[str]) -> None:
    pytest.importorskip(command[0])
    done = subprocess.run(
        [sys.executable, "-m", *command, str(CASES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_sources_and_generated_files_type(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright")
    config = tmp_path / "pyrightconfig.json"
    settings = {
        "include": [os.path.relpath(path, tmp_path) for path in CASES.glob("*.py")],
        "extraPaths": [os.path.relpath(CASES.parent, tmp_path)],
        "typeCheckingMode": "standard",
    }
    config.write_text(json.dumps(settings))
    arguments = ["--project", str(config), "--pythonpath", sys.executable]
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "0 errors, 0 warnings, 0 notes" in done.stdout, done.stdout


def main() -> None:
    """Write every expected file anew."""
    for path in SOURCES:
        result = compile_case(path)
        for finding in result.diagnostics:
            print(f"{path.name}:{finding.span.row}: {finding.code} {finding.message}")
        if result.output is not None:
            expected(path).write_bytes(result.output)


if __name__ == "__main__":
    main()
