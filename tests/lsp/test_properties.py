"""Whatever a buffer holds and wherever the cursor is: an answer, never an exception."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lsp.conftest import Look
from vjpgen.compiler.source import Position
from vjpgen.lsp.actions import actions
from vjpgen.lsp.completion import completions
from vjpgen.lsp.definition import definitions
from vjpgen.lsp.document import Document
from vjpgen.lsp.edits import applied
from vjpgen.lsp.hover import hover

CASES = sorted((Path(__file__).parents[1] / "cases").glob("*.py"))
TEXTS = [path.read_text() for path in CASES if not path.name.endswith("_vjp.py")]
PIECES = (
    *("# custom-vjp:", "# custom-vjp: ", "bwd=", "fwd=", "=", ",", "(", ")", "#", "\n", "\r", " "),
    *("missing=", "nondiff_argnames=(", "# vjpgen: ignore[", "VJP009]", "lambda", "*", "'", '"""'),
    *("é", "😀", "\ufeff", "\0", "\f", "\t", "\\\n", "def f(", "async ", "class A:", "self.", "."),
)


@st.composite
def buffers(draw: st.DrawFn) -> tuple[str, Position]:
    """A source with some stretches replaced by pieces, and a place in it."""
    text = draw(st.sampled_from(TEXTS))
    offset = 0
    for _ in range(draw(st.integers(0, 4))):
        offset = draw(st.integers(0, len(text)))
        end = min(len(text), offset + draw(st.integers(0, 12)))
        text = text[:offset] + draw(st.sampled_from(PIECES)) + text[end:]
    rows = [row for row, line in enumerate(text.split("\n"), 1) if "#" in line] or [1]
    row = draw(st.sampled_from(rows))
    line = Document("", "", text).line(row)
    return text, (row, draw(st.integers(0, len(line))))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(buffers())
def test_every_feature_answers(look: Look, buffer: tuple[str, Position]) -> None:
    text, place = buffer
    view = look(text)
    hover(view, place)
    definitions(view, place)
    for item in completions(view, place):
        assert item.start[0] == place[0]
        assert item.start <= place
    for action in actions(view, 1, len(view.document.lines)):
        assert applied(view.document, action.edits) != text


def _unwritten() -> Iterator[tuple[str, str]]:
    """Each source with one rule's name changed to one that is defined nowhere."""
    for text in TEXTS:
        if "import *" in text:  # any name may come from there
            continue
        for match in re.finditer(r"custom-vjp:[^\n]*?\b([fb]wd)=([\w.]+)(?=,|\n|  #)", text):
            key = match[1]
            yield key, text[: match.start(2)] + f"unwritten_{key}" + text[match.end(2) :]


@pytest.mark.parametrize(("key", "text"), list(_unwritten()))
def test_a_rule_is_written_for_every_kind_of_function(look: Look, key: str, text: str) -> None:
    view = look(text)
    before = [finding.code for finding in view.findings]
    found = actions(view, 1, len(view.document.lines))
    written = [each for each in found if each.title.endswith(f"rule `unwritten_{key}`")]
    assert written
    for action in written:
        after = look(applied(view.document, action.edits)).findings
        errors = [finding for finding in after if finding.is_error]
        assert len(errors) < len(before), after
