"""Whatever the source and the span, a finding can be printed."""

from __future__ import annotations

import json

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

PLACES = st.integers(1, 12)
TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
SPANS = st.tuples(PLACES, PLACES, PLACES, PLACES).map(lambda t: Span(*t))


@given(text=TEXTS, message=TEXTS, span=SPANS)
def test_text(text: str, message: str, span: Span):
    item = Diagnostic("VJP101", message, "m.py", span, message)
    printed = render_text.render([item], lambda name: text.encode())
    assert "VJP101" in printed
    steering = {character for character in printed if ord(character) < 32} - {"\n"}
    assert not steering


@given(message=TEXTS, name=TEXTS.filter(lambda text: text and "\0" not in text), span=SPANS)
def test_machine_formats(message: str, name: str, span: Span):
    item = Diagnostic("VJP101", message, name, span)
    assert json.loads(render_json.render([item]))[0]["message"] == message
    assert json.loads(render_sarif.render([item], base="/base"))["runs"][0]["results"]
    assert render_github.render([item]).count("\n") == 1
