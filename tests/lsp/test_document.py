"""Buffers and positions: every encoding, every line end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjpgen.lsp.document import UNITS, Document

TEXTS = st.text(st.sampled_from("ab é√😀\ud83d\ufeff\t\f\x1c\u2028\n\r"), max_size=30)


def document(text: str) -> Document:
    return Document("file:///m.py", "/m.py", text)


@pytest.mark.parametrize(("units", "column"), [("utf-16", 5), ("utf-8", 8), ("utf-32", 4)])
def test_columns_are_counted_as_the_client_does(units: str, column: int) -> None:
    buffer = document("x\n'é😀' # custom-vjp: bwd=b\n")
    assert buffer.to_client((2, 4), UNITS[units]) == (1, column)
    assert buffer.from_client(1, column, UNITS[units]) == (2, 4)


@pytest.mark.parametrize(
    ("text", "line", "character", "place"),
    [
        ("ab\ncd", 0, 99, (1, 2)),
        ("ab\r\ncd", 0, 99, (1, 2)),
        ("ab\ncd", 1, 99, (2, 2)),
        ("ab\ncd", 99, 0, (2, 2)),
        ("ab\n", 99, 0, (2, 0)),
        ("", 0, 0, (1, 0)),
        ("a\fb\u2028c\x1cd", 0, 6, (1, 6)),
        ("\ufeffab", 0, 1, (1, 0)),
        ("\ufeffab", 0, 3, (1, 2)),
    ],
)
def test_places_past_the_end_and_odd_characters(
    text: str, line: int, character: int, place: tuple[int, int]
) -> None:
    assert document(text).from_client(line, character, UNITS["utf-16"]) == place


@given(TEXTS, st.sampled_from(sorted(UNITS)), st.data())
def test_a_place_goes_to_the_client_and_back(text: str, units: str, data: st.DataObject) -> None:
    buffer = document(text)
    row = data.draw(st.integers(1, max(len(buffer.lines), 1)))
    place = row, data.draw(st.integers(0, len(buffer.line(row))))
    assert buffer.from_client(*buffer.to_client(place, UNITS[units]), UNITS[units]) == place


@given(TEXTS, TEXTS, st.data())
def test_a_change_is_what_python_makes_of_it(text: str, new: str, data: st.DataObject) -> None:
    buffer = document(text)
    row = data.draw(st.integers(1, max(len(buffer.lines), 1)))
    start = row, data.draw(st.integers(0, len(buffer.line(row))))
    end = row, data.draw(st.integers(start[1], len(buffer.line(row))))
    offset = buffer.offset(start)
    expected = text[:offset] + new + text[offset + end[1] - start[1] :]
    assert buffer.changed(start, end, new) == expected


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("x = 'é'\n", b"x = '\xc3\xa9'\n"),
        ("# coding: latin-1\n'é'\n", b"# coding: latin-1\n'\xe9'\n"),
        ("# coding: latin-1\n'é😀'\n", b"# coding: latin-1\n'\xe9?'\n"),
        ("# coding: nonsense\n'é'\n", "# coding: nonsense\n'é'\n".encode()),
        ("'\ud83d'\n", b"'?'\n"),
        ("\ufeffx\n", b"x\n"),
    ],
)
def test_the_bytes_are_those_that_the_file_would_have(text: str, data: bytes) -> None:
    assert document(text).data == data
