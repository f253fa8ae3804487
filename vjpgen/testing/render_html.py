"""Reports of verification as one page that opens from disk."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from vjpgen.figures import number, real, share, size
from vjpgen.page import card, code, document, prose, soft, table
from vjpgen.testing import charts
from vjpgen.testing.report import Finding, Leaf, RuleReport

_STYLE = """
h2 { font: 600 1.15rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere;
  margin-bottom: .25rem; }
section { border-top: 1px solid var(--line); margin-top: 2.5rem; }
section h2 { margin-top: 1.5rem; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: 3px; }
.state, .claim { display: inline-block; border-radius: 1em; padding: 0 .65em; font: 500 12.5px/1.6
  system-ui, sans-serif; border: 1px solid currentColor; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .doubt { color: var(--doubt); }
.claim.exact { color: var(--rule); } .claim.surrogate { color: var(--autodiff); }
.claim.state { color: var(--other); } .claim.zero, .claim.unclaimed { color: var(--soft); }
.claim.wrong { color: var(--bad); }
.finding { border-left: 3px solid var(--soft); background: var(--panel); padding: .6rem 1rem;
  margin: .6rem 0; border-radius: 0 8px 8px 0; overflow-wrap: anywhere; }
.finding.error { border-color: var(--bad); } .finding.warning { border-color: var(--doubt); }
.finding p { white-space: pre-wrap; }
.finding dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem;
  margin: .35rem 0 0; }
.finding dt { color: var(--soft); } .finding dd { margin: 0; white-space: pre-wrap; }
.leaves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(27rem, 100%), 1fr));
  gap: 1rem; margin: 1rem 0; }
