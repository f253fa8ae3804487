"""Comments are found as Python's tokenizer finds them, by a faster way where there is one."""

from __future__ import annotations

import ast
import sys
import warnings
from pathlib import Path

import flax
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vjpgen.compiler import tokens
from vjpgen.compiler.source import decode

FLAX = Path(flax.__file__).parent
PIECES = ['"', "'", '"""', "'''", "#", "\\", "\n", "\r\n", " ", "f", "rb", "a", "+", "é", "# b"]

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="strings nest there: only the tokenizer is used"
)


def same(data: bytes) -> bool:
    source = decode(data, "m.py")
    return list(tokens._scanned(source)) == list(tokens._tokenized(source))


@pytest.mark.parametrize("folder", ["linen", "core", "nnx", "training"])
def test_real_code_has_the_same_comments_either_way(folder: str) -> None:
    files = sorted((FLAX / folder).rglob("*.py"))
    assert files
    assert [path.name for path in files if not same(path.read_bytes())] == []


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_what_python_accepts_has_the_same_comments_either_way(text: str) -> None:
    data = f"x = {text}\n# the end".encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(data)
        except SyntaxError:
            assume(False)
    assert same(data)


@pytest.mark.parametrize("text", ["'", '"a\n"', '"""', "'''a''", "'\\'", "x = '\\\n"])
def test_a_string_without_end_is_no_source(text: str) -> None:
    with pytest.raises(SyntaxError):
        tokens.read_comments(decode(text.encode(), "m.py"))
