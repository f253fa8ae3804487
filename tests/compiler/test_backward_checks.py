"""VJP301 to VJP304: what backward rules do, and what looks like it but does no harm."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from vjpgen.compiler import Options, compile_source

HEAD = "import flax.linen as nn\nimport jax\nimport jax.numpy as jnp\nimport numpy as np\n"
SETUP = """
def setup(self):
    self.kernel = self.param("kernel", nn.initializers.ones, ())
    self.dense = nn.Dense(3)

def scaled(self, x):
    return self.kernel * x

def twice(self, x):
    return self.scaled(2 * x)

def plain(self, x):
    return self.features * x
"""


def found(text: str) -> list[tuple[str, str]]:
    """Each finding's code, and what it underlines."""
    result = compile_source(text.encode(), "m.py", options=Options("m.py"))
    lines = text.splitlines()
    marks = []
    for finding in result.diagnostics:
        span = finding.span
        assert span.row == span.end_row
        mark = lines[span.row - 1][span.column - 1 : span.end_column - 1]
        marks.append((finding.code, mark))
        assert finding.help
    return marks


def codes(text: str) -> list[str]:
    return [code for code, _ in found(text)]


def nested(use: str, before: str = "", body: str = "", base: str = "nn.Module") -> str:
    """A rule nested in a method, whose `bwd` evaluates `use`."""
    compact = "" if body else "@nn.compact\n    "
    return f"""{HEAD}
class M({base}):
    features: int = 3
    act: object = jnp.tanh
{indent(dedent(body), "    ")}
    {compact}def __call__(self, x):
{indent(dedent(before), " " * 8)}
        def bwd(vjp_fn, y_t):
            extra = {use}
            return vjp_fn(y_t * extra)

        # custom-vjp: bwd=bwd
        def f(mdl, x):
            return mdl.dense(x)

        return f(self, x)
"""


def method(use: str, decorator: str = "") -> str:
    """A rule that is a method, whose `bwd` evaluates `use`."""
    return f"""{HEAD}
class M(nn.Module):
    features: int = 3
    {decorator}
    def bwd(self, vjp_fn, y_t):
        extra = {use}
        return vjp_fn(y_t * extra)

    # custom-vjp: bwd=bwd
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)
"""


def rule(bwd: str, fwd: str = "", keys: str = "", signature: str = "x, y") -> str:
    """A rule on a function of two arrays."""
    named = "fwd=fwd, " if fwd else ""
    text = f"# custom-vjp: {named}bwd=bwd{keys}\ndef f({signature}):\n    return x * y\n"
    return f"{HEAD}\n{dedent(fwd)}\n{dedent(bwd)}\n{text}"


CAPTURED = {
    "get_variable": (nested("self.get_variable('params', 'k')"), "self.get_variable"),
    "variables": (nested("self.variables['params']['k']"), "self.variables"),
    "param": (nested("self.param('k', nn.initializers.ones, ())"), "self.param"),
    "variable": (nested("self.variable('s', 'k', int).value"), "self.variable"),
    "make_rng": (nested("self.make_rng('dropout')"), "self.make_rng"),
    "called": (nested("self(y_t)"), "self"),
    "lifted": (nested("nn.vjp(f, self, y_t)[0]"), "self"),
    "in a lambda": (nested("jax.tree.map(lambda t: self.make_rng('a'), y_t)"), "self.make_rng"),
    "setup's parameter": (nested("self.kernel", body=SETUP), "self.kernel"),
    "setup's layer": (nested("self.dense(y_t)", body=SETUP), "self.dense"),
    "method": (nested("self.scaled(1)", body=SETUP), "self.scaled"),
    "method of a method": (nested("self.twice(1)", body=SETUP), "self.twice"),
    "a layer made outside": (nested("d(y_t)", "d = nn.Dense(3)\n"), "d"),
    "setup's layer by a name": (nested("d(y_t)", "d = self.dense\n", SETUP), "d"),
    "a layer's variables": (nested("d.variables", "d = nn.Dense(3)\n"), "d.variables"),
    "a variable": (nested("v.value", "v = self.variable('s', 'n', int)\n"), "v"),
    "a helper": (
        nested("g(y_t)", "def g(t):\n    return self.get_variable('params', 'k') * t\n"),
        "g",
    ),
    "an unknown base": (nested("self.make_rng('a')", base="Base", body=SETUP), "self.make_rng"),
    "an annotated parameter": (
        HEAD
        + "def outer(m: nn.Module, x):\n    # custom-vjp: bwd=b\n    def f(x):\n        return x\n"
        "    def b(vjp_fn, t):\n        return vjp_fn(t * m.get_variable('a', 'b'))\n"
        "    return f(x)\n",
        "m.get_variable",
    ),
}


