"""A report as text, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vjpgen.diagnostics.table import table
from vjpgen.diagnostics.text import shown
from vjpgen.figures import number, share
from vjpgen.inspecting.report import Program, Report, Residual, Side, Tensor, grouped

_MOST, _WIDEST = 16, 56
_RIGHT = frozenset({"BYTES", "OPERATIONS", "INSTRUCTIONS", "FLOPS", "BYTES MOVED", "TEMPORARY"})


def render(report: Report, *, verbose: bool = False) -> str:
    """Return a report as text.

    Args:
        report: what was measured.
        verbose: whether the jaxprs are shown, too, and long lists whole.
    """
    most = None if verbose else _MOST
    parts = [*_head(report, most), *_residuals(report, most), *_costs(report)]
    if verbose:
        parts += _jaxprs(report.rule)
    return "".join(f"{line}\n" for line in parts)


def _head(report: Report, most: int | None) -> Iterator[str]:
    yield shown(f"{report.name} ({report.place}) beside plain autodiff, on {report.backend}")
    if report.called != report.name:
        yield f"measured in {report.called}, whose example it has"
    yield ""
    rows = [
        (each.name, each.type, "" if each.differentiated else "not differentiated")
        for each in report.given
    ]
    yield from _shortened(("CALLED ON", "TYPE", ""), rows, most)


def _residuals(report: Report, most: int | None) -> Iterator[str]:
    rule, autodiff = report.rule, report.autodiff
    yield ""
    yield f"Kept for the backward pass: {rule.kept:,} bytes, {share(rule.kept, autodiff.kept)}"
    yield ""
    yield from _kept("the rule", rule, most)
    yield ""
    yield from _kept("autodiff", autodiff, most)


def _kept(who: str, side: Side, most: int | None) -> Iterator[str]:
    computed = [each for each in grouped(side.residuals) if each.tensor.kind == "computed"]
    if computed:
        rows = [(f"{each.size:,}", _type(each), *_source(each.tensor)) for each in computed]
        headings = ("BYTES", f"WHAT {who.upper()} KEEPS", "COMPUTED BY", "AT")
        yield from _shortened(headings, rows, most)
    else:
        yield f"{who} keeps nothing that it computed"
    there = [each.name for each in side.residuals if each.kind == "argument"]
    if there:
        more = f", and {len(there) - len(there[:most])} more" if there[:most] != there else ""
        yield shown(f"and arguments, which are there anyway: {', '.join(there[:most])}{more}")
    constants = sum(each.kind == "constant" for each in side.residuals)
    if constants:
        yield f"and {constants} constant{'s' * (constants > 1)}"


def _shortened(
    headings: Sequence[str], rows: Sequence[Sequence[str]], most: int | None
) -> Iterator[str]:
    """Yield a table, and how many rows it leaves out."""
    yield from table(headings, rows[:most], _RIGHT)
    left = len(rows) - len(rows[:most])
    if left:
        yield f"... and {left} more, which --verbose shows"


def _type(residual: Residual) -> str:
    count = f"{residual.count} x " if residual.count > 1 else ""
    return f"{count}{residual.tensor.type}"


def _source(tensor: Tensor) -> tuple[str, str]:
    place = "" if tensor.origin is None else tensor.origin.place
    text = (tensor.origin.expression if tensor.origin else "") or tensor.operation
    text = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
    return text, f"{place} (an output)" if tensor.is_output else place


def _costs(report: Report) -> Iterator[str]:
    headings = ("", "", "OPERATIONS", "INSTRUCTIONS", "FLOPS", "BYTES MOVED", "TEMPORARY")
    rows = []
    for name in report.rule.programs:
        rows.append((name, "rule", *_figures(report.rule.programs[name])))
        rows.append(("", "autodiff", *_figures(report.autodiff.programs[name])))
    yield ""
    yield from table(headings, rows, _RIGHT)
    rule, autodiff = report.rule.memory.peak, report.autodiff.memory.peak
    yield ""
    yield f"Peak over the step, arguments apart: {rule:,} bytes, {share(rule, autodiff)}"


def _figures(program: Program) -> tuple[str, ...]:
    return tuple(
        map(
            number,
            (
                program.operations,
                program.instructions,
                program.flops,
                program.accessed,
                program.temporary,
            ),
        )
    )


def _jaxprs(side: Side) -> Iterator[str]:
    for name in ("primal", "forward", "backward"):
        yield ""
        yield f"The rule's {name}:"
        yield from map(shown, side.programs[name].jaxpr.splitlines())
