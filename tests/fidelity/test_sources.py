"""What a source can be written in: encodings, line ends, indentation, all of Python's syntax."""

from __future__ import annotations

import codecs
import sys

import pytest

from tests.fidelity.insertions import is_carried
from vjpgen.compiler import Options, Result, compile_source

RULE = "\n\ndef rule(*residuals_and_tangents):\n    return residuals_and_tangents\n"
TEXT = (
    '"""{0}."""\n\nimport os; import sys  # {0}\n'
    + RULE
    + "\n\nclass A:\n    {0} = 1\n\n    # custom-vjp: bwd=rule\n    def f(self, {0}):\n"
    + '        """{0}."""\n        return {0}\n        # {0}\n'
    + "\n\n# custom-vjp: bwd=rule\ndef g(x):\n    return x\n"
)
CODECS = {
    "utf-8": "é",
    "latin-1": "é",
    "iso-8859-15": "é",
    "cp1252": "é",
    "cp437": "é",
    "koi8-r": "я",
    "shift_jis": "表",
    "euc-jp": "表",
    "iso-2022-jp": "表",
    "gb18030": "表",
    "big5": "表",
    "utf-7": "é",
    "ascii": "e",
    "hz": "表",
}


def compiled(data: bytes, origin: str = "m.py") -> bytes:
    result: Result = compile_source(data, "m.py", options=Options(origin))
    assert result.diagnostics == ()
    assert result.output is not None
    compile(result.output, "m_vjp.py", "exec", dont_inherit=True)
    return result.output


