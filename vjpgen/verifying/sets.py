"""Reports of one rule on several sets of arguments, as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from vjpgen.testing.report import Finding, Leaf, RuleReport, Status

_WORST_LAST: Sequence[Status] = (
    "verified",
    "unverified",
    "failed",
    "error",
    "timeout",
    "crashed",
)
_SEVERITIES = ("error", "warning", "note")


def merged(reports: Sequence[RuleReport], what: str = "set") -> RuleReport:
    """Merge the reports of a rule's sets of arguments: the worst of each counts.

    A surrogate may be the true gradient on one set, as a clipped one is inside its range, where it
    differs on another.

    Args:
        reports: at least one.
        what: what each is about, in findings of some alone.
    """
    if len(reports) == 1:
        return reports[0]
    told = [_without_stale(report, reports) for report in reports]
    findings = _findings([report.findings for report in told], what)
    largest = max(reports, key=lambda each: each.autodiff_bytes or 0)
    checks = tuple(dict.fromkeys(check for each in reports for check in each.checks))
    skipped = dict(pair for each in reports for pair in each.skipped if pair[0] not in checks)
    return replace(
        largest,
        status=max((each.status for each in told), key=_WORST_LAST.index),
        findings=tuple(sorted(findings, key=lambda each: _SEVERITIES.index(each.severity))),
        leaves=tuple(_worst(reports)),
        seconds=sum(each.seconds for each in reports),
        checks=checks,
        skipped=tuple(skipped.items()),
    )


def _findings(sets: Sequence[Sequence[Finding]], what: str) -> list[Finding]:
    """Return the findings, each once, that say of what sets they are unless they are of all."""
    numbers: dict[Finding, list[str]] = {}
    for number, findings in enumerate(sets, start=1):
        for each in dict.fromkeys(findings):
            numbers.setdefault(each, []).append(str(number))
    return [
        each
        if len(own) == len(sets)
        else replace(each, message=f"{what}{'s' * (len(own) > 1)} {', '.join(own)}: {each.message}")
        for each, own in numbers.items()
    ]


def _without_stale(report: RuleReport, reports: Iterable[RuleReport]) -> RuleReport:
    """Drop complaints that a claim is stale where another set shows that it is not."""
    differing = {
        (leaf.slot, leaf.path)
        for each in reports
        for leaf in each.leaves
        if leaf.claim == "surrogate" and leaf.relation != "exact"
    }
    exact = {
        (leaf.slot, leaf.path)
        for leaf in report.leaves
        if leaf.claim == "surrogate" and leaf.relation == "exact"
    }

    def is_stale(finding: Finding) -> bool:
        place = (finding.slot, finding.leaf)
        return finding.check == "claim" and place in exact and place in differing

    findings = tuple(each for each in report.findings if not is_stale(each))
    if len(findings) == len(report.findings):
        return report
    failed = any(each.severity == "error" for each in findings)
    status = "verified" if report.status == "failed" and not failed else report.status
    return replace(report, findings=findings, status=status)


def _worst(reports: Iterable[RuleReport]) -> Iterator[Leaf]:
    """Yield each leaf as the set shows it on which it is worst, one that differs before others."""
    found: dict[tuple[str, str], Leaf] = {}
    for report in reports:
        for leaf in report.leaves:
            place = (leaf.slot, leaf.path)
            if place not in found or _badness(leaf) > _badness(found[place]):
                found[place] = leaf
    yield from found.values()


def _badness(leaf: Leaf) -> tuple[bool, float]:
    return leaf.relation == "different", leaf.error / (leaf.tolerance or 1.0)