@pytest.mark.parametrize(("text", "mark"), CAPTURED.values(), ids=CAPTURED)
def test_a_scope_of_the_enclosing_function_in_bwd(text: str, mark: str) -> None:
    assert found(text) == [("VJP301", mark)]


INSTEAD = {
    "a key": (nested("self.make_rng('a')"), "draw the key in `fwd`"),
    "a variable": (
        nested("v.value", "v = self.variable('s', 'n', int)\n"),
        "read `v.value` outside of the rule",
    ),
    "a variable written": (
        nested("v", "v = self.variable('s', 'n', int)\n").replace("extra = v", "v.value = 3"),
        "do that in `fwd`",
    ),
}


@pytest.mark.parametrize(("text", "help_"), INSTEAD.values(), ids=INSTEAD)
def test_where_a_snapshot_would_not_do_another_mend_is_named(text: str, help_: str) -> None:
    (finding,) = compile_source(text.encode(), "m.py", options=Options("m.py")).diagnostics
    assert finding.code == "VJP301"
    assert help_ in (finding.help or "")
    assert "snapshot" not in (finding.help or "")


def test_each_module_is_reported_once() -> None:
    use = "self.kernel + self.make_rng('a') + d(y_t)"
    text = nested(use, "d = nn.Dense(3)\n", SETUP)
    assert found(text) == [("VJP301", "self.kernel"), ("VJP301", "d")]


def test_a_lambda_in_the_annotation_is_reported_there() -> None:
    text = nested("1").replace("bwd=bwd", "bwd=lambda r, t: r(t * self.kernel('a'))")
    text = text.replace("self.kernel", "self.make_rng")
    assert found(text) == [("VJP301", "lambda r, t: r(t * self.make_rng('a'))")]


def test_the_mend_is_named() -> None:
    text = nested("self.get_variable('params', 'k')")
    (finding,) = compile_source(text.encode(), "m.py", options=Options("m.py")).diagnostics
    assert "a method of `M`" in (finding.help or "")
    assert "vjpgen.snapshot(self)" in (finding.help or "")


NOT_CAPTURED = {
    "a field": nested("self.features"),
    "a callable field": nested("self.act(y_t)"),
    "a method that needs no scope": nested("self.plain(1)", body=SETUP),
    "a field of a layer": nested("d.features", "d = nn.Dense(3)\n"),
    "a snapshot": nested("s.module().get_variable('params', 'k')", "s = vjpgen.snapshot(self)\n"),
    "a parameter's value": nested("k", "k = self.param('k', nn.initializers.ones, ())\n"),
    "passed to a function": nested("g(self)", "def g(m):\n    return m.features\n"),
    "shadowed": nested("[self.param for self in ()]"),
    "shadowed in a lambda": nested("(lambda self: self.param)(1)"),
    "bound again": nested("d(y_t)", "d = nn.Dense(3)\nd = jnp.sin\n"),
    "apply": nested("d.apply({}, y_t)", "d = nn.Dense(3)\n"),
    "a function": nested("d(y_t)", "d = nn.relu\n"),
    "a field named as a method": nested("self.param", body="param: int = 1\n"),
    "an unknown base's own": nested("self.param(1)", base="Base", body=SETUP),
    "no module": nested("self.param(1)", base="object", body="def f(self): ...\n"),
    "its own argument": rule("def bwd(r, t):\n    return r.get_variable(t), r.param"),
    "a parameter of another": HEAD
    + "def outer(m, x):\n    # custom-vjp: bwd=b\n    def f(x):\n        return x\n"
    "    def b(vjp_fn, t):\n        return vjp_fn(t * m.param('a'))\n    return f(x)\n",
}