.leaf { background: var(--panel); border-radius: 8px; padding: .9rem 1rem; min-width: 0; }
.leaf.wrong { outline: 1.5px solid var(--bad); }
.leaf h4 { margin: 0 0 .4rem; font: 600 13px/1.6 ui-monospace, monospace; overflow-wrap: anywhere; }
.leaf .plots { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; }
@media (max-width: 34rem) { .leaf .plots { grid-template-columns: 1fr; } }
.leaf p { font-size: 13px; }
td.name { min-width: 12rem; overflow-wrap: anywhere; } td.name .soft { font-size: 13px; }
.notes { list-style: none; padding: 0; }
ul { padding-left: 1.2rem; margin: .25rem 0; } li { overflow-wrap: anywhere; }
"""

_STATES = {
    "failed": "bad",
    "crashed": "bad",
    "timeout": "bad",
    "error": "bad",
    "unverified": "doubt",
    "verified": "good",
}
_MEANINGS = {
    "failed": "found wrong",
    "crashed": "ended the interpreter",
    "timeout": "ran out of time",
    "error": "could not be run",
    "unverified": "not verified",
    "verified": "verified",
}
_SEVERITIES = ("error", "warning")
_CLAIMS = ("exact", "surrogate", "zero", "state", "")
_RESIDUALS = "Residual bytes"
_CLASSES = {
    "Rule": "name",
    "Worst error": "number",
    "Allowed": "number",
    _RESIDUALS: "number",
    "Autodiff's": "number",
    "Seconds": "number",
    "Directions": "number",
    "Leaf": "name",
    "Type": "whole",
}

_FINDINGS, _SHOWN, _ROWS, _DRAWN = 40, 16, 400, 12
_LISTED, _DRAWN_IN_ALL = 2000, 480


def page(reports: Sequence[RuleReport]) -> str:
    """Return reports as a page of HTML: it holds its styles and drawings, and loads nothing.

    Args:
        reports: one for each rule and set of arguments. Those of rules that fail come first.
    """
    order = list(_STATES)
    reports = sorted(reports, key=lambda each: order.index(each.status))
    drawn = max(min(_DRAWN, _DRAWN_IN_ALL // max(len(reports), 1)), 1)
    lines = [*_head(reports), *_overview(reports)]
    for place, report in enumerate(reports[:_LISTED]):
        lines += _section(place, report, drawn)
    return document(_title(reports), lines, charts.STYLE + _STYLE)


def _title(reports: Sequence[RuleReport]) -> str:
    good = sum(each.ok for each in reports)
    return f"Gradients: {good:,} of {_counted(len(reports), 'rule')} verified"


def _head(reports: Sequence[RuleReport]) -> Iterator[str]:
    yield f"<h1>{escape(_title(reports))}</h1>"
    yield (
        '<p class="soft">The gradient of each rule beside the autodiff of its source, in 64-bit '
        "floats.</p>"
    )
    counts = Counter(each.status for each in reports)
    yield '<div class="figures">'
    for status in reversed(_STATES):
        if counts[status]:
            yield card(number(counts[status]), status, _note(status))
    yield "</div>"


def _note(status: str) -> str:
    return "" if _MEANINGS[status] == status else _MEANINGS[status]


# -- all rules -------------------------------------------------------------------------------------


def _overview(reports: Sequence[RuleReport]) -> Iterator[str]:
    if not reports:
        yield "<p>There is no rule.</p>"
        return
    headings = ("", "Rule", "Claims", "Worst error", "Allowed", _RESIDUALS, "Autodiff's", "Seconds")
    rows = (_row(place, each) for place, each in enumerate(reports[:_LISTED]))
    yield from table(headings, rows, _CLASSES)
    yield from _more(len(reports) - _LISTED, "rule")


def _row(place: int, report: RuleReport) -> tuple[str, ...]:
    worst = _worst(report.leaves)
    return (
        _state(report),
        f'<a href="#rule-{place}">{code(report.name)}</a>'
        + (f"<br>{soft(_place(report))}" if report.filename else ""),
        _claimed(report.leaves),
        real(worst.error) if worst else soft("-"),
        real(worst.tolerance) if worst else soft("-"),
        _bytes(report.residual_bytes),
        _bytes(report.autodiff_bytes),
        f"{report.seconds:.1f}",
    )


def _place(report: RuleReport) -> str:
    return f"{report.filename}:{report.line}" if report.line else report.filename


def _state(report: RuleReport) -> str:
    return f'<span class="state {_STATES[report.status]}">{report.status}</span>'


def _worst(leaves: Iterable[Leaf]) -> Leaf | None:
    """Return the leaf with the worst error among those whose gradient is to be the true one."""
    compared = [each for each in leaves if each.claim == "exact" or _is_exact(each)]
    return max(compared, key=_excess, default=None)


def _is_exact(leaf: Leaf) -> bool:
    return not leaf.claim and leaf.relation == "exact"


def _excess(leaf: Leaf) -> float:
    """Return an error over what is allowed; one that is no number is the worst."""
    if math.isnan(leaf.error):
        return math.inf
    return leaf.error / leaf.tolerance if leaf.tolerance > 0 else leaf.error


def _claimed(leaves: Sequence[Leaf]) -> str:
    counts = Counter(each.claim for each in leaves)
    found = ((claim, counts[claim]) for claim in _CLAIMS if counts[claim])
    return " ".join(_claim(claim, count) for claim, count in found)


def _claim(claim: str, count: int = 1, wrong: bool = False) -> str:
    kind = claim or "unclaimed"
    text = f"{kind} {count:,}" if count > 1 else kind
    return f'<span class="claim {kind}{" wrong" * wrong}">{text}</span>'


def _bytes(count: int | None) -> str:
    return soft("-") if count is None else f"{count:,}"


def _more(left: int, what: str) -> Iterator[str]:
    """Say how many are not shown."""
    if left > 0:
        yield f'<p class="soft">and {_counted(left, what)} more</p>'


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what if count == 1 else _PLURALS.get(what, f'{what}s')}"


_PLURALS = {"leaf": "leaves"}


# -- one rule --------------------------------------------------------------------------------------


def _section(place: int, report: RuleReport, drawn: int) -> Iterator[str]:
    yield f'<section id="rule-{place}">'
    yield f"<h2>{escape(report.name)} {_state(report)}</h2>"
    where = f"{code(_place(report))}, " if report.filename else ""
    yield f'<p class="soft">{where}seed {report.seed}, {report.seconds:.1f} s</p>'
    yield from _findings(report)
    yield from _leaves(report, drawn)
    yield from _residuals(report)
    yield from _checks(report)
    yield "</section>"


def _findings(report: RuleReport) -> Iterator[str]:
    found = [each for each in report.findings if each.severity != "note"]
    found.sort(key=lambda each: _SEVERITIES.index(each.severity))
    for finding in found[:_FINDINGS]:
        yield from _finding(finding, report.seed)
    yield from _more(len(found) - _FINDINGS, "finding")
    notes = [each for each in report.findings if each.severity == "note"]
    if notes:
        yield '<ul class="notes">'
        for note in notes[:_FINDINGS]:
            where = note.leaf or note.slot
            at = f" {code(where)}" if where and where not in note.message else ""
            yield f"<li>{soft(note.check)}{at} {prose(note.message)}</li>"
        yield "</ul>"
        yield from _more(len(notes) - _FINDINGS, "note")


def _finding(finding: Finding, seed: int) -> Iterator[str]:
    where = finding.leaf or finding.slot
    at = f" {code(where)}" if where else ""
    yield f'<div class="finding {finding.severity}">'
    yield f"{soft(f'{finding.severity}: {finding.check}')}{at}"
    yield f"<p>{prose(finding.message)}</p>"
    details = [
        (name, text)
        for name in ("found", "expected", "cause")
        if (text := getattr(finding, name)) and text not in finding.message
    ]
    if finding.severity == "error":
        details.append(("seed", str(seed)))
    if details:
        yield "<dl>"
        for name, text in details:
            shown = prose(text) if name == "cause" else code(text)
            yield f"<dt>{name}</dt><dd>{shown}</dd>"
        yield "</dl>"
    yield "</div>"


# -- leaves ----------------------------------------------------------------------------------------


def _leaves(report: RuleReport, drawn: int) -> Iterator[str]:
    if not report.leaves:
        return
    failing = {(each.slot, each.leaf) for each in report.errors}
    wrong = {
        place
        for place, each in enumerate(report.leaves)
        if (each.slot, each.path) in failing
        or (each.claim == "exact" and each.relation not in ("exact", "unknown"))
    }
    order = sorted(
        range(len(report.leaves)),
        key=lambda place: (place not in wrong, -_excess(report.leaves[place])),
    )
    found = [(report.leaves[place], place in wrong) for place in order]
    yield "<h3>Gradients</h3>"
    headings = ("Leaf", "Type", "Claimed", "Turned out", "Worst error", "Allowed", "Directions")
    rows = [_leaf_row(leaf, is_wrong) for leaf, is_wrong in found[:_ROWS]]
    yield from table(headings, rows[:_SHOWN], _CLASSES)
    if rows[_SHOWN:]:
        hidden = _counted(len(found) - _SHOWN, "leaf")
        yield f"<details><summary>and {hidden} more</summary>"
        yield from table(headings, rows[_SHOWN:], _CLASSES)
        yield from _more(len(found) - _ROWS, "leaf")
        yield "</details>"
    charted = [each for each in found if charts.not_finite(each[0]) < len(each[0].custom)]
    if charted:
        yield '<div class="leaves">'
        for leaf, is_wrong in charted[:drawn]:
            yield from _charts(leaf, is_wrong)
        yield "</div>"
        yield from _more(len(charted) - drawn, "drawing")


def _leaf_row(leaf: Leaf, wrong: bool) -> tuple[str, ...]:
    relation = f'<b class="bad">{leaf.relation}</b>' if wrong else leaf.relation
    return (
        code(leaf.path),
        code(_type(leaf)),
        _claim(leaf.claim, wrong=wrong),
        relation,
        real(leaf.error),
        real(leaf.tolerance),
        number(leaf.directions),
    )


def _type(leaf: Leaf) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _charts(leaf: Leaf, wrong: bool) -> Iterator[str]:
    kind = "wrong" if wrong else leaf.claim or "unclaimed"
    yield f'<div class="leaf{" wrong" * wrong}">'
    yield f"<h4>{escape(leaf.path)} {_claim(leaf.claim, wrong=wrong)}</h4>"
    yield '<div class="plots">'
    yield charts.scatter(leaf, kind)
    yield charts.errors(leaf, kind)
    yield "</div>"
    yield f'<p class="soft">{escape(_said(leaf))}</p>'
    yield "</div>"


def _said(leaf: Leaf) -> str:
    parts = [_counted(len(leaf.custom), "component")]
    lost = charts.not_finite(leaf)
    if lost:
        parts.append(f"{number(lost)} of them not finite, so not drawn")
    if leaf.relation == "exact":
        parts.append(f"worst error {real(leaf.error)} where {real(leaf.tolerance)} is allowed")
    return ", ".join(parts)


# -- the rest --------------------------------------------------------------------------------------


def _residuals(report: RuleReport) -> Iterator[str]:
    if report.residual_bytes is None or report.autodiff_bytes is None:
        return
    kept, compared = report.residual_bytes, report.autodiff_bytes
    yield "<h3>Kept for the backward pass</h3>"
    yield charts.bars(kept, compared)
    unit = " bytes" if compared else ""
    yield f'<p class="soft">{size(kept)}, {escape(share(kept, compared))}{unit}</p>'


def _checks(report: RuleReport) -> Iterator[str]:
    if report.checks:
        yield "<h3>Checks</h3>"
        yield f"<p>{escape(', '.join(report.checks))}</p>"
    if report.skipped:
        yield '<p class="soft">Left out:</p><ul>'
        for check, reason in report.skipped:
            yield f'<li>{escape(check)}: <span class="soft">{prose(reason)}</span></li>'
        yield "</ul>"
