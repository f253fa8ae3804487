"""Reports of verification as a page."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest

from tests.markup import Page
from vjpgen import page as frame
from vjpgen.inspecting import render_html as inspecting
from vjpgen.inspecting.report import Memory, Program, Report, Side
from vjpgen.testing import charts
from vjpgen.testing.render_html import page
from vjpgen.testing.report import Finding, Leaf, RuleReport
from vjpgen.testing.scales import fitting

WILD = '<b>&"quoted"</b>\''
VALUES = tuple(0.25 * n - 2 for n in range(16))


def leaf(path: str, claim="exact", relation="exact", custom=VALUES, reference=VALUES) -> Leaf:
    return Leaf("x", path, (16,), "float32", claim, relation, 1e-9, 1e-6, custom, reference, 8)


def report(name="f", status="verified", findings=(), leaves=(), **others) -> RuleReport:
    made = RuleReport(
        name, "model.py", 3, 1, status, findings, leaves, 64, 128, 7, 1.5, ("primal",), ()
    )
    return replace(made, **others)


def test_a_page_is_well_formed_and_loads_nothing():
    text = page([report(leaves=(leaf("x"),)), report("g", "unverified")])
    found = Page(text)
    assert {"svg", "table", "path", "section"} <= set(found.seen)
    assert not {"script", "link", "img", "iframe"} & set(found.seen)
    assert "url(" not in text
    assert "@import" not in text
    assert found.links == ["rule-0", "rule-1"] or found.links == ["rule-1", "rule-0"]
    assert "64" in found.text
    assert "50.0% of autodiff's 128 bytes" in found.text
    assert "0 B, as autodiff does<" in page([report(residual_bytes=0, autodiff_bytes=0)])


def test_the_summary_counts_and_rules_that_fail_come_first():
    statuses = ("verified", "unverified", "failed", "crashed", "timeout", "error", "verified")
    found = Page(page([report(f"rule_{n}", status) for n, status in enumerate(statuses)]))
    assert "Gradients: 2 of 7 rules verified" in found.text
    order = [int(name) for name in re.findall(r"rule_(\d)", found.text)[:7]]
    assert order == [2, 3, 4, 5, 1, 0, 6]


def test_no_rules_at_all():
    assert "There is no rule." in Page(page([])).text


def test_what_a_page_shows_is_escaped():
    finding = Finding("gradient", "error", WILD, WILD, WILD, f"{WILD}1", f"{WILD}2", f"{WILD}3")
    note = replace(finding, severity="note")
    text = page(
        [
            report(
                WILD,
                "failed",
                (finding, note),
                (leaf(WILD),),
                filename=WILD,
                checks=(WILD,),
                skipped=((WILD, WILD),),
            )
        ]
    )
    assert WILD not in text
    assert Page(text).text.count(WILD) > 12


def test_a_finding_says_everything():
    finding = Finding(
        "gradient",
        "error",
        "the gradient of `x` differs",
        "x",
        "x[0]",
        "0.5 at [0]",
        "0.25 at [0]",
        "a factor of 2",
    )
    note = Finding("claim", "note", "nothing is claimed of `y`")
    text = page(
        [report("f", "failed", (note, finding), (leaf("x[0]"),), skipped=(("vmap", "no"),))]
    )
    found = Page(text)
    for part in (
        "error: gradient x[0]",
        "the gradient of x differs",
        "0.5 at [0]",
        "0.25 at [0]",
        "a factor of 2",
        "seed7",
        "claim nothing is claimed of y",
        "vmap: no",
    ):
        assert part in found.text.replace("\n", "")
    assert found.text.index("a factor of 2") < found.text.index("nothing is claimed")
    assert 'class="leaf wrong"' in text


def test_long_lists_are_cut_short():
    leaves = tuple(leaf(f"params.layer_{n}.kernel") for n in range(3000))
    findings = tuple(Finding("gradient", "error", f"message {n}.") for n in range(50))
    notes = tuple(Finding("gradient", "note", f"note {n}.") for n in range(50))
    text = page([report("f", "failed", (*findings, *notes), leaves)])
    found = Page(text)
    assert len(text) < 400_000
    assert "message 39." in found.text
    assert "message 40." not in found.text
    for left in ("10 findings", "10 notes", "2,984 leaves", "2,600 leaves", "2,988 drawings"):
        assert f"and {left} more" in found.text
    many = Page(page([report(f"rule_{n}.", leaves=leaves[:20]) for n in range(300)]))
    assert many.seen.count("svg") == 300 * 3  # one leaf's two drawings, and the bars


def test_a_leaf_that_is_wrong_comes_first():
    good, bad = leaf("good"), leaf("bad", relation="different")
    noisy = replace(leaf("noisy"), error=math.nan)
    found = Page(page([report("f", "failed", (), (good, noisy, bad))]))
    assert re.findall("good|bad|noisy", found.text.partition("Turned out")[2])[:3] == [
        "bad",
        "noisy",
        "good",
    ]


@pytest.mark.parametrize("claim", ["exact", "surrogate", "zero", "state", ""])
def test_points_show_their_claim(claim):
    relation = "zero" if claim == "zero" else "exact"
    text = page([report(leaves=(leaf("x", claim, relation),))])
    assert f'<g class="{claim or "unclaimed"}">' in text
    assert (claim or "unclaimed") in Page(text).text


def test_both_renderers_share_the_frame():
    side = Side(
        (),
        dict.fromkeys(("primal", "forward", "backward", "step"), Program(1, *[None] * 5, "")),
        Memory((), ()),
    )
    other = inspecting.render(Report("f", "m.py:3", "f", (), side, side, "cpu"))
    for text in (page([report()]), other):
        assert text.startswith(frame.document("", ()).partition("<title>")[0])
        assert frame._STYLE in text


# -- drawings --------------------------------------------------------------------------------------

EXTREMES = {
    "nothing": (),
    "zeros": (0.0, 0.0),
    "one": (3.0, 3.0),
    "negative": (-3.0, -2e-5),
    "one large": (1e308, -1.7e308),
    "denormal": (5e-324, -1e-320),
    "all sizes": (5e-324, 1e-30, 0.0, 1.0, -1e30, 1.7e308),
    "close": (1.0, 1.0 + 1e-15),
    "infinite": (math.inf, 1.0, -math.inf),
    "nan": (math.nan, 1.0, math.nan),
    "nan alone": (math.nan,),
}


@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_all_numbers_can_be_drawn(values):
    reference = tuple(reversed(values))
    one = leaf("x", custom=values, reference=reference)
    for drawn in (charts.scatter(one, "exact"), charts.errors(one, "exact")):
        assert Page(drawn).seen[0] == "svg"
        numbers = re.findall(r'\b(?:x|y|x1|x2|y1|y2|d|cx|cy)="([^"]*)"', drawn)
        assert not any("nan" in each or "inf" in each for each in numbers)
    lost = sum(
        not (math.isfinite(a) and math.isfinite(b)) for a, b in zip(values, reference, strict=True)
    )
    assert charts.not_finite(one) == lost
    text = Page(page([report(leaves=(one,))])).text
    assert ("not finite" in text) == (0 < lost < len(values))


def test_equal_gradients_lie_on_the_diagonal():
    values = (-3.0, 0.0, 0.2, 5.0, 4e6)
    drawn = charts.scatter(leaf("x", custom=values, reference=values), "exact")
    (x1, y1, x2, y2) = (
        float(each)
        for each in re.search(
            r'diagonal" x1="([^"]+)" y1="([^"]+)" x2="([^"]+)" y2="([^"]+)"', drawn
        ).groups()
    )
    points = re.findall(r"M([\d.]+),([\d.]+)h0", drawn)
    assert len(points) == 5
    for x, y in points:
        along = (float(x) - x1) / (x2 - x1)
        assert float(y) == pytest.approx(y1 + along * (y2 - y1), abs=0.11)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((-1.9, 1.9), ["-2", "0", "2"]),
        ((0.0, 0.0), ["-1", "-0.5", "0", "0.5", "1"]),
        ((1.0, 2.0, 3.0), ["1", "2", "3"]),
        ((-1e-3, 1e-3, 1e-3, 1e3), ["-1e-3", "0", "1e-3", "1e-1", "1e1", "1e3"]),
    ],
)
def test_axes_have_round_numbers(values, texts):
    scale = fitting(values)
    found = [text for _, text in scale.ticks()]
    assert found == texts
    places = [scale.place(value) for value, _ in scale.ticks()]
    assert places == sorted(places)
    assert 0 <= places[0] < places[-1] <= 1


def test_numbers_at_an_axis_stand_apart():
    values = tuple(sign * 10.0**n for n in range(-8, 9) for sign in (-1, 1))
    drawn = charts.scatter(leaf("x", custom=values, reference=values), "exact")
    places = sorted(float(x) for x in re.findall(r'<text x="([\d.]+)" y="186"', drawn))
    assert len(places) > 3
    assert min(b - a for a, b in itertools.pairwise(places)) >= 30


def test_bars_are_as_long_as_their_bytes():
    drawn = charts.bars(250, 1000)
    short, whole = (float(each) for each in re.findall(r'width="([\d.]+)" height', drawn))
    assert whole == pytest.approx(4 * short, abs=0.2)
    assert "250 B" in Page(drawn).text
    assert "1 kB" in Page(drawn).text
    assert re.findall(r'width="([\d.]+)" height', charts.bars(0, 0)) == ["0.0", "0.0"]
