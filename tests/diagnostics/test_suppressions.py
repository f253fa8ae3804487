"""Comments that silence a line."""

from __future__ import annotations

import pytest

from vjpgen.diagnostics import Diagnostic, Span
from vjpgen.diagnostics.suppressions import read_suppressions, suppress


def _found(source: str) -> list[tuple[str | None, Span]]:
    return [(each.code, each.span) for each in read_suppressions(source.encode())]


def test_they_are_found_in_comments_alone():
    assert _found('x = "# vjpgen: ignore[VJP302]"\n"""\n# vjpgen: ignore[VJP302]\n"""\n') == []
    assert _found("x = 1  # vjpgen: ignore[VJP302]\n") == [("VJP302", Span(1, 25, 1, 31))]


@pytest.mark.parametrize(
    ("comment", "codes"),
    [
        ("# vjpgen: ignore[VJP302, VJP303]", ["VJP302", "VJP303"]),
        ("#vjpgen:ignore[VJP302 VJP303]", ["VJP302", "VJP303"]),
        ("# custom-vjp: bwd=b  # vjpgen: ignore[VJP101] # why", ["VJP101"]),
        ("# type: ignore[x]  # vjpgen: ignore[VJP101]", ["VJP101"]),
        ("# vjpgen: ignore", [None]),
        ("# vjpgen: ignore[]", [None]),
        ("# vjpgen: ignored", []),
        ("# vjpgen: interface=1 sha256=00", []),
    ],
)
def test_what_they_silence(comment: str, codes: list[str | None]):
    assert [code for code, _ in _found(f"é = 1  {comment}\n")] == codes


def test_a_file_that_is_not_python_has_none():
    assert _found("(\n# vjpgen: ignore[VJP008]\n  x = '\n") in (
        [],
        [("VJP008", Span(2, 18, 2, 24))],
    )


ITEM = Diagnostic("VJP302", "m", "m.py", Span(1, 1, 1, 2))
OTHER = Diagnostic("VJP303", "m", "m.py", Span(1, 1, 1, 2))


def _suppress(source: str, *items: Diagnostic, can_silence: bool = True) -> list[str]:
    suppressions = read_suppressions(source.encode())
    return [item.code for item in suppress(items, suppressions, "m.py", lambda _: can_silence)]


def test_a_finding_of_that_code_on_that_line_is_dropped():
    assert _suppress("x  # vjpgen: ignore[VJP302]\n", ITEM, ITEM, OTHER) == ["VJP303"]
    assert _suppress("x  # vjpgen: ignore[VJP302,VJP303]\n", ITEM, OTHER) == []


def test_one_that_silences_nothing_is_reported():
    assert _suppress("\nx  # vjpgen: ignore[VJP302]\n", ITEM) == ["VJP302", "VJP009"]
    assert _suppress("x  # vjpgen: ignore[VJP302, VJP303]\n", ITEM) == ["VJP009"]
    assert _suppress("x  # vjpgen: ignore\n", ITEM) == ["VJP302", "VJP009"]


def test_what_cannot_be_silenced_stays():
    assert _suppress("x  # vjpgen: ignore[VJP302]\n", ITEM, can_silence=False) == ["VJP302"]
