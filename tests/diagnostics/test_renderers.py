"""The four ways of printing a finding."""

from __future__ import annotations

import json

import pytest

from vjpgen.diagnostics import (
    WHOLE_FILE,
    Diagnostic,
    Span,
    render_github,
    render_json,
    render_text,
)

SOURCE = "# custom-vjp: bwd=ab\ndef f(x):\n\treturn x\n"
FOUND = Diagnostic("VJP101", "`ab` is not defined", "m.py", Span(1, 19, 1, 21), "try `abc`")
WARNING = Diagnostic("VJP004", "nearly", "m.py", Span(1, 1, 1, 3))


def _text(item: Diagnostic, source: str | None = SOURCE, *, color: bool = False) -> str:
    data = None if source is None else source.encode()
    return render_text.render([item], lambda name: data, color=color)


def test_text_shows_place_excerpt_underline_and_help():
    assert _text(FOUND) == (
        "error[VJP101]: `ab` is not defined\n"
        " --> m.py:1:19\n"
        "  |\n"
        "1 | # custom-vjp: bwd=ab\n"
        "  |                   ^^\n"
        "  = help: try `abc`\n"
        "\n"
        "Found 1 error.\n"
    )


def test_text_of_nothing_is_nothing():
    assert render_text.render([], lambda name: None) == ""


def test_text_counts_by_severity():
    text = render_text.render([FOUND, FOUND, WARNING], lambda name: None)
    assert text.endswith("Found 2 errors, 1 warning.\n")


def test_text_without_the_source_or_for_a_whole_file_has_no_excerpt():
    whole = Diagnostic("VJP901", "there already", "m.py", WHOLE_FILE)
    for text in (_text(FOUND, None), _text(whole)):
        assert "|" not in text
        assert "--> m.py:1:" in text


def _marks(text: str) -> tuple[str, str]:
    """Return the line of the source and the line of marks."""
    lines = text.splitlines()
    return lines[3], lines[4]


def test_wide_and_combining_characters_are_underlined_where_they_stand():
    line = "名前 = e\u0301 + bad"
    start = line.index("bad") + 1
    item = Diagnostic("VJP101", "m", "m.py", Span(1, start, 1, start + 3))
    shown, marks = _marks(_text(item, line))
    assert shown.endswith("bad")
    wide_cells = 2
    combining = 1
    assert marks.index("^") == shown.index("bad") + wide_cells - combining
    assert marks.count("^") == 3


@pytest.mark.parametrize(
    ("before", "cells"),
    [
        ("\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}", 2),
        ("\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}", 2),
        ("\N{HEAVY BLACK HEART}\ufe0f", 2),
        ("\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}", 2),
        ("\u0928\u0941", 1),
        ("\u1112\u1161\u11ab", 2),
        ("\uff21", 2),
        ("a\u200db", 3),
        ("\t", 4),
    ],
)
def test_what_takes_several_characters_to_write_is_measured_whole(before: str, cells: int):
    line = f"{before} bad {before}"
    start = len(before) + 2
    _, marks = _marks(_text(Diagnostic("VJP101", "m", "m.py", Span(1, start, 1, start + 3)), line))
    assert marks == "  | " + " " * (cells + 1) + "^^^"
    end = len(line) + 1
    _, marks = _marks(_text(Diagnostic("VJP101", "m", "m.py", Span(1, 1, 1, end)), line))
    assert marks.count("^") == 2 * cells + 5


def test_tabs_are_widened():
    shown, marks = _marks(_text(Diagnostic("VJP101", "m", "m.py", Span(3, 2, 3, 8)), SOURCE))
    assert shown == "3 |     return x"
    assert marks == "  |     ^^^^^^"


def test_what_could_steer_a_terminal_is_not_printed():
    item = Diagnostic("VJP101", "a\x1b[2Jb", "m\x07.py", Span(1, 1, 1, 2))
    assert not {"\x1b", "\x07", "\u202e"} & set(_text(item, "x\x1b[31m\u202e"))


def test_a_span_over_many_lines_is_cut():
    text = _text(Diagnostic("VJP101", "m", "m.py", Span(1, 1, 9, 2)), "  abc  \n" * 9)
    assert text.count("^^^") == 4
    assert "5 |" not in text
    assert "\n ...\n" in text


