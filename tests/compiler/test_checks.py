"""Every finding of the compiler: sources that have it, and look-alikes that have none."""

from __future__ import annotations

import pickle
from textwrap import dedent

import pytest

from vjpgen.compiler import Options, Result, compile_source
from vjpgen.diagnostics import Span
from vjpgen.diagnostics.catalogue import CATALOGUE

BWD = "def b(vjp_fn, y_t):\n    return vjp_fn(y_t)\n\n\n"


def compile_text(text: str, **options: str) -> Result:
    return compile_source(text.encode(), "m.py", options=Options(origin="m.py", **options))


def codes(text: str) -> list[str]:
    return [finding.code for finding in compile_text(text).diagnostics]


def annotated(keys: str, signature: str = "def f(x, y):", rules: str = BWD) -> str:
    return f"{rules}# custom-vjp: {keys}\n{signature}\n    return x\n"


@pytest.mark.parametrize("code", [c for c in CATALOGUE if c[3] in "0123" and c != "VJP009"])
def test_the_catalogues_examples(code: str) -> None:
    entry = CATALOGUE[code]
    assert codes(entry.bad) == [code]
    assert codes(entry.good) == []


ANNOTATION = [
    ("VJP001", annotated("bwd=b b")),
    ("VJP001", annotated("b")),
    ("VJP001", annotated("**b")),
    ("VJP001", annotated("bwd=b) + f(")),
    ("VJP001", annotated("bwd=b)(x")),
    ("VJP001", annotated("bwd = ")),
    ("VJP002", annotated("bwd=b, nondiff_argnum=0")),
    ("VJP002", annotated("bwdd=b")),
    ("VJP003", annotated("bwd=b, bwd=b")),
    ("VJP004", annotated("bwd=b").replace("# custom-vjp:", "#custom-vjp:")),
    ("VJP004", annotated("bwd=b").replace("# custom-vjp:", "# custom-vjp ")),
    ("VJP004", annotated("bwd=b").replace("# custom-vjp:", "# Custom_VJP:")),
    ("VJP004", annotated("bwd=b").replace("# custom-vjp:", "## custom-vjp:")),
    ("VJP004", annotated("bwd=b", "def f(x):  # noqa: E1  # custom-vjp: bwd=b")),
    ("VJP004", annotated("bwd=b") + "# custom-vpj: bwd=b\n"),
    ("VJP004", annotated("bwd=b") + "# custom_jvp: fwd=f, bwd=b\n"),
    ("VJP004", BWD + "# Custom-VJP: bwd=b\n"),
    ("VJP004", BWD + "# custom-vjp; bwd=b\n"),
    ("VJP004", BWD + "# Custom-vjp= bwd=b\n"),
    ("VJP004", BWD + "# custom-vjp(bwd=b)\n"),
    ("VJP005", BWD + "# custom-vjp: bwd=b\nclass A:\n    pass\n"),
    ("VJP005", BWD + "# custom-vjp: bwd=b\nx = 1\n"),
    ("VJP005", BWD + "# custom-vjp: bwd=b\n"),
    ("VJP005", BWD + "def f(x):\n    return x  # custom-vjp: bwd=b\n"),
    ("VJP005", BWD + "def f(x):\n    return x\n    # custom-vjp: bwd=b\n\ndef g(x):\n    pass\n"),
    ("VJP005", BWD + "@jax.jit  # custom-vjp: bwd=b\ndef f(x):\n    return x\n"),
    ("VJP006", annotated("")),
    ("VJP006", annotated("missing=zero")),
    ("VJP007", annotated("bwd='b'")),
    ("VJP007", annotated("bwd=3")),
    ("VJP007", annotated("bwd=b, nondiff_argnums='y'")),
    ("VJP007", annotated("bwd=b, nondiff_argnums=True")),
    ("VJP007", annotated("bwd=b, nondiff_argnames=1")),
    ("VJP007", annotated("bwd=b, grad_vars=1")),
    ("VJP007", annotated("bwd=b, grad_vars={'a': 1}")),
    ("VJP007", annotated("bwd=b, grad_vars=params.kernel")),
    ("VJP007", annotated("bwd=b, grad_vars=DenyList('params')")),
    ("VJP007", annotated("bwd=b, symbolic_zeros=1")),
    ("VJP007", annotated("bwd=b, exact=False")),
    ("VJP007", annotated("bwd=b, surrogate=x + 1")),
    ("VJP007", annotated("bwd=b, target=torch")),
    ("VJP007", annotated("bwd=f((yield))")),
    ("VJP007", annotated("bwd=lambda x, x: 1")),
    ("VJP007", annotated("bwd=b, grad_vars=f((yield 1))")),
    ("VJP007", annotated("bwd=b, nondiff_argnums=0x" + "f" * 5000)),
    ("VJP008", annotated("bwd=b") + "def\n"),
    ("VJP008", annotated("bwd=b") + "return 1\n"),
    ("VJP008", annotated("bwd=c") + "return 1\n"),
    ("VJP008", annotated("bwd=lambda r, t: (t,)") + "break\n"),
    ("VJP008", annotated("bwd=b", "def f(x, x):", "def b(r, t):\n    return (t,)\n\n\n")),
    ("VJP008", annotated("bwd=b") + "\0"),
    ("VJP008", "# coding: nonsense\n" + annotated("bwd=b")),
]

