"""Whatever the source and the span, a finding can be printed."""

from __future__ import annotations

import json
from unicodedata import category

from hypothesis import given
from hypothesis import strategies as st

from vjpgen.diagnostics import (
    Diagnostic,
    Span,
    render_github,
    render_json,
    render_sarif,
    render_text,
)
from vjpgen.diagnostics.text import width

PLACES = st.integers(1, 12)
TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
ODD = "xé名前\u0301\u200d\ufe0f\t\u200b\x1b\u0941\N{MAN}\N{GIRL}\N{HEAVY BLACK HEART}\u1112\u1161"
SPANS = st.tuples(PLACES, PLACES, PLACES, PLACES).map(lambda t: Span(*t))


@given(text=TEXTS, message=TEXTS, span=SPANS)
def test_text(text: str, message: str, span: Span):
    item = Diagnostic("VJP101", message, "m.py", span, message)
    printed = render_text.render([item], lambda name: text.encode())
    assert "VJP101" in printed
    steering = {each for each in printed if category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert steering <= {"\n", "\u200c", "\u200d"}


@given(
    before=st.text(alphabet=ODD, max_size=12),
    marked=st.text(alphabet=ODD, min_size=1, max_size=12),
    after=st.text(alphabet=ODD, max_size=12),
)
def test_the_marks_are_as_wide_as_what_they_mark(before: str, marked: str, after: str):
    """Between letters, which join with nothing, the parts are as wide as each by itself."""
    line = f"{before}a{marked}b{after}"
    start = len(before) + 2
    span = Span(1, start, 1, start + len(marked))
    item = Diagnostic("VJP101", "m", "m.py", span)
    printed = render_text.render([item], lambda name: line.encode())
    marks = printed.split("\n")[4].removeprefix("  | ")
    assert marks.index("^") == width(f"{before}a")
    assert marks.count("^") == max(1, width(f"a{marked}b") - 2)


@given(message=TEXTS, name=TEXTS.filter(lambda text: text and "\0" not in text), span=SPANS)
def test_machine_formats(message: str, name: str, span: Span):
    item = Diagnostic("VJP101", message, name, span)
    assert json.loads(render_json.render([item]))[0]["message"] == message
    assert json.loads(render_sarif.render([item], base="/base"))["runs"][0]["results"]
    assert render_github.render([item]).count("\n") == 1
