"""Reports as text, JSON and HTML."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

from tests.inspecting.conftest import Inspected
from tests.markup import Page
from vjpgen import figures
from vjpgen.inspecting import chart, render_html, render_json, render_text
from vjpgen.inspecting.report import (
    Given,
    Memory,
    Moment,
    Origin,
    Program,
    Report,
    Side,
    Tensor,
    grouped,
)

WILD = '<b>&"quoted"</b>'
NUMBER = {"type": ["number", "null"]}
TEXT = {"type": ["string", "null"]}
PLACE = {"expression": TEXT, "filename": TEXT, "row": {"type": ["integer", "null"]}}


def object_of(properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


MOMENTS = {
    "type": "array",
    "items": object_of({"bytes": {"type": "integer"}, "operation": {"type": "string"}, **PLACE}),
}
PROGRAM = object_of(
    {
        "operations": {"type": "integer"},
        "instructions": NUMBER,
        "flops": NUMBER,
        "accessed": NUMBER,
        "temporary": NUMBER,
        "peak": NUMBER,
        "jaxpr": {"type": "string"},
    }
)
SIDE = object_of(
    {
        "kept": {"type": "integer"},
        "residuals": {
            "type": "array",
            "items": object_of(
                {
                    "dtype": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "bytes": {"type": "integer"},
                    "kind": {"enum": ["computed", "argument", "constant"]},
                    "name": {"type": "string"},
                    "is_output": {"type": "boolean"},
                    "operation": {"type": "string"},
                    **PLACE,
                }
            ),
        },
        "programs": object_of(dict.fromkeys(("primal", "forward", "backward", "step"), PROGRAM)),
        "memory": object_of({"peak": {"type": "integer"}, "forward": MOMENTS, "backward": MOMENTS}),
    }
)
SCHEMA = object_of(
    {
        "name": {"type": "string"},
        "place": {"type": "string"},
        "called": {"type": "string"},
        "backend": {"type": "string"},
        "arguments": {
            "type": "array",
            "items": object_of(
                {
                    "name": {"type": "string"},
                    "type": {"type": "string"},
                    "differentiated": {"type": "boolean"},
                }
            ),
        },
        "ratio": NUMBER,
        "rule": SIDE,
        "autodiff": SIDE,
    }
)


def wild_report(memory: Memory) -> Report:
    """A report whose every text has characters that mean something in HTML."""
    origin = Origin(WILD, WILD, 3)
    program = Program(1, None, None, None, None, None, WILD)
    tensors = (
        Tensor("float32", (2,), 8, "computed", operation=WILD, origin=origin, is_output=True),
        Tensor("float32", (2,), 8, "argument", WILD),
        Tensor("float32", (2,), 8, "constant", operation=WILD),
    )
    names = ("primal", "forward", "backward", "step")
    side = Side(tensors, dict.fromkeys(names, program), memory)
    return Report(WILD, WILD, "around", (Given(WILD, WILD, False),), side, side, WILD)


WILD_MEMORY = Memory((Moment(5, WILD, None),), (Moment(7, WILD, Origin(WILD, WILD, 3)),))


def test_json_follows_its_schema(inspected: Inspected):
    for name in ("masked", "Stateful.__call__"):
        found = json.loads(render_json.render(inspected(name)))
        jsonschema.validate(found, SCHEMA)
        assert found["rule"]["kept"] == inspected(name).rule.kept
        assert found["ratio"] == inspected(name).ratio


def test_what_is_not_known_is_null_or_a_dash():
    report = wild_report(WILD_MEMORY)
    jsonschema.validate(json.loads(render_json.render(report)), SCHEMA)
    line = next(line for line in render_text.render(report).splitlines() if "primal" in line)
    assert line.split() == ["primal", "rule", "1", "-", "-", "-", "-"]


def test_text_says_what_is_kept(inspected: Inspected):
    text = render_text.render(inspected("masked"))
    assert "Kept for the backward pass: 128 bytes, 25.0% of autodiff's 512" in text
    assert "128  bool[8,16]" in text
    assert "x > 0" in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_jaxprs_are_shown_where_they_are_wanted(inspected: Inspected):
    report = inspected("masked")
    assert "lambda" not in render_text.render(report)
    shown = render_text.render(report, verbose=True)
    for name in ("primal", "forward", "backward"):
        assert f"The rule's {name}:\n{{ lambda" in shown


def test_long_lists_are_cut_short():
    report = wild_report(WILD_MEMORY)
    many = tuple(Tensor("float32", (), 4, "argument", f"a{n}") for n in range(20))
    rows = tuple(
        Tensor("float32", (n,), 4 * n, "computed", origin=Origin("f", "a.py", 1)) for n in range(20)
    )
    side = replace(report.rule, residuals=(*rows, *many))
    given = tuple(Given(f"a{n}", "float32[]", True) for n in range(20))
    report = replace(report, rule=side, given=given)
    text = render_text.render(report)
    assert text.count("... and 4 more, which --verbose shows") == 2
    assert "a15, and 4 more" in text
    whole = render_text.render(report, verbose=True)
    assert " more" not in whole
    assert "a18, a19" in whole


def test_a_page_is_well_formed_and_loads_nothing(inspected: Inspected):
    text = render_html.render(inspected("Stateful.__call__"))
    page = Page(text)
    assert {"svg", "table", "details", "pre", "path"} <= set(page.seen)
    assert not {"script", "link", "img", "iframe"} & set(page.seen)
    assert "url(" not in text
    assert "@import" not in text
    assert "nn.Dropout(0.5, deterministic=not train)(x)" in page.text
    assert inspected("Stateful.__call__").rule.programs["backward"].jaxpr in page.text


def test_a_page_escapes_what_it_shows():
    text = render_html.render(wild_report(WILD_MEMORY))
    page = Page(text)
    assert WILD not in text
    assert page.text.count(WILD) > 10
    assert {"b"} & set(page.seen) == {"b"}
    assert page.seen.count("b") == 2  # the two figures; flops are not known


@pytest.mark.parametrize(
    "memory", [Memory((), ()), Memory((Moment(0, "sin", None),), ()), WILD_MEMORY]
)
def test_every_memory_can_be_drawn(memory):
    drawn = chart.draw({"rule": memory, "autodiff": memory})
    assert Page(drawn).seen[0] == "svg"
    assert "nan" not in drawn


def test_labels_do_not_lie_on_one_another():
    drawn = chart.draw({"rule": WILD_MEMORY, "autodiff": WILD_MEMORY})
    heights = [float(part.split('"')[0]) for part in drawn.split(' y="')[1:]]
    assert abs(heights[-1] - heights[-2]) >= 12


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (5e15, "5e+03 TB")],
)
def test_sizes(count, text):
    assert figures.size(count) == text


def test_what_looks_alike_is_shown_once():
    origin = Origin("f(x)", "a.py", 1)
    one = Tensor("float32", (2,), 8, "computed", operation="sin", origin=origin)
    other = Tensor("float32", (2,), 8, "computed", operation="cos", origin=origin)
    argument = Tensor("float32", (9,), 36, "argument", "x")
    found = [(each.count, each.size) for each in grouped([argument, one, other])]
    assert found == [(2, 16), (1, 36)]