@pytest.mark.parametrize("text", NOT_CAPTURED.values(), ids=NOT_CAPTURED)
def test_what_needs_no_scope(text: str) -> None:
    assert found(text) == []


EFFECTS = {
    "param": (method("self.param('k', nn.initializers.ones, ())"), "self.param"),
    "variable": (method("self.variable('s', 'k', int)"), "self.variable"),
    "sow": (method("self.sow('i', 'k', y_t)"), "self.sow"),
    "perturb": (method("self.perturb('k', y_t)"), "self.perturb"),
    "make_rng": (method("self.make_rng('a')"), "self.make_rng"),
    "put_variable": (method("self.put_variable('s', 'k', 1)"), "self.put_variable"),
    "rngs in a compact method": (method("self.make_rng('a')", "@nn.compact"), "self.make_rng"),
    "in an inner function": (method("(lambda: self.make_rng('a'))()"), "self.make_rng"),
    "a new layer": (method("nn.Dense(3)(y_t)"), "nn.Dense(3)(y_t)"),
    "a new layer in a nested rule": (nested("nn.Dense(3)(y_t)"), "nn.Dense(3)(y_t)"),
    "a new layer by a name": (
        rule("def bwd(r, t):\n    d = nn.Dense(3)\n    return d(t), t"),
        "d(t)",
    ),
    "a new layer of this file": (
        rule("def bwd(r, t):\n    return L()(t), t")
        + "class L(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n        return x\n",
        "L()(t)",
    ),
    "a snapshot's module": (
        rule("def bwd(r, t):\n    m = r.module()\n    return m.sow('a', 'b', t), t"),
        "m.sow",
    ),
}


@pytest.mark.parametrize(("text", "mark"), EFFECTS.values(), ids=EFFECTS)
def test_effects_in_bwd(text: str, mark: str) -> None:
    assert found(text) == [("VJP303", mark)]


NO_EFFECTS = {
    "get_variable": method("self.get_variable('params', 'k')"),
    "has_variable": method("self.has_variable('params', 'k')"),
    "variables": method("self.variables['params']"),
    "the primal": method("self(y_t)"),
    "a parameter in a compact rule": method("self.param('k', int, ())", "@nn.compact"),
    "a layer in a compact rule": method("nn.Dense(3, name='Dense_0')(y_t)", "@nn.compact"),
    "apply": rule("def bwd(r, t):\n    return nn.Dense(3).apply(r, t), t"),
    "a layer in an inner function": rule(
        "def bwd(r, t):\n    return nn.apply(lambda m, x: nn.Dense(3)(x), r)({}, t), t"
    ),
    "a layer with a parent": rule("def bwd(r, t):\n    return nn.Dense(3, parent=r)(t), t"),
    "no layer": rule("def bwd(r, t):\n    return nn.initializers.ones(3)(t), t"),
    "another's method": rule("def bwd(r, t):\n    m = make()\n    return m.sow(t), t.param()"),
    "in fwd": rule(
        "def bwd(r, t):\n    return r(t)", "def fwd(m, x):\n    return m.make_rng('a'), x\n"
    ),
}


@pytest.mark.parametrize("text", NO_EFFECTS.values(), ids=NO_EFFECTS)
def test_reading_is_no_effect(text: str) -> None:
    assert found(text) == []


