"""Reports for a person at a terminal: a table of the rules, and what is wrong with which."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from vjpgen.diagnostics.colors import paint
from vjpgen.diagnostics.table import table
from vjpgen.diagnostics.text import shown, split_lines
from vjpgen.figures import number, real
from vjpgen.testing.report import Finding, RuleReport, Status
from vjpgen.verifying.requests import Manner

_HEADINGS = ("RULE", "WHERE", "STATUS", "ERROR", "RESIDUALS", "AUTODIFF", "TIME")
_RIGHT = frozenset({"ERROR", "RESIDUALS", "AUTODIFF", "TIME"})
_MOST = 12
_HUES = {"error": "red", "warning": "yellow", "note": "cyan"}
_STATUS_HUES = {"verified": "green", "unverified": "yellow"}


def render(
    reports: Sequence[RuleReport], manner: Manner, *, verbose: bool = False, color: bool = False
) -> str:
    """Return the table of the rules, and below it the findings.

    Args:
        reports: what was found out.
        manner: how.
        verbose: whether notes are shown, too, and which checks were not run.
        color: whether to use terminal colours.
    """
    if not reports:
        return ""
    blocks = [each for report in reports if (each := details(report, manner, verbose, color))]
    return "\n".join([_table(reports, color), *blocks])


def details(report: RuleReport, manner: Manner, verbose: bool = False, color: bool = False) -> str:
    """Return a rule's findings, and how to repeat them; "" where there is nothing to say."""
    found = [each for each in report.findings if verbose or each.severity != "note"]
    most = None if verbose else _MOST
    lines = [line for each in found[:most] for line in _finding(report, each, color)]
    if left := len(found) - len(found[:most]):
        lines.append(f"   = and {left} more, which `vjpgen verify --verbose` shows")
    if verbose:
        lines += [f"   = not run: {check}: {shown(why)}" for check, why in report.skipped]
    if report.status not in ("verified", "unverified"):
        lines.append(f"   = repeat: {shown(repeat(report, manner))}")
    return "".join(f"{line}\n" for line in lines)


def repeat(report: RuleReport, manner: Manner) -> str:
    """Return the command that verifies a rule again, in the same way."""
    words = ["vjpgen", "verify", report.filename, "-k", report.name, "--seed", str(report.seed)]
    if manner.directions != Manner.directions:
        words += ["--directions", str(manner.directions)]
    if manner.config is not None:
        words += ["--config", manner.config]
    return shlex.join(words)


def summary(reports: Iterable[RuleReport]) -> str:
    """Return one line that counts the rules by what became of them."""
    tally = Counter(each.status for each in reports)
    total = sum(tally.values())
    parts = [f"{tally[status]} {status}" for status in get_args(Status) if tally[status]]
    if not parts:
        return "no annotated function to verify"
    return f"{total} rule{'s' * (total != 1)}: {', '.join(parts)}"


def worst(report: RuleReport) -> float | None:
    """Return the worst error of the gradients that should be the true ones; None for none."""
    errors = [
        leaf.error
        for leaf in report.leaves
        if leaf.claim == "exact" or (not leaf.claim and leaf.relation == "exact")
    ]
    return max(errors, default=None)


def _table(reports: Sequence[RuleReport], color: bool) -> str:
    lines = list(table(_HEADINGS, map(_row, reports), _RIGHT))
    for at, report in enumerate(reports, start=1) if color else ():
        hue = _STATUS_HUES.get(report.status, "red")
        start = lines[0].index("STATUS")
        head, tail = lines[at][:start], lines[at][start:]
        lines[at] = head + tail.replace(report.status, paint(report.status, hue, color), 1)
    return "".join(f"{line}\n" for line in lines)


def _row(report: RuleReport) -> tuple[str, ...]:
    error = worst(report)
    return (
        report.name,
        f"{report.filename}:{report.line}",
        report.status,
        "-" if error is None else real(error),
        number(report.residual_bytes),
        number(report.autodiff_bytes),
        f"{report.seconds:.1f} s",
    )


def _finding(report: RuleReport, finding: Finding, color: bool) -> Iterator[str]:
    first, *others = split_lines(finding.message)
    label = f"{finding.severity}[{finding.check}]" if report.checks else report.status
    head = paint(label, _HUES[finding.severity], color)
    yield f"{head}{paint(f': {shown(first)}', 'bold', color)}"
    yield from (f"   {shown(line)}" for line in others)
    where = f"{report.filename}:{report.line}:{report.column} {report.name}"
    leaf = finding.leaf or finding.slot
    yield f"  {paint('-->', 'blue', color)} {shown(where)}{f', {shown(leaf)}' if leaf else ''}"
    for name in ("found", "expected", "cause"):
        if text := getattr(finding, name):
            yield f"   = {name}: {shown(text)}"
