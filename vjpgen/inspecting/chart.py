"""Memory over a step as an SVG drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from vjpgen.figures import size
from vjpgen.inspecting.report import Memory, Moment

_WIDTH, _HEIGHT = 960, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 44, 34
_MIDDLE = (_LEFT + _WIDTH - _RIGHT) / 2
_FLOOR = _HEIGHT - _BOTTOM
_TICKS = 4
_LABEL = (130, 15)

Point = tuple[float, float]


def draw(memories: Mapping[str, Memory]) -> str:
    """Draw memories over one another.

    Args:
        memories: by the class that gives each its colour. The forward passes share the left half,
            the backward passes the right one, however many operations each has.
    """
    top = _scale(max((each.peak for each in memories.values()), default=0))
    titles = ", ".join(f"{name}: at most {each.peak:,} bytes" for name, each in memories.items())
    lines = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Memory over the step; {titles}">',
        *_axes(top),
    ]
    curves = {name: _curve(memory, top) for name, memory in memories.items()}
    for name in reversed(curves):  # the first lies on top
        lines += _shape(name, curves[name])
    lines += _peaks(memories, curves)
    return "\n".join((*lines, "</svg>"))


def _scale(peak: int) -> int:
    """Return a round number of bytes that is no less than the peak."""
    if peak <= 0:
        return _TICKS
    step = peak / _TICKS
    magnitude = 10 ** math.floor(math.log10(step))
    nice = next(n for n in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if n * magnitude >= step)
    return math.ceil(nice * magnitude * _TICKS)


def _axes(top: int) -> Iterator[str]:
    for tick in range(_TICKS + 1):
        y = _height(top * tick / _TICKS, top)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        label = size(top * tick / _TICKS)
        yield f'<text x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    yield (f'<line class="divide" x1="{_MIDDLE}" x2="{_MIDDLE}" y1="{_TOP - 18}" y2="{_FLOOR}"/>')
    for title, x in (("forward", _LEFT), ("backward", _MIDDLE)):
        middle = x + (_MIDDLE - _LEFT) / 2
        yield f'<text x="{middle:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{title}</text>'


def _height(bytes_: float, top: int) -> float:
    return _FLOOR - (_FLOOR - _TOP) * bytes_ / top


def _curve(memory: Memory, top: int) -> list[Point]:
    """Return the corners of a line of steps."""
    return [*_steps(memory.forward, _LEFT, top), *_steps(memory.backward, _MIDDLE, top)]


def _steps(moments: Sequence[Moment], left: float, top: int) -> Iterator[Point]:
    width = (_MIDDLE - _LEFT) / max(len(moments), 1)
    for index, moment in enumerate(moments):
        y = _height(moment.size, top)
        yield left + index * width, y
        yield left + (index + 1) * width, y


def _shape(name: str, curve: Sequence[Point]) -> Iterator[str]:
    if not curve:
        return
    path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in curve)
    closed = f"{path}L{curve[-1][0]:.1f},{_FLOOR}L{curve[0][0]:.1f},{_FLOOR}Z"
    yield f'<path class="area {name}" d="{closed}"/>'
    yield f'<path class="{name}" d="{path}"/>'


def _peaks(memories: Mapping[str, Memory], curves: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    """Mark the highest point of each line, and write its bytes above it."""
    written: list[Point] = []
    for name, curve in curves.items():
        if not curve:
            continue
        index = min(range(0, len(curve), 2), key=lambda i: curve[i][1])
        (left, y), (right, _) = curve[index], curve[index + 1]
        x = (left + right) / 2
        yield f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        place = _free_place(min(max(x, _LEFT + 60), _WIDTH - _RIGHT - 60), y - 9, written)
        written.append(place)
        yield (
            f'<text class="{name}" x="{place[0]:.1f}" y="{place[1]:.1f}" text-anchor="middle">'
            f"{name} {size(memories[name].peak)}</text>"
        )


def _free_place(x: float, y: float, written: Sequence[Point]) -> Point:
    """Move a label up until it lies on no other one."""
    while any(abs(x - other) < _LABEL[0] and abs(y - at) < _LABEL[1] for other, at in written):
        y -= 1
    return x, y