NAMES = [
    ("VJP101", annotated("bwd=c")),
    ("VJP101", annotated("bwd=c.d")),
    ("VJP101", annotated("bwd=partial(b, 2)")),
    ("VJP101", annotated("bwd=b, example=missing_one")),
    ("VJP101", "class Rules:\n    def a(r, t): ...\n\n\n" + annotated("bwd=Rules.b")),
    (
        "VJP101",
        "def g():\n    def b(r, t):\n        return r(t)\n\n\n" + annotated("bwd=b", rules=""),
    ),
    (
        "VJP101",
        "class A:\n    def b(r, t): ...\n    def m(self):\n"
        "        # custom-vjp: bwd=b\n        def f(x):\n            return x\n",
    ),
    (
        "VJP101",
        "import functools\nclass A:\n    # custom-vjp: bwd=functools.partial(b, 1)\n"
        "    def f(self):\n        return 1\n    def b(a, r, t): ...\n",
    ),
    ("VJP101", "class R:\n    a = 1\n\n\nR().a\n" + annotated("bwd=R.b")),
    (
        "VJP101",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rules import b\n\n\n"
        + annotated("bwd=b", rules=""),
    ),
    ("VJP102", "import b\n" + annotated("bwd=b", rules="")),
    ("VJP102", "b = (1, 2)\n" + annotated("bwd=b", rules="")),
    ("VJP102", "async def b(r, t): ...\n" + annotated("bwd=b", rules="")),
    ("VJP102", "def b(r, t):\n    yield r\n" + annotated("bwd=b", rules="")),
    (
        "VJP103",
        "import jax\ndef g(x):\n    # custom-vjp: bwd=b\n    def f(x):\n        return x\n"
        "    y = jax.grad(f)(x)\n    b = x.b\n    return y\n",
    ),
]

