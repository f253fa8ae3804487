"""A report as one page that opens from disk: it holds its styles and drawing, and loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from vjpgen import page
from vjpgen.figures import number, share, size
from vjpgen.inspecting import chart
from vjpgen.inspecting.report import (
    Memory,
    Origin,
    Program,
    Report,
    Residual,
    Side,
    Tensor,
    grouped,
)

_STYLE = """
tr.first td { border-bottom: none; padding-bottom: 0; }
svg .divide { stroke: var(--soft); stroke-dasharray: 3 4; }
svg .rule { stroke: var(--rule); } svg .autodiff { stroke: var(--autodiff); }
svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg path.area { stroke: none; fill-opacity: .12; }
svg .area.rule, svg circle.rule, svg text.rule { fill: var(--rule); }
svg .area.autodiff, svg circle.autodiff, svg text.autodiff { fill: var(--autodiff); }
svg text.rule, svg text.autodiff { stroke: none; font-weight: 600; }
"""
_CLASSES = {"Bytes": "number", "Tensor": "whole", "At": "whole"}
_SIDES = (("rule", "the rule"), ("autodiff", "autodiff"))


def render(report: Report) -> str:
    """Return a report as a page of HTML."""
    sections = (_head, _figures, _memory, _residuals, _costs, _jaxprs)
    lines = (line for section in sections for line in section(report))
    return page.document(f"{report.name}: what the rule saves", lines, _STYLE)


def _head(report: Report) -> Iterator[str]:
    yield f"<h1>{escape(report.name)}</h1>"
    yield (
        f'<p class="soft">{page.code(report.place)} beside plain autodiff, '
        f"on {escape(report.backend)}</p>"
    )
    if report.called != report.name:
        yield f"<p>Measured in {page.code(report.called)}, whose example it has.</p>"


def _figures(report: Report) -> Iterator[str]:
    rule, autodiff = report.rule, report.autodiff
    flops = [side.programs["step"].flops for side in (rule, autodiff)]
    yield '<div class="figures">'
    yield page.card(size(rule.kept), "kept for the backward pass", share(rule.kept, autodiff.kept))
    peaks = rule.memory.peak, autodiff.memory.peak
    yield page.card(size(peaks[0]), "at the peak, arguments apart", share(*peaks))
    if None not in flops:
        compared = share(*map(round, flops))  # pyright: ignore
        yield page.card(number(flops[0]), "floating point operations a step", compared)
    yield "</div>"


# -- memory ----------------------------------------------------------------------------------------


def _memory(report: Report) -> Iterator[str]:
    yield "<h2>Memory over the step</h2>"
    yield (
        '<p class="soft">Bytes alive at each operation, arguments and constants apart, in the '
        "order in which JAX traced them, before XLA fuses and reorders.</p>"
    )
    yield chart.draw({name: getattr(report, name).memory for name, _ in _SIDES})
    for name, title in _SIDES:
        memory = getattr(report, name).memory
        yield f'<p><span class="mark {name}"></span>{title}: {_peak(memory)}</p>'


def _peak(memory: Memory) -> str:
    """Say how high the peak is, and where."""
    for phase, moments in (("forward", memory.forward), ("backward", memory.backward)):
        for moment in moments:
            if moment.size == memory.peak:
                where = f"at {page.code(moment.operation)}{_of(moment.origin)}"
                return f"at most {memory.peak:,} bytes, in the {phase} pass {where}"
    return "nothing"


def _of(origin: Origin | None) -> str:
    if origin is None:
        return ""
    expression = f" of {page.code(origin.expression)}" if origin.expression else ""
    return f"{expression} {page.soft(origin.place)}"


# -- residuals -------------------------------------------------------------------------------------


def _residuals(report: Report) -> Iterator[str]:
    yield "<h2>Kept for the backward pass</h2>"
    for name, title in _SIDES:
        side: Side = getattr(report, name)
        yield f'<h3><span class="mark {name}"></span>By {title}: {side.kept:,} bytes</h3>'
        yield from page.table(
            ("Bytes", "Tensor", "From", "At"),
            map(_residual, grouped(side.residuals)),
            _CLASSES,
        )
    yield "<h2>The example</h2>"
    rows = (
        (
            page.code(each.name),
            page.code(each.type),
            _role(each.differentiated),
        )
        for each in report.given
    )
    yield from page.table(("Argument", "Type", ""), rows, {})


def _role(differentiated: bool) -> str:
    return "" if differentiated else page.soft("not differentiated")


def _residual(residual: Residual) -> tuple[str, ...]:
    tensor, count = residual.tensor, residual.count
    return (
        f"{residual.size:,}",
        (f"{count} × " if count > 1 else "") + page.code(tensor.type),
        _source(tensor),
        page.code(tensor.origin.place) if tensor.origin else "",
    )


def _source(tensor: Tensor) -> str:
    """Say what a residual is: an argument, or what has computed it."""
    if tensor.kind == "argument":
        return f"{page.soft('argument')} {page.code(tensor.name)}"
    text = (tensor.origin and tensor.origin.expression) or tensor.operation
    notes = ("a constant", "an output")
    flags = (tensor.kind == "constant", tensor.is_output)
    said = ", ".join(note for note, flag in zip(notes, flags, strict=True) if flag)
    return page.code(text) + (f" {page.soft(said)}" if said else "")


# -- costs and jaxprs ------------------------------------------------------------------------------

_COLUMNS = ("Operations", "Instructions", "Flops", "Bytes moved", "Temporary bytes")


def _costs(report: Report) -> Iterator[str]:
    yield "<h2>Cost, by XLA</h2>"
    classes = ["", "", *["number"] * len(_COLUMNS)]
    yield '<div class="wide"><table>'
    yield f"<tr>{page.cells('th', ('', '', *_COLUMNS), classes)}</tr>"
    for name in report.rule.programs:
        for side, title in _SIDES:
            figures = _numbers(getattr(report, side).programs[name])
            mark = f'<span class="mark {side}"></span>{title}'
            row, label = ('<tr class="first">', name) if side == "rule" else ("<tr>", "")
            yield f"{row}{page.cells('td', (label, mark, *figures), classes)}</tr>"
    yield "</table></div>"


def _numbers(program: Program) -> list[str]:
    figures = (program.operations, program.instructions, program.flops, program.accessed)
    return [number(each) for each in (*figures, program.temporary)]


def _jaxprs(report: Report) -> Iterator[str]:
    yield "<h2>Jaxprs</h2>"
    for side, title in _SIDES:
        for name in ("primal", "forward", "backward"):
            text = escape(getattr(report, side).programs[name].jaxpr)
            yield f'<details><summary><span class="mark {side}"></span>{title}: {name}</summary>'
            yield f"<pre>{text}</pre></details>"
