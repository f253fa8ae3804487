"""Text in the style of black: what is written means what was read."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjpgen.compiler import template
from vjpgen.compiler.text import WIDTH, argument, bracketed, literal, render, string

VALUES = st.text() | st.binary(max_size=5) | st.integers() | st.booleans()


@given(st.text())
def test_a_string_reads_back(value: str) -> None:
    assert ast.literal_eval(string(value)) == value
    assert "\n" not in string(value)


@given(st.lists(VALUES, max_size=3).map(tuple) | VALUES)
def test_a_literal_reads_back(value: object) -> None:
    assert ast.literal_eval(literal(value)) == value


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f( a,b = 'c' )", 'f(a, b="c")'),
        ("'it\\'s'", '"it\'s"'),
        ("'\"'", "'\"'"),
        ("(a,)", "(a,)"),
        ("b'x'", 'b"x"'),
        ("lambda x:x[ 'a' ]", 'lambda x: x["a"]'),
        ("{'a':1}", '{"a": 1}'),
    ],
)
def test_an_expression_is_written_in_the_usual_style(before: str, after: str) -> None:
    node = ast.parse(before, mode="eval").body
    assert render(node) == after
    assert ast.dump(ast.parse(after, mode="eval").body) == ast.dump(node)


def test_long_lines_are_broken_at_their_items() -> None:
    items = [f"item_number_{i}" for i in range(10)]
    assert bracketed("f(", items[:2], ")", "  ", "    ") == ["  f(item_number_0, item_number_1)"]
    lines = bracketed("f(", items, ")", "  ", "    ")
    assert lines == ["  f(", *(f"      {item}," for item in items), "  )"]
    call = f"lambda: g({', '.join(items)}, *a, k=1, **b)"
    lines = argument("bwd", call, "    ", "    ")
    assert lines[0] == "    bwd=lambda: g("
    assert max(map(len, lines)) <= WIDTH
    assert ast.dump(ast.parse("f(" + "\n".join(lines) + ")")) == ast.dump(
        ast.parse(f"f(bwd={call})")
    )


def test_an_installed_package_brings_its_own_templates(tmp_path, monkeypatch) -> None:
    beside = template.template_path("lifted.py")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "lifted.py").write_bytes(beside.read_bytes())
    monkeypatch.setattr(template, "_PACKAGE", tmp_path)
    assert template.template_path("lifted.py") == tmp_path / "templates" / "lifted.py"