RULES = [
    ("VJP201", annotated("fwd=w, bwd=b", rules=BWD + "def w(x): return x, x\n\n\n")),
    ("VJP201", annotated("fwd=w, bwd=b", rules=BWD + "def w(x, y, z): return x, x\n\n\n")),
    ("VJP201", annotated("fwd=w, bwd=b", rules=BWD + "def w(x, y, *, k): return x, x\n\n\n")),
    ("VJP201", annotated("fwd=lambda x: (x, x), bwd=b")),
    ("VJP201", annotated("fwd=w, bwd=b", "def f(x, *, k):", BWD + "def w(x): return x, x\n\n\n")),
    ("VJP202", annotated("bwd=lambda y_t: y_t")),
    ("VJP202", annotated("bwd=b", rules="@jax.jit\ndef b(t):\n    return t\n\n\n")),
    ("VJP202", annotated("bwd=b, nondiff_argnums=1")),
    ("VJP202", annotated("bwd=b", rules="def b(r, t, *, k): ...\n")),
    (
        "VJP202",
        "class A:\n    def b(r, t):\n        return t\n    # custom-vjp: bwd=b\n"
        "    def f(self, x):\n        return x\n",
    ),
    ("VJP203", annotated("bwd=b", rules="def b(r, t):\n    return (t,)\n\n\n")),
    ("VJP203", annotated("bwd=b", rules="def b(r, t):\n    return (t, t) if t else (t,)\n\n\n")),
    ("VJP203", annotated("bwd=lambda r, t: (t, t, t)")),
    ("VJP203", annotated("bwd=b", rules="def b(r, t):\n    return [t]\n\n\n")),
    ("VJP203", annotated("bwd=b", rules="def b(r, t):\n    return {'x': t}\n\n\n")),
    ("VJP203", annotated("bwd=b", rules="def b(r, t):\n    r(t)\n\n\n")),
    ("VJP203", annotated("bwd=b", rules="def b(r, t):\n    return None\n\n\n")),
    ("VJP203", annotated("bwd=b", rules="def b(r, t):\n    x_t = r(t)\n\n\n")),
    ("VJP203", annotated("bwd=b", rules="def b(r, t):\n    u = 2 * t\n    tuple(u)\n\n\n")),
    ("VJP203", annotated("bwd=lambda y, r, t: (t, t), nondiff_argnames=y")),
    ("VJP204", annotated("fwd=lambda x, y: (x,), bwd=b")),
    ("VJP204", annotated("fwd=w, bwd=b", rules=BWD + "def w(x, y):\n    f(x, y)\n\n\n")),
    ("VJP204", annotated("fwd=w, bwd=b", rules=BWD + "def w(x, y):\n    return None\n\n\n")),
    ("VJP205", annotated("bwd=b, nondiff_argnums=2")),
    ("VJP205", annotated("bwd=b, nondiff_argnums=-1")),
    ("VJP205", annotated("bwd=b, nondiff_argnums=(1, 1)")),
    ("VJP205", annotated("bwd=b, nondiff_argnums=1, nondiff_argnames=y")),
    (
        "VJP205",
        "import flax.linen as nn\n" + annotated("bwd=b, nondiff_argnums=0", "def f(x: nn.Module):"),
    ),
    ("VJP206", annotated("bwd=b", "async def f(x):")),
    ("VJP206", annotated("bwd=b", "def f(x):\n    yield x")),
    ("VJP206", BWD + "# custom-vjp: bwd=b\nf = lambda x: x\n"),
    ("VJP206", annotated("bwd=b", "@overload\ndef f(x):")),
    ("VJP206", annotated("bwd=b, target=nnx")),
    (
        "VJP206",
        BWD
        + "class A:\n    # custom-vjp: bwd=b\n    @property\n    def f(self):\n        return 1\n",
    ),
    (
        "VJP206",
        BWD
        + "class A:\n    # custom-vjp: bwd=b\n    @classmethod\n    def f(c):\n        return 1\n",
    ),
    (
        "VJP206",
        "from flax import nnx\n" + BWD + "class A(nnx.Module):\n"
        "    # custom-vjp: bwd=b\n    def __call__(self, x):\n        return x\n",
    ),
    (
        "VJP207",
        annotated("bwd=b", "from jax import custom_jvp as c\n@c\ndef f(x):").replace(
            "# custom-vjp: bwd=b\nfrom jax import custom_jvp as c\n",
            "from jax import custom_jvp as c\n# custom-vjp: bwd=b\n",
        ),
    ),
    ("VJP207", annotated("bwd=b", "@partial(jax.custom_vjp, nondiff_argnums=())\ndef f(x):")),
    ("VJP207", "import jax\n" + annotated("bwd=b") + "f = jax.custom_vjp(f)\n"),
    (
        "VJP207",
        annotated("bwd=b", "# custom-vjp: bwd=b\n\n# custom-vjp: bwd=b\ndef f(x):")
        .replace("\n\n# custom", "\n@jit\n# custom", 2)
        .replace("@jit\n# custom-vjp: bwd=b\n# custom-vjp: bwd=b", "# custom-vjp: bwd=b"),
    ),
]


@pytest.mark.parametrize(("code", "text"), [*ANNOTATION, *NAMES, *RULES])
def test_a_bad_source_has_its_finding_and_no_output(code: str, text: str) -> None:
    result = compile_text(text)
    assert [finding.code for finding in result.diagnostics] == [code]
    assert result.output is None or not result.diagnostics[0].is_error


