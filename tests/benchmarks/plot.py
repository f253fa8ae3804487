"""The plot of trace time against depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.measure import FIRST, Report
from tests.benchmarks.results import Results
from tests.benchmarks.variants import (
    DROP_IN,
    FLAX,
    GENERATED,
    HAND,
    JITTED,
    NNX,
    PLAIN,
    UNSHARED,
)
from tests.benchmarks.workloads import DIFFERING, EQUAL

# Colours that the colour-blind tell apart, and markers for print.
_STYLES = {
    PLAIN: ("#7f7f7f", "o"),
    FLAX: ("#d55e00", "s"),
    JITTED: ("#e69f00", "D"),
    NNX: ("#cc79a7", "v"),
    HAND: ("#000000", "^"),
    GENERATED: ("#0072b2", "o"),
    UNSHARED: ("#56b4e9", "P"),
    DROP_IN: ("#009e73", "X"),
}


def write(results: Results, file: Path) -> None:
    """Draw trace time against depth, one line a variant; equal data gives equal bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = {family: results.family(family) for family in (EQUAL, DIFFERING)}
    panels = {family: reports for family, reports in panels.items() if reports}
    if not panels:
        raise ValueError("no stack of layers was measured: there is nothing to plot")
    with mpl.rc_context({"svg.hashsalt": "vjpgen", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=(4.6 * len(panels), 4.4), facecolor="white", layout="constrained")
        axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for each, (family, reports) in zip(axes, panels.items(), strict=True):
            _draw(each, results, family, reports)
        depths = sorted({report.depth for reports in panels.values() for report in reports})
        axes[0].set_xticks(depths, labels=list(map(str, depths)))
        axes[0].set_ylabel("first trace of the gradient, seconds")
        lines, names = axes[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _draw(axes: Any, results: Results, family: str, reports: list[Report]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    for name in results.variants:
        colour, marker = _STYLES[name]
        known = [each for each in reports if name in each.samples[FIRST].seconds]
        axes.plot(
            [each.depth for each in known],
            [each.samples[FIRST].median(name) for each in known],
            color=colour,
            marker=marker,
            markersize=4.5,
            linewidth=2.4 if name == GENERATED else 1.2,
            zorder=3 if name == GENERATED else 2,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_title(family)
    axes.set_xlabel("depth, layers")
