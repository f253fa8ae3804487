"""Drawings of gradients beside their references, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vjpgen.figures import size
from vjpgen.testing.report import Leaf
from vjpgen.testing.scales import Scale, fitting

STYLE = """
svg.plot { max-width: 22rem; font-size: 10.5px; }
svg .axis, svg .diagonal, svg .allowed { stroke: var(--soft); }
svg .diagonal { stroke-dasharray: 4 4; } svg .allowed { stroke-dasharray: 1 3; }
svg .dots { fill: none; stroke-width: 4; stroke-linecap: round; stroke-opacity: .55;
  stroke: var(--rule); }
svg .surrogate .dots { stroke: var(--autodiff); stroke-linecap: square; stroke-width: 3.5; }
svg .zero .dots, svg .unclaimed .dots { stroke: var(--soft); }
svg .state .dots { stroke: var(--other); }
svg .wrong .dots { stroke: var(--bad); }
svg.bars { max-width: 40rem; }
svg rect.rule { fill: var(--rule); } svg rect.autodiff { fill: var(--autodiff); }
"""

_WIDTH, _HEIGHT = 254, 212
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 10, 8, 40
_BAR, _ROW, _NAME, _VALUE = 20, 30, 76, 90
_BARS = 560
_GAPS = (30, 13)

Point = tuple[float, float]


@dataclass(frozen=True)
class _Plot:
    """A plane with two axes.

    Args:
        across: the axis from left to right.
        up: the axis from bottom to top.
    """

    across: Scale
    up: Scale

    def at(self, x: float, y: float) -> Point:
        """Return where a point is drawn."""
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * self.across.place(x),
            _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * self.up.place(y),
        )

    def axes(self, across: str, up: str) -> Iterator[str]:
        """Draw both axes with their numbers and titles."""
        floor, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        for (x, _), text in _apart(self.across, lambda value: self.at(value, self.up.low), 0):
            yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{floor}"/>'
            yield f'<text x="{x:.1f}" y="{floor + 14}" text-anchor="middle">{text}</text>'
        for (_, y), text in _apart(self.up, lambda value: self.at(self.across.low, value), 1):
            yield f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        yield f'<path class="axis" fill="none" d="M{_LEFT},{_TOP}V{floor}H{end}"/>'
        middle = (_LEFT + end) / 2
        yield f'<text x="{middle}" y="{_HEIGHT - 7}" text-anchor="middle">{across}</text>'
        turned = (_TOP + floor) / 2
        yield (
            f'<text transform="translate(10,{turned})rotate(-90)" text-anchor="middle">{up}</text>'
        )

    def dots(self, points: Iterable[Point]) -> str:
        """Draw points."""
        places = {(round(x, 1), round(y, 1)) for x, y in (self.at(*each) for each in points)}
        return f'<path class="dots" d="{"".join(f"M{x:g},{y:g}h0" for x, y in sorted(places))}"/>'


def _apart(
    scale: Scale, at: Callable[[float], Point], axis: Literal[0, 1]
) -> Iterator[tuple[Point, str]]:
    """Yield the numbers at an axis and where they stand, without those that stand too near."""
    taken: list[float] = []
    for value, text in sorted(scale.ticks(), key=lambda tick: (tick[0] != 0, -abs(tick[0]))):
        place = at(value)
        if all(abs(place[axis] - other) >= _GAPS[axis] for other in taken):
            taken.append(place[axis])
            yield place, text


def scatter(leaf: Leaf, kind: str) -> str:
    """Draw a leaf's gradient over its reference, with the diagonal on which both are equal.

    Args:
        leaf: the leaf.
        kind: the class that gives the points their colour and shape.
    """
    points = _finite(leaf)
    scale = fitting(value for point in points for value in point)
    plot = _Plot(scale, scale)
    (x1, y1), (x2, y2) = plot.at(scale.low, scale.low), plot.at(scale.high, scale.high)
    return _svg(
        "The rule's gradient over the reference",
        kind,
        (
            *plot.axes("reference", "rule"),
            f'<line class="diagonal" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>',
            plot.dots(points),
        ),
    )


def errors(leaf: Leaf, kind: str) -> str:
    """Draw the difference of a leaf's gradient and its reference over the reference's size.

    Args:
        leaf: the leaf.
        kind: the class that gives the points their colour and shape.
    """
    points = [(abs(right), abs(found - right)) for right, found in _finite(leaf)]
    points = [point for point in points if math.isfinite(point[1])]
    plot = _Plot(*(fitting((point[axis] for point in points), least=0.0) for axis in (0, 1)))
    return _svg(
        "The size of the difference over the size of the reference",
        kind,
        (*plot.axes("size of the reference", "size of the difference"), plot.dots(points)),
    )


def not_finite(leaf: Leaf) -> int:
    """Count the components that cannot be drawn."""
    return len(leaf.custom) - len(_finite(leaf))


def bars(rule: int, autodiff: int) -> str:
    """Draw two numbers of bytes as bars."""
    most = max(rule, autodiff, 1)
    lines = []
    for row, (kind, name, bytes_) in enumerate(
        (("rule", "the rule", rule), ("autodiff", "autodiff", autodiff))
    ):
        y, wide = row * _ROW, (_BARS - _NAME - _VALUE) * bytes_ / most
        middle = y + _BAR / 2 + 4
        lines += (
            f'<text x="{_NAME - 8}" y="{middle}" text-anchor="end">{name}</text>',
            f'<rect class="{kind}" x="{_NAME}" y="{y}" width="{wide:.1f}" height="{_BAR}" rx="3"/>',
            f'<text x="{_NAME + wide + 8:.1f}" y="{middle}">{size(bytes_)}</text>',
        )
    return "\n".join(
        (
            f'<svg class="bars" viewBox="0 0 {_BARS} {2 * _ROW}" role="img" '
            f'aria-label="{rule:,} bytes kept by the rule, {autodiff:,} by autodiff">',
            *lines,
            "</svg>",
        )
    )


def _finite(leaf: Leaf) -> list[Point]:
    """Return the points that can be drawn: reference and rule."""
    points = zip(leaf.reference, leaf.custom, strict=True)
    return [point for point in points if all(map(math.isfinite, point))]


def _svg(label: str, kind: str, lines: Sequence[str]) -> str:
    return "\n".join(
        (
            f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">',
            f'<g class="{kind}">',
            *lines,
            "</g></svg>",
        )
    )
