"""The README's parts that are made: `python -m tests.readme` writes them anew."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path

from click.testing import CliRunner

from tests.parts import README, replaced
from vjpgen.cli import group
from vjpgen.compiler import Options, compile_source

VERIFIED = re.compile(r"(```\n\$ vjpgen (verify [^\n]+)\n)(.*?)(```)", re.DOTALL)
INSPECTED = re.compile(r"(```\n\$ vjpgen (inspect \S+)\n)(.*?)(```)", re.DOTALL)
MODELS = README.parent / "examples" / "models"


def source(text: str, name: str = "model.py") -> str:
    """Return one of the README's sources."""
    found = re.search(rf"```python\n(# {re.escape(name)}\n.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def generated(text: str) -> str:
    """Return what vjpgen writes below the annotated function of the README's `model.py`."""
    result = compile_source(source(text).encode(), "model.py", options=Options(origin="model.py"))
    assert result.output is not None, result.diagnostics
    lines = result.output.decode().splitlines()
    start = next(n for n, line in enumerate(lines) if "_vjp_lifted_" in line) - 1
    return "\n".join(lines[start:]).rstrip()


def written(text: str) -> str:
    """Return the README with its made part as it should be."""
    return replaced(text, "first example", f"```python\n{generated(text)}\n```")


def inspected(text: str) -> str:
    """Return the README with what `vjpgen inspect` says of an example."""
    return INSPECTED.sub(lambda m: f"{m[1]}{_said(m[2])}{m[4]}", text)


def verified(text: str) -> str:
    """Return the README with what `vjpgen verify` says of its `layers.py`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "layers.py").write_text(source(text, "layers.py"))
        return VERIFIED.sub(lambda m: f"{m[1]}{_said(m[2], folder, 1)}{m[4]}", text)


def _said(command: str, folder: Path | str = MODELS, status: int = 0) -> str:
    with contextlib.chdir(folder):
        found = CliRunner().invoke(group, command.split(), catch_exceptions=False)
    assert found.exit_code == status, found.output
    return found.stdout


if __name__ == "__main__":
    README.write_text(verified(inspected(written(README.read_text()))))
