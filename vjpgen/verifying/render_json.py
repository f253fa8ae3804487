"""Reports as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vjpgen.testing.report import RuleReport


def render(reports: Iterable[RuleReport]) -> str:
    """Return reports as a list of objects."""
    return json.dumps([_object(each) for each in reports], indent=2) + "\n"


def _object(report: RuleReport) -> dict[str, Any]:
    data = report.as_data()
    place = {
        "name": data.pop("name"),
        "filename": data.pop("filename"),
        "location": {"row": data.pop("line"), "column": data.pop("column")},
    }
    skipped = [{"check": check, "reason": reason} for check, reason in data.pop("skipped")]
    return {**place, **data, "skipped": skipped}
