"""What verification found: plain data, which crosses the border of a process."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["verified", "failed", "unverified", "crashed", "timeout", "error"]
Severity = Literal["error", "warning", "note"]
Check = Literal[
    "primal",
    "forward",
    "structure",
    "gradient",
    "claim",
    "linear",
    "jit",
    "vmap",
    "scan",
    "checkpoint",
    "order2",
    "repeat",
    "leak",
    "effects",
    "precision",
    "residuals",
    "example",
]
Claim = Literal["exact", "surrogate", "zero", "state", ""]
Relation = Literal["exact", "different", "zero", "state", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth saying.

    Args:
        check: the check that found it.
        severity: "error" for what fails the rule.
        message: one sentence: what and where, found and expected, with numbers.
        slot: the argument's name; the module's slot goes by its first parameter's name.
        leaf: the path of the leaf: `params.Dense_0.kernel`, `x[0]`.
        found: short text, as `0.5231 at [0, 3]`.
        expected: the same of what was to be found.
        cause: what usually causes it, where the numbers tell.
    """

    check: Check
    severity: Severity
    message: str
    slot: str = ""
    leaf: str = ""
    found: str = ""
    expected: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Leaf:
    """The gradient of one leaf of one slot, beside its reference.

    Args:
        slot: the argument's name.
        path: the path of the leaf.
        shape: the leaf's shape.
        dtype: its dtype in the example.
        claim: what the rule claims of it; "" where it claims nothing.
        relation: what it turned out to be; "zero" where the rule's gradient is zero and the
            reference is not, or where that is claimed; "unknown" where there was nothing to
            compare it with.
        error: the worst |custom - reference| over the scale of the reference; 0.0 where the two
            are not to be compared.
        tolerance: the error that is allowed.
        custom: some components of the rule's gradient, at most 400; real and imaginary parts of
            complex ones.
        reference: the same components of the reference.
        directions: the number of output directions that were compared.
    """

    slot: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    claim: Claim
    relation: Relation
    error: float
    tolerance: float
    custom: tuple[float, ...]
    reference: tuple[float, ...]
    directions: int


@dataclass(frozen=True)
class RuleReport:
    """What was found out about one rule on one set of arguments.

    Args:
        name: the qualified name of the rule's function.
        filename: the file of the annotation; "" where there is none.
        line: its line, from 1; 0 where there is none.
        column: its column, from 1; 0 where there is none.
        status: "verified" where no finding is an error and gradients were compared; "unverified"
            where there is nothing to compare.
        findings: what was found, errors first.
        leaves: the gradients that were compared.
        residual_bytes: bytes that the rule keeps for its backward pass; None where not measured.
        autodiff_bytes: bytes that autodiff of the source keeps.
        seed: what all random directions come from.
        seconds: how long it took.
        checks: the checks that were run, in order.
        skipped: the checks that do not apply, each with the reason.
    """

    name: str
    filename: str
    line: int
    column: int
    status: Status
    findings: tuple[Finding, ...]
    leaves: tuple[Leaf, ...]
    residual_bytes: int | None
    autodiff_bytes: int | None
    seed: int
    seconds: float
    checks: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that fail the rule."""
        return tuple(each for each in self.findings if each.severity == "error")

    @property
    def ok(self) -> bool:
        """Whether the rule was verified."""
        return self.status == "verified"

    def as_data(self) -> dict[str, Any]:
        """Return the report as JSON has it; numbers that JSON lacks are text ("nan", "inf")."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> RuleReport:
        """Undo `as_data`."""
        return cls(
            **{
                **data,
                "findings": tuple(Finding(**each) for each in data["findings"]),
                "leaves": tuple(_leaf(each) for each in data["leaves"]),
                "checks": tuple(data["checks"]),
                "skipped": tuple((check, reason) for check, reason in data["skipped"]),
            }
        )


def status_of(
    findings: Iterable[Finding], checks: Collection[str], leaves: Collection[Leaf]
) -> Status:
    """Return what becomes of a rule by what was found, the checks that were run, and its leaves."""
    if any(each.severity == "error" for each in findings):
        return "failed"
    compared = not leaves or any(each.relation != "unknown" for each in leaves)
    return "verified" if "gradient" in checks and compared else "unverified"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _leaf(data: Mapping[str, Any]) -> Leaf:
    return Leaf(
        **{
            **data,
            "shape": tuple(data["shape"]),
            "error": float(data["error"]),
            "tolerance": float(data["tolerance"]),
            "custom": tuple(map(float, data["custom"])),
            "reference": tuple(map(float, data["reference"])),
        }
    )
