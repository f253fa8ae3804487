"""What parent and child tell each other, one JSON object a line.

The parent sends `Request`s. The child answers each with `{"imported": true}` once it has the
module, so that the import has a time of its own, and with `{"report": ...}` at the end. Before the
first, it says `{"ready": true}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from vjpgen.testing.report import Check, Finding, RuleReport, Status


@dataclass(frozen=True)
class Manner:
    """How rules are verified.

    Args:
        seed: what the examples' keys and all random directions come from.
        directions: how many directions are drawn.
        time_limit: the seconds that a rule may take, and the import of its module.
        config: a configuration file that holds for every module; None for the nearest one.
        base: the folder that the patterns of `config` start from.
    """

    seed: int = 0
    directions: int = 8
    time_limit: float = 120.0
    config: str | None = None
    base: str = field(default_factory=os.getcwd)


@dataclass(frozen=True)
class Request:
    """A rule to verify.

    Args:
        path: the absolute path of its source.
        name: the qualified name of its function.
        filename: the source as the user would write it.
        row: the line of the annotation.
        column: its column.
        keys: the keys of the annotation, each with its value's source text.
        manner: how it is verified.
    """

    path: str
    name: str
    filename: str
    row: int
    column: int
    keys: Mapping[str, str]
    manner: Manner

    def as_line(self) -> bytes:
        """Return the request as it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Request:
        """Undo `as_line`."""
        data = json.loads(line)
        return cls(**{**data, "manner": Manner(**data["manner"])})

    def report(self, status: Status, *findings: Finding, seconds: float = 0.0) -> RuleReport:
        """Return the report of a rule that no check was run on."""
        return RuleReport(
            name=self.name,
            filename=self.filename,
            line=self.row,
            column=self.column,
            status=status,
            findings=findings,
            leaves=(),
            residual_bytes=None,
            autodiff_bytes=None,
            seed=self.manner.seed,
            seconds=seconds,
            checks=(),
            skipped=(),
        )


def problem(message: str, check: Check = "example") -> Finding:
    """Return the finding of a rule that could not be verified."""
    return Finding(check, "error", message)