def test_an_empty_line_within_a_span_is_not_underlined():
    text = _text(Diagnostic("VJP101", "m", "m.py", Span(1, 1, 3, 2)), "a\n\nb\n")
    assert text.splitlines()[3:8] == ["1 | a", "  | ^", "2 |", "3 | b", "  | ^"]


def test_a_very_long_line_is_cut_to_the_span():
    line = "x" * 5000 + "bad" + "y" * 5000
    shown, marks = _marks(_text(Diagnostic("VJP101", "m", "m.py", Span(1, 5001, 1, 5004)), line))
    assert len(shown) < 200
    assert shown[marks.index("^") :].startswith("bad")
    assert marks.count("^") == 3
    assert shown.startswith("1 | ...x")
    assert shown.endswith("y...")


@pytest.mark.parametrize(
    ("start", "left", "right"), [(1, "1 | bad", "x..."), (4998, "...x", "bad")]
)
def test_a_cut_is_marked_where_it_is(start: int, left: str, right: str):
    line = "x" * (start - 1) + "bad" + "x" * (5000 - start - 2)
    item = Diagnostic("VJP101", "m", "m.py", Span(1, start, 1, start + 3))
    shown, marks = _marks(_text(item, line))
    assert shown.removeprefix("1 | " * (left[0] == ".")).startswith(left)
    assert shown.endswith(right)
    assert shown[marks.index("^") :].startswith("bad")


def test_a_long_span_is_underlined_as_far_as_it_is_shown():
    shown, marks = _marks(_text(Diagnostic("VJP101", "m", "m.py", Span(1, 1, 1, 9000)), "x" * 8999))
    assert marks.count("^") == shown.count("x")


def test_a_span_past_the_end_does_not_fail():
    for span in (Span(99, 1, 99, 4), Span(1, 99, 1, 104), Span(1, 5, 99, 1), Span(4, 1, 4, 1)):
        assert "m.py" in _text(Diagnostic("VJP101", "m", "m.py", span))


def test_a_form_feed_ends_no_line():
    text = _text(Diagnostic("VJP101", "m", "m.py", Span(2, 1, 2, 2)), "a\x0cb\nc\n")
    assert "2 | c" in text


def test_colors_only_when_asked():
    assert "\x1b[31m" in _text(FOUND, color=True)
    assert "\x1b" not in _text(FOUND)


def test_json_is_a_list_of_ruffs_objects():
    assert json.loads(render_json.render([FOUND])) == [
        {
            "code": "VJP101",
            "message": "`ab` is not defined",
            "filename": "m.py",
            "location": {"row": 1, "column": 19},
            "end_location": {"row": 1, "column": 21},
            "severity": "error",
            "help": "try `abc`",
            "url": None,
        }
    ]
    assert json.loads(render_json.render([])) == []


def test_github_escapes():
    item = Diagnostic("VJP004", "100%\nof", "a,b:c.py", Span(2, 3, 2, 4), "so")
    assert render_github.render([item]) == (
        "::warning title=vjpgen (VJP004),file=a%2Cb%3Ac.py,line=2,endLine=2,col=3,endColumn=4::"
        "a,b:c.py:2:3: VJP004 100%25%0Aof%0Ahelp: so\n"
    )


@pytest.mark.parametrize(
    ("span", "region"),
    [
        (WHOLE_FILE, "line=1::"),
        (Span(2, 3, 2, 5), "line=2,endLine=2,col=3,endColumn=5::"),
        (Span(2, 3, 4, 1), "line=2,endLine=4::"),
    ],
)
def test_github_takes_columns_within_one_line_alone(span: Span, region: str):
    (line,) = render_github.render([Diagnostic("VJP904", "m", "m.py", span)]).splitlines()
    assert f"file=m.py,{region}" in line


def test_github_gets_nothing_that_steers_or_ends_the_command():
    item = Diagnostic("VJP101", "a\rb\x1b[2J::error::c", "m\n::error.py", Span(1, 1, 1, 2), "d\re")
    text = render_github.render([item])
    assert text.count("\n") == 1
    assert not {"\r", "\x1b"} & set(text)
    assert "file=m%0A%3A%3Aerror.py" in text
