"""Claims of a rule that is nested in a function, tested on that function.

This is for a nested function that cannot be called by itself. Its slots are not those of the
function around it, which alone can be called then. What a claim about
all of its slots means for that one can be told: where each is the true gradient, so is each of the
function around; where they differ on purpose, some gradient must.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vjpgen.testing.report import Finding, RuleReport

_CLAIMS = ("exact", "surrogate", "zero", "state")


def claims_of(keys: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what an annotation claims of the function around its own."""
    return {"exact": True} if _is_true(keys.get("exact", "")) else {}


def with_claims(report: RuleReport, keys: Mapping[str, str], called: str, why: str) -> RuleReport:
    """Add to a report what is to be said of claims that the function around cannot show.

    Args:
        report: what the checks of the function around found.
        keys: the keys of the nested rule's annotation.
        called: the name of the function around.
        why: why the nested one cannot be called by itself.
    """
    findings = list(report.findings)
    if _is_true(keys.get("surrogate", "")) and report.leaves:
        if all(leaf.relation == "exact" for leaf in report.leaves):
            message = (
                f"`surrogate=True` does not hold: each gradient of `{called}` is the true one; "
                "claim `exact`, or take an example on which they differ"
            )
            findings.insert(0, Finding("claim", "error", message))
    else:
        named = [key for key in _CLAIMS if key in keys and not _is_true(keys[key])]
        named += [key for key in ("zero", "state") if _is_true(keys.get(key, ""))]
        if named:
            message = (
                f"not tested: {', '.join(f'`{key}={keys[key]}`' for key in named)}; the slots of "
                f"a nested function cannot be told apart in `{called}`, which was tested instead: "
                f"{why}"
            )
            findings.append(Finding("claim", "warning", message))
    failed = any(each.severity == "error" for each in findings)
    status = "failed" if failed and report.status == "verified" else report.status
    return replace(report, findings=tuple(findings), status=status)


def _is_true(text: str) -> bool:
    try:
        return ast.literal_eval(text.strip() or "None") is True
    except (ValueError, SyntaxError):
        return False
