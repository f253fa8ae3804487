"""A report as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from vjpgen.inspecting.report import Moment, Origin, Report, Side, Tensor


def render(report: Report) -> str:
    """Return a report as JSON; what a backend does not tell is null."""
    return json.dumps(_object(report), indent=2) + "\n"


def _object(report: Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "place": report.place,
        "called": report.called,
        "backend": report.backend,
        "arguments": [asdict(each) for each in report.given],
        "ratio": report.ratio,
        "rule": _side(report.rule),
        "autodiff": _side(report.autodiff),
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "kept": side.kept,
        "residuals": [_tensor(each) for each in side.residuals],
        "programs": {name: asdict(program) for name, program in side.programs.items()},
        "memory": {
            "peak": side.memory.peak,
            "forward": [_moment(each) for each in side.memory.forward],
            "backward": [_moment(each) for each in side.memory.backward],
        },
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "bytes": tensor.size,
        "kind": tensor.kind,
        "name": tensor.name,
        "is_output": tensor.is_output,
        "operation": tensor.operation,
        **_origin(tensor.origin),
    }


def _moment(moment: Moment) -> dict[str, Any]:
    return {"bytes": moment.size, "operation": moment.operation, **_origin(moment.origin)}


def _origin(origin: Origin | None) -> dict[str, Any]:
    if origin is None:
        return {"expression": None, "filename": None, "row": None}
    return {"expression": origin.expression, "filename": origin.filename, "row": origin.row}