FWD = "def fwd(x, y):\n    return x * y, (x, y)\n"
RESIDUALS = {
    "unpacked": (rule("def bwd(res, t):\n    x, y = res\n    return x * t, t"), ["y"]),
    "in brackets": (rule("def bwd(res, t):\n    [x, (y, z)] = res\n    return x, t"), ["y", "z"]),
    "underscore": (rule("def bwd(res, t):\n    x, _ = res\n    return x * t, t", FWD), ["_"]),
    "deleted": (
        rule("def bwd(res, t):\n    x, y = res\n    del y\n    return x * t, t", FWD),
        ["y"],
    ),
    "by number": (rule("def bwd(res, t):\n    return res[1] * t, t", FWD), ["res"]),
    "by negative number": (rule("def bwd(res, t):\n    return res[-1] * t, t", FWD), ["res"]),
    "not at all": (rule("def bwd(res, t):\n    return t, t", FWD), ["res"]),
    "not at all, and said": (rule("def bwd(_, t):\n    return t, t", FWD), ["_"]),
    "by a name in fwd": (
        rule(
            "def bwd(res, t):\n    _, y = res\n    return y, t",
            "def fwd(x, y):\n    kept = (x, y)\n    return x * y, kept\n",
        ),
        ["_"],
    ),
    "after nondiff arguments": (
        rule("def bwd(y, r, t):\n    a, b = r\n    return (a * t,)", "", ", nondiff_argnums=1"),
        ["b"],
    ),
    "of a method": (
        method("1").replace("return vjp_fn(y_t * extra)", "a, b = vjp_fn\n        return a, extra"),
        ["b"],
    ),
}


@pytest.mark.parametrize(("text", "marks"), RESIDUALS.values(), ids=RESIDUALS)
def test_residuals_that_are_never_used(text: str, marks: list[str]) -> None:
    assert found(text) == [("VJP302", mark) for mark in marks]


def test_a_lambdas_residual_is_reported_at_the_annotation() -> None:
    text = rule("", FWD).replace("bwd=bwd", "bwd=lambda res, t: (t, t)")
    assert found(text) == [("VJP302", "lambda res, t: (t, t)")]


def test_the_residual_is_named_as_fwd_has_it() -> None:
    text = rule("def bwd(res, t):\n    x, _ = res\n    return x * t, t", FWD)
    (finding,) = compile_source(text.encode(), "m.py", options=Options("m.py")).diagnostics
    assert finding.message == "`bwd` never uses the residual `y`"
    assert not finding.is_error


USED = {
    "all": rule("def bwd(res, t):\n    x, y = res\n    return x * t, y", FWD),
    "in an inner function": rule(
        "def bwd(res, t):\n    x, y = res\n    return jax.vmap(lambda a: a * y)(t), x"
    ),
    "as a whole": rule("def bwd(res, t):\n    return jax.tree.map(f, res)", FWD),
    "starred": rule("def bwd(res, t):\n    x, *rest = res\n    return x, *rest"),
    "an underscore that fwd does not show": rule(
        "def bwd(res, t):\n    x, _ = res\n    return x * t, t"
    ),
    "the vjp function": rule("def bwd(vjp_fn, t):\n    return t, t"),
    "no residuals": rule(
        "def bwd(_, t):\n    return t, t", "def fwd(x, y):\n    return x * y, None\n"
    ),
    "an empty tuple": rule(
        "def bwd(res, t):\n    return t, t", "def fwd(x, y):\n    return x * y, ()\n"
    ),
    "a place without memory": rule(
        "def bwd(res, t):\n    x, _ = res\n    return x * t, t",
        "def fwd(x, y):\n    return x * y, (x, None)\n",
    ),
    "several returns": rule(
        "def bwd(res, t):\n    return t, t",
        "def fwd(x, y):\n    if x is None:\n        return y, None\n    return x * y, y\n",
    ),
    "a shared fwd": rule("def bwd(res, t):\n    x, _ = res\n    return x * t, t", FWD)
    + "\n\ndef other(res, t):\n    x, y = res\n    return x, y\n\n\n"
    + "# custom-vjp: fwd=fwd, bwd=other\ndef g(x, y):\n    return x * y\n",
    "locals": rule("def bwd(res, t):\n    x, y = res\n    return g(**locals())"),
    "unpacked twice": rule(
        "def bwd(res, t):\n    if t is None:\n        x, y = res\n        return x, x\n"
        "    return res[1], t",
        FWD,
    ),
    "bound again": rule("def bwd(res, t):\n    x, y = res\n    y = x\n    return x, t"),
    "numbered by a name": rule("def bwd(res, t):\n    return res[t], t", FWD),
    "sliced": rule("def bwd(res, t):\n    return res[:1], t", FWD),
    "decorated": rule("@wrap\ndef bwd(res, t):\n    x, y = res\n    return x, t"),
    "too many arguments": rule("def bwd(*args):\n    return args"),
}