HELP = [
    ("did you mean `missing`?", annotated("bwd=b, mising=zero")),
    ("did you mean `bwd`?", annotated("backward_fn=b")),
    ("did you mean `fwd`?", annotated("bwd=b, forward=b")),
    ("did you mean `autodiff`?", annotated("bwd=b, missing=autodif")),
    ("did you mean `zero`?", annotated("bwd=b, missing='Zero'")),
    ("write `error`, `zero` or `autodiff`", annotated("bwd=b, missing=maybe")),
    ("did you mean `function`?", annotated("bwd=b, target=functions")),
    ("did you mean `True`?", annotated("bwd=b, symbolic_zeros=true")),
    ("did you mean `rule`?", annotated("bwd=rul", rules=BWD.replace("def b", "def rule"))),
    ("did you mean `train`?", annotated("bwd=b, nondiff_argnames=trian", "def f(x, train):")),
    ("did you mean `R.rule`?", annotated("bwd=R.rul", rules="class R:\n    def rule(r, t): ...\n")),
    (
        "write `bwd=b`: by its plain name",
        "class A:\n    def b(self, r, t):\n        return t, t\n\n"
        "    # custom-vjp: bwd=A.b\n    def f(self, x):\n        return x\n",
    ),
    (
        "outside of `if TYPE_CHECKING:`",
        "import typing as t\nif t.TYPE_CHECKING:\n    from rules import b\n\n\n"
        + annotated("bwd=b.c", rules=""),
    ),
    (
        "if `Base` has it, write `rule = Base.rule` in the class body",
        "from flax import linen as nn\nfrom bases import Base\nclass M(nn.Module, Base):\n"
        "    # custom-vjp: bwd=rule\n    def __call__(self, x):\n        return x\n",
    ),
    (
        "method that calls `self.rule`",
        "import flax.linen as nn\nclass M(nn.Module):\n    rule: object\n\n"
        "    # custom-vjp: bwd=rule\n    def __call__(self, x):\n        return x\n",
    ),
    (
        "a method that computes arrays",
        "import flax.linen as nn\nclass M(nn.Module):\n    def b(self, r, t): ...\n\n"
        "    # custom-vjp: bwd=b\n    def setup(self):\n        self.x = 1\n",
    ),
    (
        "a method that computes arrays",
        "class M:\n    def b(self, r, t): ...\n\n"
        "    # custom-vjp: bwd=b\n    def __init__(self, x):\n        self.x = 1\n",
    ),
]


@pytest.mark.parametrize(("help_", "text"), HELP)
def test_a_finding_says_what_to_write(help_: str, text: str) -> None:
    (found,) = compile_text(text).diagnostics
    assert help_ in (found.help or "")


MESSAGE = [
    ("does not parse: a key is a plain name", annotated("'bwd'=b")),
    ("does not parse: unterminated string literal", annotated("bwd='b")),
    ("`b` is a tuple, not a function", "b = (1, 2)\n" + annotated("bwd=b", rules="")),
    ("returns 1 tangent, but `f` has no slots", annotated("bwd=lambda r, t: (t,)", "def f():")),
    ("decorated with `jax.custom_vjp`", annotated("bwd=b", "@partial(jax.custom_vjp)\ndef f(x):")),
]


@pytest.mark.parametrize(("message", "text"), MESSAGE)
def test_a_finding_says_what_is_wrong(message: str, text: str) -> None:
    (found,) = compile_text(text).diagnostics
    assert found.message.endswith(message)


NNX = {
    "nested": "from flax import nnx\nclass A(nnx.Module):\n    def __call__(self, x):\n"
    "        # custom-vjp: bwd=b\n        def f(m, x):\n            return x\n"
    "        return f(self, x)\n",
    "lifted": "from flax import nnx\ndef w(m, x):\n    return nnx.vjp(f, m, x)\n"
    + annotated("fwd=w, bwd=b", "def f(m, x):", ""),
}


@pytest.mark.parametrize("text", NNX.values(), ids=NNX)
def test_functions_on_nnx_modules_are_refused_where_the_source_shows_them(text: str) -> None:
    assert codes(BWD + text) == ["VJP206"]


