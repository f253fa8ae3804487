"""The report of one rule as text, for a terminal and for the message of an `AssertionError`."""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.testing.report import Finding, Leaf, RuleReport

_MOST_LEAVES = 8
_MOST_FINDINGS = 12


def render(report: RuleReport, *, verbose: bool = False) -> str:
    """Write a report: what is wrong first, then the leaves, the worst first.

    Args:
        report: it.
        verbose: whether notes, all leaves and what was skipped are told, too.
    """
    return "\n".join(_lines(report, verbose))


def _lines(report: RuleReport, verbose: bool) -> Iterator[str]:
    at = f" ({report.filename}:{report.line})" if report.filename else ""
    yield f"{report.name}{at}: {report.status} (seed {report.seed})"
    told = [each for each in report.findings if verbose or each.severity != "note"]
    shown = told if verbose else told[:_MOST_FINDINGS]
    for finding in shown:
        yield from _finding(finding)
    if len(told) > len(shown):
        yield f"  and {len(told) - len(shown)} more findings"
    leaves = sorted(report.leaves, key=_badness, reverse=True)
    if not verbose:
        leaves = leaves[:_MOST_LEAVES]
    if leaves:
        yield "  gradients, the worst first:"
        yield from _table(leaves)
    if len(report.leaves) > len(leaves):
        yield f"    and {len(report.leaves) - len(leaves)} more leaves"
    if report.residual_bytes is not None and report.autodiff_bytes is not None and verbose:
        yield f"  residuals: {report.residual_bytes} bytes, autodiff keeps {report.autodiff_bytes}"
    if verbose:
        for check, reason in report.skipped:
            yield f"  skipped {check}: {reason}"


def _finding(finding: Finding) -> Iterator[str]:
    first, *rest = finding.message.splitlines() or [""]
    yield f"  {finding.severity}: {finding.check}: {first}"
    yield from (f"    {line}" for line in rest)
    if finding.cause:
        yield f"    likely cause: {finding.cause}"


def _badness(leaf: Leaf) -> float:
    """Order leaves by how far they are off beside what is allowed, or claimed."""
    if leaf.relation == "state" or leaf.claim in ("surrogate", "zero"):
        return 0.0
    return leaf.error / leaf.tolerance if leaf.tolerance else leaf.error


def _table(leaves: list[Leaf]) -> Iterator[str]:
    rows = [("leaf", "shape", "claim", "found", "error", "allowed")]
    for leaf in leaves:
        shape = f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        error = "-" if leaf.relation == "state" else f"{leaf.error:.2g}"
        rows.append(
            (leaf.path, shape, leaf.claim or "-", leaf.relation, error, f"{leaf.tolerance:.2g}")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield f"    {'  '.join(cells)}".rstrip()
