"""`select`, `extend-select`, `ignore` and `per-file-ignores`."""

from __future__ import annotations

import pytest

from vjpgen.diagnostics.catalogue import CATALOGUE
from vjpgen.diagnostics.selection import Selection, is_selector


@pytest.mark.parametrize(
    ("selection", "shown", "hidden"),
    [
        (Selection(), "VJP101 VJP302", "VJP304 VJP402"),
        (Selection(select=("VJP1",)), "VJP101", "VJP302"),
        (Selection(select=()), "", "VJP101"),
        (Selection(select=("ALL",)), "VJP101 VJP304 VJP402", ""),
        (Selection(select=("VJP3",)), "VJP304", "VJP101"),
        (Selection(extend_select=("VJP304",)), "VJP101 VJP304", "VJP402"),
        (Selection(ignore=("VJP3",)), "VJP101", "VJP302"),
        (Selection(ignore=("ALL",)), "", "VJP101"),
        (Selection(ignore=("VJP3",), extend_select=("VJP302",)), "VJP302", "VJP303"),
        (Selection(ignore=("VJP302",), extend_select=("VJP3",)), "VJP303", "VJP302"),
        (Selection(ignore=("VJP302",), select=("VJP302",)), "", "VJP302"),
    ],
)
def test_the_longest_selector_decides(selection: Selection, shown: str, hidden: str):
    assert all(selection.shows(code) for code in shown.split())
    assert not any(selection.shows(code) for code in hidden.split())


def test_per_file_ignores():
    selection = Selection(per_file_ignores=(("a", ("VJP3",)), ("b", ("VJP1",))))
    assert not selection.shows_in("VJP302", ["a"])
    assert selection.shows_in("VJP101", ["a"])
    assert not selection.shows_in("VJP101", ["a", "b"])
    assert selection.shows_in("VJP302", [])


@pytest.mark.parametrize("code", ["VJP008", "VJP401", "VJP403", "VJP901", "VJP902", "VJP904"])
def test_what_stops_a_build_is_always_shown(code: str):
    assert Selection(select=(), ignore=("ALL",)).shows_in(code, [])


def test_selectors():
    assert all(map(is_selector, [*CATALOGUE, "ALL", "VJP", "VJP3", "VJP30"]))
    assert not any(map(is_selector, ["", "VJP7", "vjp3", "E501"]))