FINE = {
    "a method called setup": BWD
    + "class A:\n    # custom-vjp: bwd=b\n    def setup(self, x):\n        return x\n",
    "a second hash ends the annotation": annotated("bwd=b  # bwd=c, )("),
    "a hash in a string": annotated("bwd=b, exact='x#'"),
    "prose": annotated("bwd=b")
    + "# custom_vjp is used here, custom vjp = nice\n# custom-vjp rules\n"
    + "# custom-jvp: see below\n# custom_jvp: x = 1\n"
    + "# custom_vjp_rules=False\n# custom_vjp = partial(custom_vjp, a=1)\n# custom_vjp == 1\n",
    "in a string": annotated("bwd=b") + "'''\n# custom-vjp: nonsense\n'''\n",
    "a comment that shows one": annotated("bwd=b") + "#     # custom-vjp: bwd=c\n",
    "defined later": annotated("bwd=b", rules="") + BWD,
    "star import": "from rules import *\n" + annotated("bwd=anything", rules=""),
    "star import in if": "if 1:\n    from rules import *\n" + annotated("bwd=c", rules=""),
    "bound by global": annotated("bwd=c") + "def g():\n    global c\n    c = b\n",
    "bound by globals()": annotated("bwd=c") + "globals()['c'] = b\n",
    "builtin": annotated("bwd=max"),
    "imported for all": "if TYPE_CHECKING:\n    from rules import b\nelse:\n"
    "    from rules import c as b\n" + annotated("bwd=b", rules=""),
    "imported at run time": "if not TYPE_CHECKING:\n    from rules import b\n"
    + annotated("bwd=b", rules=""),
    "a rule to be written yet": annotated("bwd=b", rules="def b(r, t): ...\n"),
    "a rule that subclasses write": "class A:\n    def b(self, r, t):\n        '''Theirs.'''\n"
    "    # custom-vjp: bwd=b\n    def f(self, x):\n        return x\n",
    "a rule that passes": annotated("bwd=b", rules="def b(r, t):\n    pass\n"),
    "a rule that may raise": annotated("bwd=b", rules="def b(r, t):\n    refuse('why')\n"),
    "a filter that is called": "from flax.core import DenyList\n"
    + annotated("bwd=b, grad_vars=DenyList(params)"),
    "imported": "import rules\n" + annotated("bwd=rules.b", rules=""),
    "attribute of an imported": "from rules import r\n" + annotated("bwd=r.b.c", rules=""),
    "bound by with": "with open('f') as b:\n    pass\n" + annotated("bwd=b", rules=""),
    "bound twice": "b = 1\nb = make()\n" + annotated("bwd=b", rules=""),
    "class with bases": "class R(Q): ...\n" + annotated("bwd=R.b", rules=""),
    "own class": "class R:\n    @staticmethod\n    def b(r, t):\n        return t\n"
    + annotated("bwd=R.b", rules=""),
    "comprehension": annotated("bwd=[b for b in (1, 2)][0]"),
    "lambda with defaults": annotated("bwd=lambda r, t, k=2: r(t)"),
    "fwd with stars": annotated(
        "fwd=w, bwd=b", rules=BWD + "def w(*a, **k):\n    return a, k\n\n\n"
    ),
    "decorated fwd": annotated("fwd=w, bwd=b", rules=BWD + "@d\ndef w(a):\n    return a\n\n\n"),
    "fwd returns a call": annotated(
        "fwd=w, bwd=b", rules=BWD + "def w(x, y):\n    return vjp(f, x, y)\n\n\n"
    ),
    "fwd returns stars": annotated("fwd=lambda x, y: (*x, *y), bwd=b"),
    "fwd only raises": annotated(
        "fwd=w, bwd=b", rules=BWD + "def w(x, y):\n    raise NotImplementedError\n\n\n"
    ),
    "fwd only asserts": annotated(
        "fwd=w, bwd=b", rules=BWD + "def w(x, y):\n    assert False\n\n\n"
    ),
    "keyword-only by name": annotated(
        "fwd=w, bwd=b", "def f(x, *, k=1):", BWD + "def w(x, k):\n    return x, k\n\n\n"
    ),
    "bwd of a function with *args": annotated("bwd=lambda r, t: (t, t, t)", "def f(x, *a):"),
    "bwd with **kwargs slot": annotated("bwd=lambda r, t: (t, {})", "def f(x, **k):"),
    "nondiff in *args": annotated("bwd=lambda n, r, t: (t, t), nondiff_argnums=3", "def f(x, *a):"),
    "nondiff in **kwargs": annotated("bwd=lambda *a: a, nondiff_argnames=z", "def f(x, **k):"),
    "bwd is a generator of tuples": annotated("bwd=lambda r, t: tuple(t for _ in range(2))"),
    "nested return": annotated(
        "bwd=b", rules="def b(r, t):\n    def g():\n        return (1,)\n    return r(t)\n\n\n"
    ),
    "used before, in a nested function": (
        "def g(x):\n    # custom-vjp: bwd=b\n    def f(x):\n        return x\n"
        "    def h(x):\n        return f(x)\n    def b(r, t):\n        return r(t)\n    return h\n"
    ),
    "passed on before": (
        "def g(x):\n    # custom-vjp: bwd=b\n    def f(x):\n        return x\n"
        "    h = jit(f)\n    def b(r, t):\n        return r(t)\n    return h(x)\n"
    ),
    "two of one name": "import jax\n@jax.custom_vjp\ndef f(x):\n    return x\n"
    + annotated("bwd=b"),
    "nnx state": "from flax import nnx\n" + annotated("bwd=b", "def f(x: nnx.State):"),
    "rebound by global": annotated("bwd=c", rules=BWD + "c = None\n")
    + "def g():\n    global c\n    c = b\n",
    "defined anew by global": annotated("bwd=c", rules=BWD + "def c():\n    raise ValueError\n")
    + "def g():\n    global c\n    def c(res, g):\n        return res(g)\n",
    "rebound by nonlocal": (
        "def g(x):\n    b = None\n    def h():\n        nonlocal b\n        b = max\n"
        "    # custom-vjp: bwd=b\n    def f(x):\n        return x\n    return h, f\n"
    ),
    "a comment between two lines": annotated("bwd=b", "# why\n# custom-vjp: exact=True\ndef f(x):"),
    "used and bound in one loop": (
        "def g(x):\n    # custom-vjp: bwd=b\n    def f(x):\n        return x\n"
        "    for i in x:\n        if i:\n            f(x)\n        b = x.b\n"
    ),
    "class attribute set from outside": annotated("bwd=R.c", rules="class R: ...\nR.c = max\n"),
    "class attribute set by setattr": annotated(
        "bwd=R.c", rules="class R: ...\nsetattr(R, 'c', max)\n"
    ),
    "class passed to a call": annotated("bwd=R.c", rules="class R: ...\nadd_rules(R)\n"),
    "class attribute set by the class": annotated(
        "bwd=R.c", rules="class R:\n    @classmethod\n    def m(cls):\n        cls.c = max\n"
    ),
    "a yield in a nested function": annotated("bwd=b", "def f(x):\n    def g():\n        yield 1"),
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_a_fine_source_has_no_finding(text: str) -> None:
    result = compile_text(text)
    assert [finding.message for finding in result.diagnostics] == []
    assert result.output is not None


def test_findings_underline_what_is_wrong() -> None:
    text = (
        BWD
        + "é = 1\n# custom-vjp: bwd=b,\n# custom-vjp:   missing='ü', nondif=(1,\n# custom-vjp: 2)\n"
    )
    found = compile_text(text + "def f(x):\n    return x\n").diagnostics
    lines = text.splitlines()
    marked = [lines[f.span.row - 1][f.span.column - 1 : f.span.end_column - 1] for f in found]
    assert [(f.code, mark) for f, mark in zip(found, marked, strict=True)] == [
        ("VJP007", "'ü'"),
        ("VJP002", "nondif"),
    ]


@pytest.mark.parametrize("keys", ["bwd=b)", "bwd=b, missing=", "bwd=b, ((", "bwd=b b"])
def test_what_does_not_parse_is_underlined_within_its_line(keys: str) -> None:
    text = annotated(keys)
    (found,) = compile_text(text).diagnostics
    line = text.splitlines()[found.span.row - 1]
    assert found.code == "VJP001"
    assert line[found.span.column - 1 : found.span.end_column - 1].strip()


@pytest.mark.parametrize(
    "text",
    ["x = (\n", "def f(:\n    pass\n", "a = 'é' + ü ü\n", "if x:\npass\n", "return\n", "\tx\n y"],
)
def test_a_syntax_error_is_reported_where_python_reports_it(text: str) -> None:
    text += "# custom-vjp: bwd=b\n"
    with pytest.raises(SyntaxError) as caught:
        compile(text.encode(), "m.py", "exec")
    (found,) = [one for one in compile_text(text).diagnostics if one.code == "VJP008"]
    assert (found.span.row, found.span.column) == (caught.value.lineno, caught.value.offset)
    assert str(caught.value.msg) in found.message


def test_deep_nesting_is_a_finding() -> None:
    for depth in (600, 3000, 20000):
        text = annotated("bwd=b") + "x = " + "+".join(["1"] * depth) + "\n"
        assert codes(text) in ([], ["VJP903"])
        assert codes(annotated("bwd=b") + "x = " + "(" * depth + ")" * depth + "\n") == ["VJP008"]


def test_what_libcst_would_lose_is_a_finding() -> None:
    assert codes(annotated("bwd=b") + "\f\nx = 1\n") in ([], ["VJP903"])
    assert codes(annotated("bwd=b") + "x = 1\ry = 2\n") in ([], ["VJP903"])


def test_one_bad_annotation_does_not_hide_another() -> None:
    text = annotated("bwd=c") + annotated("mising=zero", rules="") + annotated("bwd=b", rules="")
    result = compile_text(text)
    assert [finding.code for finding in result.diagnostics] == ["VJP101", "VJP002"]
    assert [rule.name for rule in result.rules] == ["f", "f", "f"]


def test_a_file_without_annotation_is_not_parsed() -> None:
    assert compile_text("def f(:\n") == Result()
    assert compile_text("'# custom-vjp: in a string'\n") == Result()


def test_rules_are_listed_with_their_keys() -> None:
    text = dedent(
        """
        import flax.linen as nn

        class M(nn.Module):
            # custom-vjp: bwd=b, missing='zero'  # why
            def __call__(self, x):
                return x

        # custom-vjp: bwd=lambda r, t: (t,)
        def f(x): return x
        """
    )
    first, second = compile_text(BWD + text).rules
    assert (first.name, first.target, first.keys) == (
        "M.__call__",
        "linen",
        {"bwd": "b", "missing": "'zero'"},
    )
    assert (second.name, second.target, second.keys) == (
        "f",
        "function",
        {"bwd": "lambda r, t: (t,)"},
    )


def test_a_function_on_modules_is_listed_as_linen() -> None:
    text = """
        import flax.linen as nn

        class M(nn.Module):
            def __call__(self, x):
                # custom-vjp: fwd=fwd, bwd=b
                def first(mdl, x):
                    return mdl(x)

                # custom-vjp: bwd=b
                def second(self, x):
                    return x

                # custom-vjp: bwd=b
                def third(x, y):
                    return x

                def fwd(mdl, x):
                    return nn.vjp(first, mdl, x)

                return first(nn.Dense(1), x) + second(self, x) + third(x, x)

        # custom-vjp: bwd=b
        def fourth(mdl: "M", x):
            return mdl(x)
        """
    rules = compile_text(BWD + dedent(text)).rules
    assert [rule.target for rule in rules] == ["linen", "linen", "function", "linen"]


def test_a_result_travels_between_processes() -> None:
    for text in (annotated("bwd=b"), annotated("bwd=c")):
        result = compile_text(text)
        assert pickle.loads(pickle.dumps(result)) == result


def test_the_configured_policy_stands_where_the_annotation_gives_none() -> None:
    text = annotated("bwd=b") + annotated("bwd=b, missing=error", rules="")
    output = compile_text(text, missing="zero").output
    assert output is not None
    assert output.count(b'missing="zero"') == output.count(b'missing="error"') == 1


def test_a_finding_elsewhere_knows_its_annotation() -> None:
    text = "# custom-vjp: bwd=b\n# custom-vjp: missing=zero\ndef f(x):\n    return x\n\n\n"
    (found,) = compile_text(text + "def b(vjp_fn, y_t):\n    return 1, 2, 3\n").diagnostics
    assert (found.code, found.span.row) == ("VJP203", 8)
    assert found.annotation == Span(1, 1, 2, 27)
