"""A report as one page that opens from disk: it holds its styles and drawing, and loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from vjpgen.inspecting import chart
from vjpgen.inspecting.render_text import number, share
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
:root { color-scheme: light dark; --text: #1c2024; --soft: #60656c; --line: #e0e3e7;
  --page: #ffffff; --panel: #f6f7f9; --rule: #0b68cb; --autodiff: #d9730d; }
@media (prefers-color-scheme: dark) { :root { --text: #e8eaed; --soft: #9ba1a8; --line: #33383e;
  --page: #15181b; --panel: #1e2226; --rule: #63aefc; --autodiff: #f5a359; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font: 600 1.5rem/1.3 ui-monospace, monospace; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
p { margin: .25rem 0; }
code, pre { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: 1rem; background: var(--panel); border-radius: 8px;
  overflow-wrap: normal; }
.soft { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem;
  margin: 1.5rem 0; }
.figure { background: var(--panel); border-radius: 8px; padding: .9rem 1.1rem; }
.figure b { display: block; font-size: 1.6rem; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
td.type, td.place { white-space: nowrap; }
tr.first td { border-bottom: none; padding-bottom: 0; }
.mark { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .45em; }
.mark.rule { background: var(--rule); } .mark.autodiff { background: var(--autodiff); }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .divide { stroke: var(--soft); stroke-dasharray: 3 4; }
svg .rule { stroke: var(--rule); } svg .autodiff { stroke: var(--autodiff); }
svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg path.area { stroke: none; fill-opacity: .12; }
svg .area.rule, svg circle.rule, svg text.rule { fill: var(--rule); }
svg .area.autodiff, svg circle.autodiff, svg text.autodiff { fill: var(--autodiff); }
svg text.rule, svg text.autodiff { stroke: none; font-weight: 600; }
details { margin: .5rem 0; } summary { cursor: pointer; }
"""
_SIDES = (("rule", "the rule"), ("autodiff", "autodiff"))


def render(report: Report) -> str:
    """Return a report as a page of HTML."""
    sections = (_head, _figures, _memory, _residuals, _costs, _jaxprs)
    body = "\n".join(line for section in sections for line in section(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.name)}: what the rule saves</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _head(report: Report) -> Iterator[str]:
    yield f"<h1>{escape(report.name)}</h1>"
    yield (
        f'<p class="soft"><code>{escape(report.place)}</code> beside plain autodiff, '
        f"on {escape(report.backend)}</p>"
    )
    if report.called != report.name:
        yield f"<p>Measured in <code>{escape(report.called)}</code>, whose example it has.</p>"


def _figures(report: Report) -> Iterator[str]:
    rule, autodiff = report.rule, report.autodiff
    flops = [side.programs["step"].flops for side in (rule, autodiff)]
    yield '<div class="figures">'
    yield _figure(
        f"{chart.size(rule.kept)}", "kept for the backward pass", rule.kept, autodiff.kept
    )
    peaks = rule.memory.peak, autodiff.memory.peak
    yield _figure(chart.size(peaks[0]), "at the peak, arguments apart", *peaks)
    if None not in flops:
        yield _figure(number(flops[0]), "floating point operations a step", *map(round, flops))  # pyright: ignore
    yield "</div>"


def _figure(value: str, what: str, part: int, whole: int) -> str:
    compared = escape(share(part, whole))
    return f'<div class="figure"><b>{value}</b>{what}<br><span class="soft">{compared}</span></div>'


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
                where = f"at <code>{escape(moment.operation)}</code>{_of(moment.origin)}"
                return f"at most {memory.peak:,} bytes, in the {phase} pass {where}"
    return "nothing"


def _of(origin: Origin | None) -> str:
    if origin is None:
        return ""
    expression = f" of <code>{escape(origin.expression)}</code>" if origin.expression else ""
    return f'{expression} <span class="soft">{escape(origin.place)}</span>'


# -- residuals -------------------------------------------------------------------------------------


def _residuals(report: Report) -> Iterator[str]:
    yield "<h2>Kept for the backward pass</h2>"
    for name, title in _SIDES:
        side: Side = getattr(report, name)
        yield f'<h3><span class="mark {name}"></span>By {title}: {side.kept:,} bytes</h3>'
        yield from _table(
            ("Bytes", "Tensor", "From", "At"),
            map(_residual, grouped(side.residuals)),
        )
    yield "<h2>The example</h2>"
    rows = (
        (
            f"<code>{escape(each.name)}</code>",
            f"<code>{escape(each.type)}</code>",
            _role(each.differentiated),
        )
        for each in report.given
    )
    yield from _table(("Argument", "Type", ""), rows)


def _role(differentiated: bool) -> str:
    return "" if differentiated else '<span class="soft">not differentiated</span>'


def _residual(residual: Residual) -> tuple[str, ...]:
    tensor, count = residual.tensor, residual.count
    return (
        f"{residual.size:,}",
        (f"{count} × " if count > 1 else "") + f"<code>{escape(tensor.type)}</code>",
        _source(tensor),
        f"<code>{escape(tensor.origin.place)}</code>" if tensor.origin else "",
    )


def _source(tensor: Tensor) -> str:
    """Say what a residual is: an argument, or what has computed it."""
    if tensor.kind == "argument":
        return f'<span class="soft">argument</span> <code>{escape(tensor.name)}</code>'
    text = (tensor.origin and tensor.origin.expression) or tensor.operation
    notes = ("a constant", "an output")
    flags = (tensor.kind == "constant", tensor.is_output)
    said = ", ".join(note for note, flag in zip(notes, flags, strict=True) if flag)
    return f"<code>{escape(text)}</code>" + (f' <span class="soft">{said}</span>' if said else "")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table; a first column called "Bytes" goes to the right."""
    kinds = {"Bytes": ' class="number"', "Tensor": ' class="type"', "At": ' class="place"'}
    classes = [kinds.get(heading, "") for heading in headings]
    yield '<div class="wide"><table>'
    yield f"<tr>{_cells('th', headings, classes)}</tr>"
    for row in rows:
        yield f"<tr>{_cells('td', row, classes)}</tr>"
    yield "</table></div>"


def _cells(tag: str, cells: Iterable[str], classes: Iterable[str]) -> str:
    parts = zip(cells, classes, strict=True)
    return "".join(f"<{tag}{kind}>{cell}</{tag}>" for cell, kind in parts)


# -- costs and jaxprs ------------------------------------------------------------------------------

_COLUMNS = ("Operations", "Instructions", "Flops", "Bytes moved", "Temporary bytes")


def _costs(report: Report) -> Iterator[str]:
    yield "<h2>Cost, by XLA</h2>"
    right = ' class="number"'
    classes = ["", "", *[right] * len(_COLUMNS)]
    yield '<div class="wide"><table>'
    yield f"<tr>{_cells('th', ('', '', *_COLUMNS), classes)}</tr>"
    for name in report.rule.programs:
        for side, title in _SIDES:
            figures = _numbers(getattr(report, side).programs[name])
            mark = f'<span class="mark {side}"></span>{title}'
            row, label = ('<tr class="first">', name) if side == "rule" else ("<tr>", "")
            yield f"{row}{_cells('td', (label, mark, *figures), classes)}</tr>"
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
