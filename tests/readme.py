"""The README's parts that are made: `python -m tests.readme` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

from vjpgen.compiler import Options, compile_source

README = Path(__file__).parent.parent / "README.md"
PART = re.compile(r"(<!-- generated: first example -->\n).*?(<!-- end -->)", re.DOTALL)


def source(text: str) -> str:
    """Return the README's `model.py`."""
    found = re.search(r"```python\n(# model\.py\n.*?)```", text, re.DOTALL)
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
    return PART.sub(lambda m: f"{m[1]}\n```python\n{generated(text)}\n```\n\n{m[2]}", text)


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
