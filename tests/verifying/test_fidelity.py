"""The code of primals in generated modules is that of the source."""

from __future__ import annotations

import os
from pathlib import Path
from types import CodeType

import pytest

from tests.verifying.conftest import ROOT
from vjpgen.importing.loader import code_of
from vjpgen.importing.settings import Settings
from vjpgen.verifying.fidelity import is_faithful
from vjpgen.verifying.targets import find_targets

SETTINGS = Settings(quiet=True)
RULES_OF: dict[str, list[str]] = {}
for each in find_targets([str(ROOT / "tests" / "cases"), str(ROOT / "examples")]).rules:
    RULES_OF.setdefault(each.path, []).append(each.info.name)


def compiled(text: str | bytes) -> CodeType:
    return compile(text, "", "exec", dont_inherit=True)


@pytest.mark.parametrize("path", RULES_OF, ids=os.path.basename)
def test_primals_are_as_in_their_sources(path: str):
    data = Path(path).read_bytes()
    generated = code_of(path, data, SETTINGS, named=True)
    assert generated.co_names != compiled(data).co_names
    assert all(is_faithful(compiled(data), generated, name) for name in RULES_OF[path])


FUNCTION = "def f(x, *, n=2):\n    def g(y):\n        return y * n\n\n    return g(x)\n"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    def g", "\n\n    def g", True),
        ("y * n", "n * y", False),
        ("n=2", "n=3", True),  # a default is no part of the function
        ("return g(x)", "return g(x + 1)", False),
        ("(x, *, n=2)", "(x, n=2)", False),
        ("def f", "def h", False),
    ],
)
def test_another_function_is_told(old: str, new: str, expected: bool):
    assert FUNCTION.count(old) == 1
    assert is_faithful(compiled(FUNCTION), compiled(FUNCTION.replace(old, new)), "f") == expected
