"""The record of what was written into a folder."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjpgen.building.manifest import Digest, Entry, digest_of, parse, render

DIGESTS = st.frozensets(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=2)
PARTS = st.binary(min_size=1, max_size=8).filter(
    lambda part: not {b"/"[0], 0} & set(part) and part not in (b".", b"..")
)
NAMES = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: os.fsdecode(b"/".join(parts)))
ENTRIES = st.dictionaries(
    NAMES.filter(lambda name: name != ".vjpgen-out"), st.builds(Entry, NAMES, DIGESTS), max_size=5
)


@pytest.mark.skipif(sys.platform == "win32", reason="names there are not bytes")
@given(ENTRIES)
def test_what_is_written_is_read_again(entries: dict[str, Entry]):
    text = render(entries)
    assert parse(text) == entries
    assert render(parse(text)) == text
    assert parse(text.replace(b"\n", b"\r\n")) == entries


@given(st.binary(max_size=300))
def test_anything_can_be_read(data: bytes):
    entries = parse(data)
    assert parse(render(entries)) == entries


def test_both_sides_of_a_conflict_hold():
    ours, theirs = (render({"a.py": Entry("..", frozenset({digit * 64}))}) for digit in "ab")
    assert parse(b"<<<<<<< x\n" + ours + b"=======\n" + theirs + b">>>>>>> y\n") == {
        "a.py": Entry("..", frozenset({"a" * 64, "b" * 64}))
    }


def test_each_change_has_an_unchanged_line_beside_it():
    """So that branches which change two neighbours can be merged."""
    before = {name: Entry("..", frozenset({"a" * 64})) for name in ("a.py", "b.py")}
    after = {name: Entry("..", frozenset({"b" * 64})) for name in ("a.py", "b.py")}
    old, new = (render(each).splitlines() for each in (before, after))
    changed = [row for row, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]
    assert changed == [2, 4]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../x", "a//x", "./x", "", "..", ".vjpgen-out", "a/%2E%2E/x"]
)
def test_a_path_that_leads_elsewhere_is_no_entry(name: str):
    text = f"{name}\n    sha256 {'a' * 64} from ..\n"
    assert parse(text.encode()) == {}


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\0"])))
def test_digests_do_not_depend_on_pieces(parts: list[bytes]):
    counted = Digest()
    for part in parts:
        counted.add(part)
    assert counted.text() == digest_of(b"".join(parts))


@given(st.lists(st.sampled_from([b"a", b"\n", b"\0"])).map(b"".join))
def test_digests_do_not_depend_on_line_ends(data: bytes):
    assert digest_of(data.replace(b"\n", b"\r\n")) == digest_of(data)
    assert digest_of(data + b"\r") != digest_of(data)
