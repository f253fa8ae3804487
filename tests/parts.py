"""The parts of the README that scripts write, between `<!-- generated: NAME -->` and an end."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def body(text: str, name: str) -> str:
    """Return what stands in a part."""
    found = _pattern(name).search(text)
    assert found is not None, name
    return found[2].strip()


def replaced(text: str, name: str, content: str) -> str:
    """Return the text with something else in one of its parts."""
    return _pattern(name).sub(lambda found: f"{found[1]}\n{content}\n\n{found[3]}", text)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- generated: {name} -->\n)(.*?)(<!-- end -->)", re.DOTALL)
