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
    source = "x  # vjpgen: ignore[VJP302]\n"
    assert _suppress(source, ITEM, can_silence=False) == ["VJP302", "VJP009"]
    source = "x  # vjpgen: ignore[VJP302, VJP009]\n"
    assert _suppress(source, ITEM, can_silence=False) == ["VJP302"]


def _faults(comment: str) -> list[tuple[str, str]]:
    items = suppress((), read_suppressions(comment.encode()), "m.py", lambda _: True)
    return [(item.message, item.help or "") for item in items]


@pytest.mark.parametrize(
    ("comment", "message", "help_"),
    [
        ("# vjpgen: ignore[VJP999]", "no finding has the code `VJP999`", "`VJP9"),
        ("# vjpgen: ignore[vjp302]", "no finding has the code `vjp302`", "did you mean `VJP302`?"),
        ("# vjpgen: ignore[VJP3]", "no finding has the code `VJP3`", "write out each code"),
        ("# vjpgen: ignore[all]", "no finding has the code `all`", "explain --all"),
        ("# vjpgen:ignore", "names no code,", "write `# vjpgen: ignore[VJP302]`"),
        ("# vjpgen: ignore[]", "names no code,", "write `# vjpgen: ignore[VJP302]`"),
        ("# vjpgen: ignore[VJP101", "names no code in brackets", "`# vjpgen: ignore[VJP101]`"),
        ("# vjpgen: ignore VJP101", "names no code in brackets", "`# vjpgen: ignore[VJP101]`"),
        (
            "# vjpgen: ignore(vjp101, VJP302)",
            "names no code in brackets",
            "`# vjpgen: ignore[VJP101, VJP302]`",
        ),
    ],
)
def test_a_malformed_one_is_told_what_to_write(comment: str, message: str, help_: str):
    ((said, advised),) = _faults(f"x  {comment}\n")
    assert message in said
    assert help_ in advised


def test_the_place_of_a_malformed_one():
    assert _found("é  # a # vjpgen: ignore[]  # b\n") == [(None, Span(1, 8, 1, 26))]
    assert _found("é  # vjpgen: ignore[VJP302, VJP9]\n")[1] == (None, Span(1, 29, 1, 33))


def test_it_can_stand_on_any_line_of_the_finding_or_of_its_annotation():
    item = Diagnostic("VJP302", "m", "m.py", Span(3, 1, 4, 2), annotation=Span(6, 1, 8, 3))
    for row in range(1, 10):
        left = _suppress("\n" * (row - 1) + "x  # vjpgen: ignore[VJP302]\n", item)
        assert left == ([] if row in (3, 4, 6, 7, 8) else ["VJP302", "VJP009"])


def test_vjp009_can_be_ignored_itself():
    assert _suppress("x  # vjpgen: ignore[VJP303, VJP009]\n", ITEM) == ["VJP302"]
    assert _suppress("x  # vjpgen: ignore[nonsense, VJP009]\n", ITEM) == ["VJP302"]
    assert _suppress("x  # vjpgen: ignore[VJP302, VJP009]\n", ITEM) == ["VJP009"]
    assert _suppress("x  # vjpgen: ignore[VJP009]\n") == ["VJP009"]


def test_where_not_all_was_looked_for_only_the_malformed_are_reported():
    source = b"x  # vjpgen: ignore[VJP302, VJP009]\ny  # vjpgen: ignore\n"
    items = suppress((), read_suppressions(source), "m.py", lambda _: True, complete=False)
    assert [item.span.row for item in items] == [2]
