"""What all checks of one rule work with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpgen.runtime.leaves import is_extended
from vjpgen.testing.claims import Claimed
from vjpgen.testing.report import Check, Claim, Finding, Leaf, Severity
from vjpgen.testing.ruled import Ruled
from vjpgen.testing.sides import Side
from vjpgen.testing.subjects import Input, Subject
from vjpgen.testing.tolerances import Tolerance, asked_for, epsilon, tolerance_of


class NotApplicableError(Exception):
    """A check says nothing about this rule; the text says why."""


@dataclass(frozen=True)
class Settings:
    """What a user asks for.

    Args:
        seed: what all random directions come from.
        directions: how many are drawn.
        rtol: the relative tolerance; None for what fits.
        atol: the absolute tolerance; None for what fits.
    """

    seed: int
    directions: int
    rtol: float | None
    atol: float | None


@dataclass(frozen=True, eq=False)
class Target:
    """One leaf that has a gradient.

    Args:
        input: it.
        claimed: what the rule claims of it.
    """

    input: Input
    claimed: Claimed | None

    @property
    def claim(self) -> Claim:
        """The kind of the claim; "" where there is none."""
        return self.claimed.kind if self.claimed else ""

    @property
    def size(self) -> int:
        """The number of components."""
        return math.prod(self.input.value.shape)


@dataclass(eq=False)
class Trial:
    """One rule on one set of arguments.

    Args:
        ruled: the function and its rule.
        subject: the same as a function of arrays.
        custom: the function with its rule.
        source: what its gradient is compared with.
        plain: the function without its rule: what its outputs are compared with.
        targets: the leaves that have a gradient.
        own: the arrays in the example's own precision.
        arrays: the arrays in double precision.
        has_own_reference: whether `source` is not autodiff of the function itself.
        settings: what the user asks for.
        findings: what the checks have found.
        leaves: the gradients that were compared.
        memory: what checks leave to later ones.
    """

    ruled: Ruled
    subject: Subject
    custom: Side
    source: Side
    plain: Side
    targets: Sequence[Target]
    own: Sequence[Any]
    arrays: Sequence[Any]
    has_own_reference: bool
    settings: Settings
    findings: list[Finding] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    def tell(
        self,
        check: Check,
        message: str,
        severity: Severity = "error",
        *,
        target: Target | None = None,
        **about: str,
    ) -> None:
        """Record a finding."""
        if target is not None:
            about = {"slot": target.input.slot, "leaf": target.input.path, **about}
        self.findings.append(Finding(check, severity, message, **about))

    def taken_value(self, number: int) -> Any:
        """Return the array of one target, in double precision."""
        return self.arrays[self.custom.chosen[number]]

    @property
    def unit(self) -> float:
        """The epsilon of the example's least exact dtype."""
        kinds = [each.dtype for each in self.own if not is_extended(each)]
        return max((epsilon(kind) for kind in kinds if jnp.issubdtype(kind, np.inexact)), default=0)

    def has_errors(self, checks: Iterable[str]) -> bool:
        """Tell whether one of some checks has failed."""
        wanted = set(checks)
        return any(each.severity == "error" and each.check in wanted for each in self.findings)

    def tolerance(self, dtype: Any, noise: float = 0.0) -> Tolerance:
        """Return the tolerance for gradients computed in a dtype."""
        settings = self.settings
        return asked_for(settings.rtol, settings.atol, tolerance_of(dtype, noise=noise))
