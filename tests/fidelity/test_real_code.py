"""Every Python file of the standard library, jax and flax: what the compiler adds is all it does.

Each file gets two annotations, above a function in its middle and above one that is appended. Its
output must compile, with no warning that the source has not, and must be the source again once the
insertions are taken out. Where there is no output, Python itself must refuse the file, or libcst.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter

import libcst
import pytest

from tests.fidelity.annotating import annotate
from tests.fidelity.corpus import Part, parts
from tests.fidelity.insertions import is_carried
from vjpgen.compiler import Options, Result, compile_source


def fault(data: bytes) -> str | None:
    """What is wrong with what the compiler makes of a file; None if nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, functions = annotate(data, _tree(data))
    result = compile_source(source, "file.py", options=Options(origin="file.py"))
    if result.output is None:
        return _unfounded(source, result)
    if any(finding.is_error for finding in result.diagnostics):
        return f"an output in spite of {result.diagnostics}"
    if not is_carried(source, result.output, functions):
        return "text outside the annotated functions has changed"
    added = _warnings(result.output) - _warnings(source)
    return f"the output warns of {added}" if added else None


def _unfounded(source: bytes, result: Result) -> str | None:
    """Why there should have been an output, or None where the finding is right."""
    codes = {finding.code for finding in result.diagnostics if finding.is_error}
    if codes == {"VJP008"} and not _compiles(source):
        return None
    if codes == {"VJP903"} and _compiles(source) and not _libcst_carries(source):
        return None
    return f"no output, but {result.diagnostics}"


def _compiles(source: bytes) -> bool:
    try:
        _warnings(source)
    except (SyntaxError, ValueError):
        return False
    return True


def _warnings(source: bytes) -> Counter[str]:
    """What Python warns of as it compiles a file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compile(source, "file.py", "exec", dont_inherit=True)
    return Counter(str(each.message) for each in caught)


def _libcst_carries(source: bytes) -> bool:
    try:
        return libcst.parse_module(source).bytes == source
    except Exception:
        return False


def _tree(data: bytes) -> ast.Module | None:
    try:
        return ast.parse(data)
    except (SyntaxError, ValueError):
        return None


@pytest.mark.parametrize("part", tuple(parts()), ids=lambda part: part.name)
def test_nothing_but_the_insertions_differs(part: Part) -> None:
    found = {path: fault((part.root / path).read_bytes()) for path in part.files}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}
