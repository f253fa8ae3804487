"""Leaving the command line to run a program where nothing of it is left on the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vjpgen.importing.running import Program


class Launch(BaseException):
    """Raised by `vjpgen run` once it knows what to run."""

    def __init__(self, program: Program) -> None:
        self.program = program
