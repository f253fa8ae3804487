"""VJP402: imports of annotated modules in files that are not annotated."""

from __future__ import annotations

import pytest

from vjpgen.compiler import Siblings, plain_imports

SIBLINGS = Siblings(frozenset({"top", "pkg.a", "pkg.sub.b"}), "pkg.sub")


def marked(text: str, siblings: Siblings = SIBLINGS) -> list[str]:
    """What each finding underlines."""
    lines = text.splitlines()
    found = plain_imports(text.encode(), "m.py", siblings)
    assert {finding.code for finding in found} <= {"VJP402"}
    spans = [finding.span for finding in found]
    assert all(span.row == span.end_row for span in spans)
    return [lines[span.row - 1][span.column - 1 : span.end_column - 1] for span in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import top", ["top"]),
        ("import os, pkg.a as x, top", ["pkg.a as x", "top"]),
        ("from pkg import a as x, other", ["a as x"]),
        ("from . import b", ["b"]),
        ("from .b import X", ["from .b import X"]),
        ("from ..a import *", ["from ..a import *"]),
        ("def f():\n    try:\n        import top\n    except ImportError: ...", ["top"]),
        ("if TYPE_CHECKING:\n    import top\nelse:\n    import pkg.a", ["pkg.a"]),
        ("if typing.TYPE_CHECKING:\n    import top", []),
        ("if not TYPE_CHECKING:\n    import top", ["top"]),
        ("import pkg, other.top, topper\nfrom pkg.sub.c import top", []),
        ("from pkg.a_vjp import X", []),
        ("import top)", []),
        ("'import top'", []),
        ("import top\0", []),
    ],
)
def test_what_is_found(text: str, expected: list[str]) -> None:
    assert marked(text) == expected
    assert marked(text, Siblings()) == []


def test_a_name_that_hides_a_module_is_no_module() -> None:
    sources = {"pkg": (b"from .a import a\n", "pkg")}
    siblings = Siblings(frozenset({"pkg.a"}), "", sources)
    assert marked("from pkg import a", siblings) == []
    assert marked("from pkg.a import a", siblings) == ["from pkg.a import a"]


def test_a_finding_says_what_to_import() -> None:
    (found,) = plain_imports(b"from .b import X\n", "m.py", SIBLINGS, "_lifted")
    assert "`pkg.sub.b`" in found.message
    assert "`pkg.sub.b_lifted`" in (found.help or "")
    assert found.severity.value == "note"


def test_a_generated_module_is_passed_over() -> None:
    from vjpgen.compiler import render_header

    body = b"import top\n"
    assert plain_imports(render_header("m.py", body).encode() + body, "m_vjp.py", SIBLINGS) == ()


def test_invalid_escapes_and_other_encodings_do_no_harm() -> None:
    text = "# coding: latin-1\nimport top\nx = '\\d é'\n".encode("latin-1")
    assert len(plain_imports(text, "m.py", SIBLINGS)) == 1
