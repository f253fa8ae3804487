"""Which row of the source each row of a generated module comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from vjpgen.compiler import Options, Result, Siblings, compile_source

CASES = Path(__file__).resolve().parents[1] / "cases"
SOURCES = sorted(path for path in CASES.glob("*.py") if not path.stem.endswith("_vjp"))
ROUNDED = """\
import jax.numpy as jnp

def rule(vjp_fn, y_t):
    return (y_t,)

# custom-vjp: bwd=rule
def rounded(x):
    return jnp.round(x)

AFTER = 1"""


def compiled(source: bytes, siblings: Siblings | None = None) -> Result:
    return compile_source(source, "m.py", options=Options("m.py"), siblings=siblings)


def check(source: bytes, result: Result) -> None:
    assert result.output is not None
    lines, output = source.decode().splitlines(), result.output.decode().splitlines()
    assert len(output) == len(result.rows)
    kept = [row for row in result.rows if row > 0]
    assert kept == list(range(1, len(lines) + 1))
    for text, row in zip(output, result.rows, strict=True):
        assert row < 0 or text == lines[row - 1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_row_of_the_source_is_found_again(path: Path):
    result = compiled(path.read_bytes())
    if result.output is not None:
        check(path.read_bytes(), result)


@pytest.mark.parametrize("source", [ROUNDED, ROUNDED.rpartition("\n\n")[0]])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\N{BOM}"])
def test_whatever_ends_a_line(source: str, newline: str, bom: str):
    data = (bom + source.replace("\n", newline)).encode()
    result = compiled(data)
    check(data.removeprefix(b"\xef\xbb\xbf"), Result(result.output, rows=result.rows))


def test_inserted_rows_stand_for_their_annotation():
    result = compiled(ROUNDED.encode())
    assert result.output is not None
    inserted = dict(zip(result.output.decode().splitlines(), result.rows, strict=True))
    assert inserted["from vjpgen.runtime import interface_1 as _vjpgen"] == -6
    assert inserted["def _vjp_lifted_rounded(_vjp, x):"] == -6
    assert inserted["    bwd=lambda: rule,"] == -6


def test_an_import_that_is_redirected_keeps_its_row():
    names = ", ".join(f"name_{number}" for number in range(8))
    source = ROUNDED.replace("import jax.numpy as jnp", f"from neighbours import {names}")
    result = compiled(source.encode(), Siblings(frozenset({"neighbours"})))
    assert result.output is not None
    output = result.output.decode().splitlines()
    assert "from neighbours_vjp import (" in output
    at = output.index("from neighbours_vjp import (")
    assert set(result.rows[at : at + 10]) == {-1}
    assert result.rows[output.index("AFTER = 1")] == 10
