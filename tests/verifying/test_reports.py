"""Reports: merged over sets of arguments, as text, as JSON; and where a process hung."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vjpgen.testing.report import Claim, Finding, Leaf, Relation, RuleReport
from vjpgen.verifying import render_json, render_text
from vjpgen.verifying.dumps import where
from vjpgen.verifying.nested import claims_of, with_claims
from vjpgen.verifying.requests import Manner, Request
from vjpgen.verifying.sets import merged
from vjpgen.verifying.verifier import without_example_fails

REQUEST = Request("/p/model.py", "Net.__call__", "model.py", 12, 5, {"bwd": "b"}, Manner(seed=3))
WRONG = Finding(
    "gradient", "error", "it is wrong\nin two lines", "x", "x[0]", "2.0", "1.0", "a factor of 2"
)
NOTE = Finding("claim", "note", "nothing is claimed")


def leaf(relation: Relation, claim: Claim = "", error: float = 0.0, path: str = "x") -> Leaf:
    return Leaf("x", path, (2,), "float32", claim, relation, error, 1e-6, (1.0,), (1.0,), 8)


def report(*findings: Finding, leaves: tuple[Leaf, ...] = ()) -> RuleReport:
    failed = any(each.severity == "error" for each in findings)
    made = REQUEST.report("failed" if failed else "verified", *findings, seconds=1.25)
    return replace(made, leaves=leaves, checks=("primal", "gradient"))


# -- several sets ----------------------------------------------------------------------------------


def test_the_worst_of_several_sets_counts_and_findings_say_of_which_they_are():
    good = replace(report(NOTE, leaves=(leaf("exact"),)), residual_bytes=8, autodiff_bytes=16)
    bad = replace(
        report(WRONG, NOTE, leaves=(leaf("different", error=0.5),)),
        residual_bytes=4,
        autodiff_bytes=8,
        skipped=(("vmap", "no axis"), ("gradient", "why")),
    )
    whole = merged([good, bad, bad])
    assert whole.status == "failed"
    assert whole.findings == (replace(WRONG, message=f"sets 2, 3: {WRONG.message}"), NOTE)
    assert whole.leaves == bad.leaves
    assert (whole.residual_bytes, whole.autodiff_bytes, whole.seconds) == (8, 16, 3.75)
    assert whole.skipped == (("vmap", "no axis"),)
    assert merged([good]) is good


STALE = Finding("claim", "error", "the surrogate is exact", "x", "x")


def test_a_surrogate_need_differ_on_one_set_alone():
    inside = report(STALE, leaves=(leaf("exact", "surrogate"),))
    outside = report(leaves=(leaf("different", "surrogate", 0.5),))
    whole = merged([inside, outside])
    assert (whole.status, whole.findings) == ("verified", ())
    assert merged([inside, inside]).status == "failed"
    assert merged([report(STALE, WRONG, leaves=inside.leaves), outside]).status == "failed"


@pytest.mark.parametrize(("name", "path"), [("x", "x.a"), ("params", "params.w"), ("x.a", "x.a")])
def test_a_surrogate_is_named_by_its_claim(name: str, path: str):
    stale = replace(STALE, leaf=name)
    inside = report(stale, leaves=(leaf("exact", "surrogate", path=path),))
    outside = report(leaves=(leaf("different", "surrogate", 0.5, path=path),))
    assert merged([inside, outside]).status == "verified"
    assert merged([inside, inside]).status == "failed"
    other = report(stale, leaves=(leaf("exact", "surrogate", path=path), leaf("different")))
    assert merged([inside, other]).status == "failed"


def test_a_claim_need_name_something_on_one_set_alone():
    def unknown(hint: str) -> Finding:
        message = f"the claim `exact` names `y`, which is nothing here; {hint}"
        return Finding("claim", "error", message, leaf="y")

    with_y = report(leaves=(leaf("exact", "exact", path="y"),))
    assert merged([report(unknown("a")), with_y]).findings == ()
    assert merged([report(unknown("a")), with_y]).status == "verified"
    assert merged([report(unknown("a")), report(unknown("b"))]).status == "failed"


def test_a_set_on_which_nothing_can_be_verified_counts_if_all_are_such():
    nothing = replace(report(NOTE), status="unverified", checks=("primal",))
    assert merged([nothing, report()]).status == "verified"
    assert merged([report(WRONG), nothing]).status == "failed"
    assert merged([nothing, nothing]).status == "unverified"
    assert without_example_fails(merged([nothing, nothing])).status == "unverified"
    assert without_example_fails(REQUEST.report("unverified", NOTE)).status == "failed"


# -- nested rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "relation", "status", "said"),
    [
        ({"surrogate": "True"}, "exact", "failed", "`surrogate=True` does not hold"),
        ({"surrogate": "True"}, "different", "verified", ""),
        ({"surrogate": "x"}, "exact", "verified", "instead: the reason"),
        ({"zero": "True", "state": "y"}, "zero", "verified", "`state=y`, `zero=True`"),
        ({"exact": "True"}, "exact", "verified", ""),
    ],
)
def test_claims_of_a_nested_rule(keys: dict[str, str], relation: Relation, status: str, said: str):
    found = with_claims(report(leaves=(leaf(relation),)), keys, "Net.__call__", "the reason")
    assert found.status == status
    assert said in "".join(each.message for each in found.findings)
    assert bool(found.findings) == bool(said)
    assert claims_of(keys) == ({"exact": True} if "exact" in keys else {})


# -- text and JSON ---------------------------------------------------------------------------------


def test_text():
    leaves = (leaf("exact", "exact", 2.5e-9), leaf("different", "surrogate", 0.5, "y"))
    wrong = replace(report(WRONG, NOTE, leaves=leaves), residual_bytes=1234, autodiff_bytes=56789)
    crashed = replace(REQUEST.report("crashed", Finding("example", "error", "gone")), name="f")
    text = render_text.render([report(NOTE), wrong, crashed], Manner(seed=3, directions=2))
    repeat = "vjpgen verify model.py -k Net.__call__ --seed 3 --directions 2"
    assert text.splitlines() == [
        "RULE          WHERE        STATUS     ERROR  RESIDUALS  AUTODIFF   TIME",
        "Net.__call__  model.py:12  verified       -          -         -  1.2 s",
        "Net.__call__  model.py:12  failed    2.5e-9      1,234    56,789  1.2 s",
        "f             model.py:12  crashed        -          -         -  0.0 s",
        "",
        "error[gradient]: it is wrong",
        "   in two lines",
        "  --> model.py:12:5 Net.__call__, x[0]",
        "   = found: 2.0",
        "   = expected: 1.0",
        "   = cause: a factor of 2",
        f"   = repeat: {repeat}",
        "",
        "crashed: gone",
        "  --> model.py:12:5 f",
        "   = repeat: vjpgen verify model.py -k f --seed 3 --directions 2",
    ]
    assert render_text.summary([wrong, crashed]) == "2 rules: 1 failed, 1 crashed"


def test_text_with_colours_notes_and_reasons():
    noted = replace(report(NOTE), skipped=(("vmap", "no axis"),))
    text = render_text.render([noted], Manner(), verbose=True, color=True)
    assert "\x1b[32mverified\x1b[0m" in text
    assert "note[claim]" in text
    assert "   = not run: vmap: no axis\n" in text


def test_of_many_findings_some_are_shown():
    many = report(*(replace(WRONG, leaf=str(number)) for number in range(40)))
    text = render_text.details(many, Manner())
    assert text.count("error[gradient]") == 12
    assert "and 28 more" in text
    assert render_text.details(many, Manner(), verbose=True).count("error[gradient]") == 40


def test_json():
    made = replace(report(WRONG, leaves=(leaf("exact"),)), skipped=(("vmap", "no axis"),))
    (data,) = json.loads(render_json.render([made]))
    assert {key: data[key] for key in ("name", "filename", "location", "status")} == {
        "name": "Net.__call__",
        "filename": "model.py",
        "location": {"row": 12, "column": 5},
        "status": "failed",
    }
    assert data["findings"][0]["expected"] == "1.0"
    assert data["leaves"][0]["shape"] == [2]
    assert data["skipped"] == [{"check": "vmap", "reason": "no axis"}]
    assert (data["residual_bytes"], data["seed"], data["seconds"]) == (None, 3, 1.25)


# -- where a process hung --------------------------------------------------------------------------

TIMEOUT = """\
printed
Timeout (0:00:01)!
Thread 0x00007f1 (most recent call first):
  File "/p/child.py", line 3 in _read

Thread 0x00007f2 (most recent call first):
  File "{stdlib}", line 9 in wait
  File "<string>", line 1 in _vjp_lifted
  File "/p/model.py", line 12 in bwd
  File "/p/model.py", line 99 in example
"""
FATAL = """\
Fatal Python error: Segmentation fault

Current thread 0x00007f2 (most recent call first):
  File "/p/model.py", line 12 in bwd

Thread 0x00007f1 (most recent call first):
  File "/p/other.py", line 3 in run

Extension modules: numpy
"""


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (TIMEOUT.format(stdlib=json.__file__), ("printed\n", ", in `bwd` at /p/model.py:12")),
        (FATAL, ("", ", in `bwd` at /p/model.py:12")),
        ("printed", ("printed", "")),
        ("Timeout (0:00:01)!\n<timed out>\n", ("", "")),
    ],
)
def test_where_a_process_hung(printed: str, expected: tuple[str, str]):
    assert where(printed) == expected
