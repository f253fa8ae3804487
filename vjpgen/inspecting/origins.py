"""Which expression of the user's source an operation comes from."""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

from vjpgen.inspecting.flat import Equation, Stack, flatten
from vjpgen.inspecting.report import Origin
from vjpgen.testing import subjects
from vjpgen.testing.libraries import HIDDEN

_INSTALLED = ("site-packages", "dist-packages")
_STANDARD = os.path.join(sysconfig.get_paths()["stdlib"], "")
_LONGEST = 72


@dataclass(frozen=True)
class Frame:
    """A place in a function: its code, and the instruction."""

    code: CodeType
    instruction: int

    @property
    def positions(self) -> tuple[int | None, int | None, int | None, int | None]:
        """Line, last line, column and last column, columns in bytes."""
        return _positions(self.code)[self.instruction // 2]

    @property
    def filename(self) -> str:
        """The absolute path of the source."""
        return os.path.abspath(self.code.co_filename)


@cache
def _positions(code: CodeType) -> list[Any]:
    return list(code.co_positions())


class Origins:
    """Finds expressions in the source of a project; where there is none, in other code of the user.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.join(os.path.abspath(root), "")
        self._flattened = cache(flatten)

    def of(self, equation: Equation, place: int | None = None) -> Origin | None:
        """Return the expression that an operation comes from.

        Args:
            equation: the operation.
            place: which of its outputs is asked for, that of a loop being made inside it; None
                for the operation itself.
        """
        stack = equation.stack
        if place is not None:
            for maker, _ in self._inside(equation, place):
                stack = (*stack, *maker.stack)
        frames = self._deepest(stack)
        return _origin(frames[0]) if frames else None

    def _inside(self, equation: Equation, place: int) -> Iterator[tuple[Equation, int]]:
        """Lead into the loop that an operation is, to what makes one of its outputs."""
        while len(equation.bodies) == 1:
            body = self._flattened(equation.bodies[0])
            value = body.outputs[place] if place < len(body.outputs) else None
            maker = None if value is None else body.makers().get(value)
            if len(body.outputs) != len(equation.outputs) or maker is None:
                return
            yield maker
            equation, place = maker

    def _deepest(self, stack: Stack) -> list[Frame]:
        """Return the user's frames, the innermost first.

        What JAX has traced once it uses again elsewhere. The frames inside such a function begin
        with it; in older versions of JAX they are those of the first time it was traced, and count
        where they lead through this call.
        """
        found: list[Frame] = []
        for traceback in stack:
            frames, is_whole = _frames(traceback)
            frames = self._users(frames)
            if frames and not is_whole:
                found = [*frames, *found]
            elif len(frames) >= len(found) and frames[len(frames) - len(found) :] == found:
                found = frames
        return found

    def _users(self, frames: list[Frame]) -> list[Frame]:
        own = [frame for frame in frames if self._is_own(frame.filename)]
        if own:
            return own
        return [frame for frame in frames if not frame.filename.startswith(_STANDARD)]

    def _is_own(self, filename: str) -> bool:
        inside = filename.startswith(self._root)
        return inside and not any(part in _INSTALLED for part in filename.split(os.sep))


def _frames(traceback: Any) -> tuple[list[Frame], bool]:
    """Return the frames that are no library's, the innermost first, and whether they are all."""
    found: list[Frame] = []
    codes, instructions = ((), ()) if traceback is None else traceback.raw_frames()
    for code, instruction in zip(codes, instructions, strict=True):
        if code.co_filename == subjects.__file__:  # who called the user's code does not matter
            return found, True
        if not code.co_filename.startswith(("<", *HIDDEN)):
            found.append(Frame(code, instruction))
    return found, False


def _origin(frame: Frame) -> Origin | None:
    row, end_row, column, end_column = frame.positions
    row = row or frame.code.co_firstlineno
    lines = linecache.getlines(frame.code.co_filename)[row - 1 : end_row or row]
    shown = _shown(frame.filename)
    if not lines:
        return Origin("", shown, row)
    encoded = [line.encode() for line in lines]
    if column is not None and end_column is not None:
        encoded[-1] = encoded[-1][:end_column]
        encoded[0] = encoded[0][column:]
    text = " ".join(b" ".join(encoded).decode(errors="replace").split())
    return Origin(_shortened(text), shown, row)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _shown(path: str) -> str:
    """A path as the user would write it."""
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here) if path.startswith(here) else path
