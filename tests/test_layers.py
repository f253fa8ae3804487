"""Which part of vjpgen imports which, wherever the import stands; `CONTRIBUTING.md` says why."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vjpgen

HOME = Path(vjpgen.__file__).parent

IMPORTS = {
    "_version": "",
    "figures": "",
    "fingerprint": "",
    "globs": "",
    "page": "",
    "runtime": "flax jax numpy",
    "testing": "figures flax inspecting jax numpy page runtime",
    "inspecting": "diagnostics figures jax page runtime testing",
    "diagnostics": "_version wcwidth",
    "config": "diagnostics",
    "compiler": "diagnostics libcst",
    "building": "_version compiler config diagnostics fingerprint globs pathspec",
    "importing": "_version building compiler config diagnostics fingerprint",
    "lsp": "_version building compiler config diagnostics lsprotocol pygls",
    "verifying": "building compiler config diagnostics figures importing jax pytest testing",
    "cli": "_version building compiler config diagnostics importing inspecting lsp runtime testing"
    " verifying click pygls watchfiles",
    "__init__": "importing runtime",
    "__main__": "_version building cli",
}


def _imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, each part of vjpgen by its own name."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("vjpgen.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}:{node.lineno} is relative"
            names = [alias.name for alias in node.names]
            yield from names if node.module == "vjpgen" else [node.module.removeprefix("vjpgen.")]


@pytest.mark.parametrize("part", IMPORTS)
def test_a_part_imports_no_more_than_the_table_says_and_no_less(part: str):
    files = [*(HOME / part).rglob("*.py"), *HOME.glob(f"{part}.py")]
    found = {name.split(".")[0] for file in files for name in _imported(file)}
    assert found - sys.stdlib_module_names - {part} == set(IMPORTS[part].split())


def test_the_table_names_every_part():
    parts = {path.relative_to(HOME).parts[0].removesuffix(".py") for path in HOME.rglob("*.py")}
    assert parts - {"templates"} == set(IMPORTS)
