"""Reports of one rule on several sets of arguments, as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from vjpgen.testing.claims import missed, names_leaf
from vjpgen.testing.report import Finding, Leaf, RuleReport, Status, status_of

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
    differs on another; an argument may be None on one, and an array on another.

    Args:
        reports: at least one.
        what: what each is about, in findings of some alone.
    """
    if len(reports) == 1:
        return reports[0]
    told = [_for_all(report, reports) for report in reports]
    findings = _findings([report.findings for report in told], what)
    largest = max(reports, key=lambda each: each.autodiff_bytes or 0)
    checks = tuple(dict.fromkeys(check for each in reports for check in each.checks))
    skipped = dict(pair for each in reports for pair in each.skipped if pair[0] not in checks)
    return replace(
        largest,
        status=_status(told),
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


def _for_all(report: RuleReport, reports: Sequence[RuleReport]) -> RuleReport:
    """Drop what is said of claims where another set shows that they are right."""
    findings = tuple(
        each for each in report.findings if not _is_refuted(each, report.leaves, reports)
    )
    if len(findings) == len(report.findings):
        return report
    status = (
        status_of(findings, report.checks, report.leaves)
        if report.status == "failed"
        else report.status
    )
    return replace(report, findings=findings, status=status)


def _is_refuted(finding: Finding, leaves: Iterable[Leaf], reports: Sequence[RuleReport]) -> bool:
    """Tell whether another set has what a claim names, or shows that a surrogate differs."""
    if claim := missed(finding):
        said = (any(missed(each) == claim for each in report.findings) for report in reports)
        return not all(said)
    if finding.check != "claim" or all(finding in report.findings for report in reports):
        return False
    return {leaf.relation for leaf in _surrogates(finding, leaves)} == {"exact"} and any(
        leaf.relation != "exact"
        for report in reports
        for leaf in _surrogates(finding, report.leaves)
    )


def _surrogates(finding: Finding, leaves: Iterable[Leaf]) -> Iterator[Leaf]:
    """Yield the surrogates that a finding is about: it has the name that the claim has for them."""
    for leaf in leaves:
        if leaf.claim == "surrogate" and names_leaf(finding.leaf, leaf.slot, leaf.path):
            yield leaf


def _status(reports: Iterable[RuleReport]) -> Status:
    """Return the worst status; a set on which nothing can be verified counts if all are such."""
    found: list[Status] = [each.status for each in reports]
    told: list[Status] = [each for each in found if each != "unverified"]
    return max(told or found, key=_WORST_LAST.index)


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
