"""Deep, long and large sources: an output or a finding, and never the end of the process.

Many of these end the process in libcst's native code if it is asked to read them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vjpgen.compiler import Options, compile_source

RULE = """

def rule(*tangents):
    return tangents


# custom-vjp: bwd=rule
def f(x):
    return x
"""
DEEP: dict[str, Callable[[int], str]] = {
    "parentheses": lambda n: "x = " + "(" * n + "1" + ")" * n,
    "lists": lambda n: "x = " + "[" * n + "1" + "]" * n,
    "dicts": lambda n: "x = " + "{1:" * n + "1" + "}" * n,
    "calls in calls": lambda n: "x = " + "f(" * n + "1" + ")" * n,
    "sums": lambda n: "x = " + "+".join(["1"] * n),
    "powers": lambda n: "x = " + "**".join(["a"] * n),
    "ands": lambda n: "x = " + " and ".join(["a"] * n),
    "ors in a condition": lambda n: "if " + " or ".join(["a"] * n) + ": pass",
    "ors in a default": lambda n: "def p(a=" + " or ".join(["a"] * n) + "): pass",
    "ands in a guard": lambda n: "match a:\n case b if " + " and ".join(["a"] * n) + ": pass",
    "ands in a decorator": lambda n: "@(\n" + " and\n".join(["a"] * n) + ")\ndef p(): pass",
    "comparisons": lambda n: "x = " + " < ".join(["a"] * n),
    "attributes": lambda n: "x = a" + ".b" * n,
    "calls": lambda n: "x = a" + "()" * n,
    "subscripts": lambda n: "x = a" + "[0]" * n,
    "nots": lambda n: "x = " + "not " * n + "a",
    "signs": lambda n: "x = " + "-" * n + "1",
    "lambdas": lambda n: "x = " + "lambda: " * n + "1",
    "conditions": lambda n: "x = " + "1 if a else " * n + "2",
    "strings": lambda n: "x = (" + '"a" ' * n + ")",
    "f-strings": lambda n: "x = (" + 'f"{a}" ' * n + ")",
    "comprehension": lambda n: "x = [1 " + "for a in b " * n + "]",
    "import": lambda n: "import " + ".".join(["a"] * n),
    "import from": lambda n: "from " + ".".join(["a"] * n) + " import b",
    "blocks": lambda n: "".join(" " * i + "if a:\n" for i in range(n)) + " " * n + "pass",
    "functions": lambda n: "".join(" " * i + "def g():\n" for i in range(n)) + " " * n + "pass",
    "elifs": lambda n: "if a: pass\n" + "elif a: pass\n" * n,
    "patterns": lambda n: "match a:\n case " + "[" * n + "b" + "]" * n + ": pass",
    "groups": lambda n: (
        "match a:\n case b: pass\n case " + "(" * n + "b,"[: 1 + n % 2] + ")" * n + ": pass"
    ),
}
LONG: dict[str, Callable[[int], str]] = {
    "statements": lambda n: "x = 1\n" * n,
    "semicolons": lambda n: "; ".join(["a"] * n),
    "comments": lambda n: "# c\n" * n,
    "items": lambda n: "x = [" + "1, " * n + "]",
    "assignments": lambda n: "a = " * n + "1",
    "handlers": lambda n: "try: pass\n" + "except A: pass\n" * n,
    "decorators": lambda n: "@a\n" * n + "def p(): pass",
    "string": lambda n: "x = '" + "a" * 250 * n + "'",
    "docstring": lambda n: '"""' + "# custom-vjp: bwd=b\n" * 13 * n + '"""',
}


def test_a_build_outlives_every_depth(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "good.py").write_text(RULE)
    for name, make in DEEP.items():
        for depth in (80, 400, 2_000, 20_000):
            if name not in ("blocks", "functions") or depth < 20_000:
                path = tmp_path / f"{name} {depth}.py"
                path.write_text(make(depth) + RULE)
    command = [sys.executable, "-m", "vjpgen", "build", "--output-format", "github", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stdout + done.stderr
    assert (tmp_path / "good_vjp.py").exists()
    for path in tmp_path.glob("* *0.py"):
        assert (tmp_path / f"{path.stem}_vjp.py").exists() != (f"file={path.name}," in done.stdout)
    built = {name for name in DEEP if (tmp_path / f"{name} 80_vjp.py").exists()}
    assert built == DEEP.keys() - {"patterns", "groups"}


def test_patterns_as_people_write_them_are_built() -> None:
    deep = "match (a, (b, [c])):\n case (x, {'k': [A(y=[(z, '(((((((')])]})"
    deep += " if f((((((((((x)))))))))): pass"
    result = compile_source((deep + RULE).encode(), "m.py", options=Options("m.py"))
    assert result.output is not None


@pytest.mark.parametrize("name", LONG)
def test_length_is_no_depth(name: str) -> None:
    data = (LONG[name](20_000) + RULE).encode()
    result = compile_source(data, "m.py", options=Options("m.py"))
    assert result.diagnostics == ()
    assert result.output is not None


def test_twenty_thousand_lines_of_one_annotation() -> None:
    data = RULE.replace("# custom", "# custom-vjp: missing=zero\n" * 20_000 + "# custom").encode()
    result = compile_source(data, "m.py", options=Options("m.py"))
    assert {finding.code for finding in result.diagnostics} == {"VJP003"}
    assert len(result.diagnostics) == 19_999


@pytest.mark.parametrize("text", ["x{0} = 1\n# custom-vjp: bwd=rule\n\n", "# custom-vjp: bwd=r\n"])
def test_as_many_findings_as_there_are(text: str) -> None:
    other = "def g{0}(x):\n    return x\n\n\n" if "bwd=r\n" in text else ""
    data = "".join((text + other).format(number) for number in range(2_000)).encode()
    result = compile_source(data, "m.py", options=Options("m.py"))
    assert len(result.diagnostics) == 2_000
