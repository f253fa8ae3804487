"""How many bytes the rule keeps for its backward pass, and how many autodiff keeps."""

from __future__ import annotations

import dataclasses

import jax

from vjpgen.inspecting.measure import residual_bytes
from vjpgen.testing.trial import NotApplicableError, Trial


def check_residuals(trial: Trial) -> None:
    """Measure what is kept, in the example's own precision."""
    subject = trial.subject
    source = dataclasses.replace(subject, call=trial.plain.call)
    with jax.enable_x64(False):
        try:
            trial.memory["residual_bytes"] = residual_bytes(subject)
            with trial.ruled.without_rules():
                trial.memory["autodiff_bytes"] = residual_bytes(source)
        except Exception as error:
            raise NotApplicableError(f"it cannot be traced ({type(error).__name__})") from None