@pytest.mark.parametrize("text", USED.values(), ids=USED)
def test_residuals_that_may_be_used(text: str) -> None:
    assert found(text) == []


FIXED = {
    "jnp.ones(t.shape)": "jnp.ones(t.shape)",
    "jnp.zeros((3,))": "jnp.zeros((3,))",
    "jnp.full(t.shape, 0.0)": "jnp.full(t.shape, 0.0)",
    "jnp.array(1.0)": "jnp.array(1.0)",
    "jnp.asarray([1.0, -2])": "jnp.asarray([1.0, -2])",
    "np.ones(3) * t": "np.ones(3)",
    "-(t + jnp.eye(3))": "jnp.eye(3)",
    "jnp.ones(3, jnp.float32)": "jnp.ones(3, jnp.float32)",
    "jnp.ones(3, dtype='float32')": "jnp.ones(3, dtype='float32')",
    "jnp.zeros(3, dtype=float)": "jnp.zeros(3, dtype=float)",
    "jnp.zeros(3).at[0].add(t)": "jnp.zeros(3)",
    "jnp.where(t > 0, t, jnp.zeros(3))": "jnp.zeros(3)",
    "np.sqrt(2.0) * t": "np.sqrt(2.0)",
    "np.float32(2) * t": "np.float32(2)",
    "1.0": "1.0",
    "-1.0": "-1.0",
    "{'a': 2.0}": "2.0",
    "t if r else 0.5": "0.5",
    "jnp.ones(3)[0]": "jnp.ones(3)",
}


@pytest.mark.parametrize(("value", "mark"), FIXED.items())
def test_a_tangent_of_a_fixed_dtype(value: str, mark: str) -> None:
    assert found(rule(f"def bwd(r, t):\n    return {value}, t")) == [("VJP304", mark)]
    by_name = f"def bwd(r, t):\n    x_t = {value}\n    return x_t * 1, t"
    if mark not in value or "jnp." in mark:
        assert found(rule(by_name)) == [("VJP304", mark)]


FREE = [
    *("2.0 * t", "t / 3.0", "jnp.ones_like(t)", "jnp.zeros(3, t.dtype)", "None", "0"),
    *("jnp.full(3, t)", "jnp.array(t)", "jnp.full_like(t, 1.0)", "jnp.where(t > 0, t, 0.0)"),
    *("jnp.zeros(3, dtype=r.dtype)", "jnp.zeros(3).astype(t.dtype)", "jnp.zeros(*t)"),
    *("np.zeros((), jax.dtypes.float0)", "np.zeros((), dtype=jax.dtypes.float0)", "g(1.0)"),
    *("jnp.zeros(3, **r)", "jnp.sum(t * 2.0)", "jnp.dot(t, jnp.ones(3))", "other.ones(3)"),
]


@pytest.mark.parametrize("value", FREE)
def test_a_tangent_that_follows_its_primal(value: str) -> None:
    assert found(rule(f"def bwd(r, t):\n    return {value}, t")) == []