@pytest.mark.parametrize("origin", ["m.py", "pkg/módèle_表_я.py"], ids=["ascii", "other"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("codec", CODECS)
def test_every_encoding_is_carried(codec: str, newline: str, origin: str) -> None:
    text = f"# coding: {codec}\n" + TEXT.format(CODECS[codec])
    data = text.replace("\n", newline).encode(codec)
    assert is_carried(data, compiled(data, origin), ["f", "g"])


@pytest.mark.parametrize("codec", ["ascii", "latin-1", "shift_jis"])
def test_a_file_name_outside_the_encoding_still_means_the_file(codec: str) -> None:
    output = compiled(f"# coding: {codec}\n{TEXT.format('e')}".encode(), "pkg/мо.py")
    places: list[str] = []
    stub = "class _vjpgen:\n    lift = lambda f, g, *, at, **k: places.append(at) or f\n"
    line = next(line for line in output.decode(codec).splitlines() if "vjpgen.runtime" in line)
    text = output.decode(codec).replace(line, stub)
    exec(compile(text, "m_vjp.py", "exec"), {"places": places})
    assert [place.split(":")[0] for place in places] == ["pkg/мо.py"] * 2


@pytest.mark.parametrize(
    ("bom", "cookie"),
    [
        (b"", "# -*- coding: UTF-8 -*-"),
        (b"", "# vim: set fileencoding=utf_8 :"),
        (b"", "#!/usr/bin/env python\n# coding=utf8"),
        (b"", "# A word.\n# coding: utf-8-sig"),
        (b"", "\n# coding: utf-8"),
        (b"", "# coding: U8"),
        (b"", "#!/usr/bin/python -u"),
        (codecs.BOM_UTF8, "#!/usr/bin/python -u"),
        (codecs.BOM_UTF8, "# -*- coding: UTF-8 -*-"),
        (codecs.BOM_UTF8, "# A word.\n# coding: utf-8-sig"),
    ],
)
def test_the_first_lines_stay_first(bom: bytes, cookie: str) -> None:
    data = bom + (cookie + "\n" + TEXT.format("é")).encode()
    output = compiled(data)
    assert is_carried(data, output, ["f", "g"])
    assert output.startswith(bom + cookie.encode() + b"\n# @generated")


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n", "  ", "\n\t", "# the end", ";"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_every_end_of_a_file_is_carried(end: str, newline: str) -> None:
    data = (TEXT.format("é").rstrip("\n") + end).replace("\n", newline).encode()
    assert is_carried(data, compiled(data), ["f", "g"])


@pytest.mark.parametrize("unit", ["\t", " ", "  ", "        ", "   \t"])
def test_indentation_is_followed(unit: str) -> None:
    data = TEXT.format("é").replace("    ", unit).encode()
    output = compiled(data)
    assert is_carried(data, output, ["f", "g"])
    assert f"\n{unit}{unit}{unit}with _vjp_split.primal(".encode() in output


def test_mixed_line_ends_are_carried() -> None:
    lines = TEXT.format("é").splitlines()
    text = "".join(line + ("\r\n" if row % 3 else "\n") for row, line in enumerate(lines))
    assert is_carried(text.encode(), compiled(text.encode()), ["f", "g"])


@pytest.mark.parametrize("text", ["\f\n", "x = 1\r", "class B:\f\n    pass\n"])
def test_what_libcst_loses_is_refused(text: str) -> None:
    data = (text + TEXT.format("é")).encode()
    result = compile_source(data, "m.py", options=Options("m.py"))
    if result.output is not None:
        assert is_carried(data, result.output, ["f", "g"])
    else:
        assert [finding.code for finding in result.diagnostics] == ["VJP903"]


SYNTAX = [
    "match x:\n    case [1, *_, {'a': 1, **r}, 1 | A.b as c] if c: pass\n    case _: pass\n",
    "if (y := 1) and [z := 2, *(1, 2)]: pass\n",
    "def p(a, /, b=1, *c, d: int = 2, **e) -> 'x': ...\n",
    "async def p():\n    async with a as b, c: return [d async for d in await e if await f]\n",
    "async def p():\n    yield 1\n    async for x in y: yield\n    else: pass\n",
    "@(lambda f: f)\n@a[0].b(1)\ndef p(): pass\n",
    "@(\n  # a word\n  a\n)\ndef p(): pass\n",
    "with (open('a') as b, open('c') as d,): pass\n",
    "def p(*args: *tuple[int, ...]): return a[*b, 1:2, ...]\n",
    "try: pass\nexcept* (A, B) as e: pass\nelse: pass\nfinally: pass\n",
    "print(f'{a!r:>{b}} {{}} {c=}' rb'' if 0 else rf'\\{d}' 'e')\n".replace("rb''", "''"),
    "a: int; b: 'c' = 1; a.b: int = 2; a[0]: int\n",
    "x = 0xFF_FF, 1_0e-1_0, 1j, 0o7, 0b1, .5, 5., ...\n",
    "lambda *a, b=1, **c: (yield)\n",
    "del (a), [b]; global_ = nonlocal_ = not_ = 1\n",
    "assert x, y; raise A from B\n",
    "x = a if b else c or d and not e in f is not g\n",
    "x @= y; x //= 1; x **= -1; x >>= ~2\n",
    "for i, *j in k: continue\nelse: pass\nwhile 1: break\nelse: pass\n",
    "from . import a as b, c; from .. import (d,)\n",
    "x = {**a, 'b': 1}; y = {*a, 1}; z = (*a,)\n",
    "type = match = case = _ = 1; print(type, match, case)\n",
    "if 1:\n  x = '''\n a\\\n'''; y = \\\n    2\n",
    "class B(A, metaclass=C, **k): x: int = 1; pass\n",
    "ｆｏｏ = ﬁ = µ = 1\n",
]
NEW_SYNTAX = [
    "type X[T: int, *Ts, **P] = dict[T, Callable[P, T]]\n",
    "def p[T: (int, str)](a: T) -> T: return a\n",
    "class B[T](A[T]):\n    def m[S](self, s: S) -> T: ...\n",
    "x = f'{a['b']} {f'{c + f\"{1}\"}'} {d # why\n}'\n",
    "x = f'{'\\n'.join(a)}'\n",
    "x = f'''{\n# custom_vjp in a string's own code\n1}'''\n",
]
if sys.version_info >= (3, 12):
    SYNTAX += NEW_SYNTAX
if sys.version_info >= (3, 13):
    SYNTAX += ["type Y[T = int, *Ts = *tuple[int], **P = [int]] = T\n"]


@pytest.mark.parametrize("syntax", SYNTAX)
def test_all_syntax_is_carried(syntax: str) -> None:
    for text in (syntax + TEXT.format("é"), TEXT.format("é") + syntax):
        assert is_carried(text.encode(), compiled(text.encode()), ["f", "g"])


def inside(syntax: str) -> str:
    """A method with some syntax in its body."""
    lines = "".join(f"        {line}\n" for line in syntax.splitlines())
    return RULE + f"\n\nclass A:\n    # custom-vjp: bwd=rule\n    def f(self, x):\n{lines}"


@pytest.mark.parametrize(
    "syntax",
    [text for text in SYNTAX if not any(word in text for word in ("yield", "type =", "'''"))],
)
def test_all_syntax_is_carried_in_an_annotated_function(syntax: str) -> None:
    data = inside(syntax).encode()
    assert is_carried(data, compiled(data), ["f"])


@pytest.mark.parametrize(
    "above", ["# custom-vjp: bwd=rule\n@(\n{0})\n@b\n", "@(\n{0})\n# custom-vjp: bwd=rule\n"]
)
@pytest.mark.parametrize("decorator", ["a", "# a word\na", "\\\n\n(\na @ b\n@ c)"])
def test_a_decorator_may_begin_below_its_sign(above: str, decorator: str) -> None:
    data = (above.format(decorator) + "def f(x):\n    return x\n" + RULE).encode()
    assert is_carried(data, compiled(data), ["f"])
