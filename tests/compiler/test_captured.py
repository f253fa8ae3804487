"""What a rule takes from the functions around it: found, written out, or left to the runtime."""

from __future__ import annotations

import re
from textwrap import dedent, indent

import pytest

from vjpgen.compiler import Options, compile_source

HEAD = "import functools\nimport flax.linen as nn\nimport jax\nimport jax.numpy as jnp\n\n"
RULE = """
    # custom-vjp: bwd=bwd
    def f(x):
        return x * scale
"""


def compiled(text: str) -> str:
    result = compile_source((HEAD + text).encode(), "m.py", options=Options("m.py"))
    assert result.output is not None, result.diagnostics
    return result.output.decode()


def captured(text: str) -> list[list[str]]:
    """The names that each lifted function is given, in the order of the file."""
    output = compiled(text)
    splits = re.findall(r"_vjp_split = _vjp\.split\((.*?)\)\n\n", output, re.DOTALL)
    found = [re.findall(r'"(\w+)": (\w+)', split) for split in splits]
    assert all(key == value for names in found for key, value in names)
    return [[key for key, _ in names] for names in found]


def outer(before: str = "", bwd: str = "vjp_fn(t)", rule: str = RULE, head: str = "scale") -> str:
    """A rule in a function `outer` whose statements `before` stand above it."""
    return (
        f"def outer({head}):\n{indent(dedent(before), '    ')}\n"
        f"    def bwd(vjp_fn, t):\n        return {bwd}\n{rule}\n    return f(1.0)\n"
    )


FOUND = {
    "a parameter": (outer(), ["scale"]),
    "by the backward rule": (outer("k = 2\n", "vjp_fn(t * k)"), ["scale", "k"]),
    "every kind of parameter": (
        outer(bwd="vjp_fn(a + b + sum(c) + d + e['x'])", head="a, /, b, *c, scale, d=1, **e"),
        ["a", "b", "c", "scale", "d", "e"],
    ),
    "by a helper": (
        outer("k = 2\ndef h(t):\n    return t * k\n", "vjp_fn(h(t))"),
        ["scale", "k"],
    ),
    "by a helper of a helper": (
        outer("k = 2\ndef g():\n    return k\ndef h(t):\n    return t * g()\n", "vjp_fn(h(t))"),
        ["scale", "k"],
    ),
    "by a helper that is defined below": (
        outer("k = 2\n", "vjp_fn(h(t))") + "    def h(t):\n        return t * k\n",
        ["scale", "k"],
    ),
    "by a lambda": (outer("k = 2\nh = lambda t: t * k\n", "vjp_fn(h(t))"), ["scale", "k"]),
    "by a lambda inside": (outer("k = 2\n", "jax.tree.map(lambda u: u * k, vjp_fn(t))"), None),
    "by a comprehension": (outer("k = 2\n", "tuple([u * k for u in vjp_fn(t)])"), None),
    "by a local class": (
        outer("k = 2\nclass H:\n    def g(self, t):\n        return t * k\n", "vjp_fn(H().g(t))"),
        ["scale", "k"],
    ),
    "by the expression of the annotation": (
        outer("k = 2\n", rule=RULE.replace("bwd=bwd", "bwd=functools.partial(bwd, k)")),
        ["scale", "k"],
    ),
    "by a lambda of the annotation": (
        outer("k = 2\n", rule=RULE.replace("bwd=bwd", "bwd=lambda r, t: (t * k,)")),
        ["scale", "k"],
    ),
    "by a forward rule": (
        outer(
            "k = 2\ndef fwd(x):\n    return f(x) * k, None\n",
            rule=RULE.replace("bwd=bwd", "fwd=fwd, bwd=bwd"),
        ),
        ["scale", "k"],
    ),
    "a rule that is a parameter": (
        outer(rule=RULE.replace("bwd=bwd", "bwd=r"), head="r, scale"),
        ["scale"],
    ),
    "unpacked": (
        outer("a, (k, *m) = q = 1, (2, 3)\n", "vjp_fn(a + k + m[0] + q[0])"),
        ["scale", "a", "k", "m", "q"],
    ),
    "annotated": (outer("k: int = 2\n", "vjp_fn(k)"), ["scale", "k"]),
    "by both branches": (
        outer("if scale:\n    k = 1\nelse:\n    k = 2\n", "vjp_fn(k)"),
        ["scale", "k"],
    ),
    "in a `with` of jax": (
        outer("with jax.named_scope('a') as s:\n    k = 1\n", "vjp_fn(k, s)"),
        ["scale", "s", "k"],
    ),
    "the name of `with`": (outer("with open('a') as k:\n    pass\n", "vjp_fn(k)"), ["scale", "k"]),
    "global": (outer("global k\nk = 2\n", "vjp_fn(k)"), ["scale"]),
    "of the module": ("k = 2\n" + outer(bwd="vjp_fn(k)"), ["scale"]),
    "shadowed": (outer("k = 2\n", "(lambda k: vjp_fn(k))(t)"), ["scale"]),
    "assigned in the rule": (outer("k = 2\n", "[k := t, vjp_fn(k)][1]"), ["scale"]),
    "an import": (outer("import math as k\n", "vjp_fn(k.pi)"), ["scale"]),
    "a class": (outer("class K:\n    pass\n", "vjp_fn(K)"), ["scale"]),
    "bound below": (outer(bwd="vjp_fn(k)") + "    k = 2\n", ["scale"]),
    "bound in one branch": (outer("if scale:\n    k = 2\n", "vjp_fn(k)"), ["scale"]),
    "bound in a loop": (outer("for k in range(3):\n    pass\n", "vjp_fn(k)"), ["scale"]),
    "bound in a `try`": (
        outer("try:\n    k = 2\nexcept OSError:\n    pass\n", "vjp_fn(k)"),
        ["scale"],
    ),
    "bound in a `with`": (
        outer("with suppress(OSError):\n    k = 2\n", "vjp_fn(k)"),
        ["scale"],
    ),
    "declared only": (outer("k: int\n", "vjp_fn(k)"), ["scale"]),
    "deleted": (outer("k = 2\n", "vjp_fn(k)") + "    del k\n", ["scale"]),
    "a caught exception": (
        outer("try:\n    k = 2\nexcept OSError as k:\n    k = 3\nk = 4\n", "vjp_fn(k)"),
        ["scale"],
    ),
    "a parameter of the function itself": (outer("x = 2\n", "vjp_fn(x)"), ["scale"]),
}


@pytest.mark.parametrize(("text", "names"), FOUND.values(), ids=FOUND)
def test_what_is_found(text: str, names: list[str] | None) -> None:
    assert captured(text) == [["scale", "k"] if names is None else names]


def test_blocks_around_the_function() -> None:
    text = """
def outer(items, flag):
    a = 1
    for i, (j, _) in items:
        b = 2
        with open("f") as handle:
            c = 3
            if flag:
                d = 4
                try:
                    e = 5

                    # custom-vjp: bwd=bwd
                    def f(x):
                        return x * a * b * c * d * e * i * j * g * h, handle
                except OSError:
                    g = 6
            else:
                h = 7

        def bwd(vjp_fn, t):
            return vjp_fn(t)
"""
    assert captured(text) == [["a", "i", "j", "b", "handle", "c", "d", "e"]]


@pytest.mark.parametrize(("inside", "names"), [("x", ["a"]), ("x * k", ["a", "k"])])
@pytest.mark.parametrize("loop", ["for k in range(3)", "while a:\n        k = 2\n        if k"])
def test_a_variable_of_a_loop_that_no_function_in_it_reads(
    loop: str, inside: str, names: list[str]
) -> None:
    text = f"""
def outer(a):
    def bwd(vjp_fn, t):
        return vjp_fn(t * k * a)

    {loop}:
            # custom-vjp: bwd=bwd
            def f(x):
                return {inside}
"""
    assert captured(text) == [names]


@pytest.mark.parametrize("place", ["except OSError", "else", "finally"])
def test_what_a_try_leaves_open(place: str) -> None:
    text = f"""
def outer():
    a = 1
    try:
        b = 2
    {"except OSError:" if place == "else" else ""}
    {"    pass" if place == "else" else ""}
    {place}:
        # custom-vjp: bwd=bwd
        def f(x):
            return x * a * b

        def bwd(vjp_fn, t):
            return vjp_fn(t)
"""
    assert captured(text) == [["a"]]


def test_functions_and_classes_around() -> None:
    text = """
def outer(a, b):
    class Net(nn.Module):
        b: int = 3

        def setup(self):
            c = 1

            def build(d):
                # custom-vjp: bwd=bwd
                def f(x):
                    return self.b * x * a * b * c * d

                return f

            def bwd(vjp_fn, t):
                return vjp_fn(t)

        # custom-vjp: bwd=back, fwd=forth
        def __call__(self, x):
            return a * x

        def forth(self, x):
            return b * x, None

        def back(self, _, t):
            return None, later * t

    later = 2
    return Net
"""
    assert captured(text) == [["a", "b", "self", "c", "d"], ["a", "b"]]


@pytest.mark.parametrize("other", ["if flag:\n            k = 3", "global k", "pass"])
def test_a_name_that_is_another_variable_beside_the_function(other: str) -> None:
    text = f"""
def outer(k):
    def helper(t):
        return t * k

    def middle(flag):
        {other}

        def bwd(vjp_fn, t):
            return vjp_fn(helper(t))

        # custom-vjp: bwd=bwd
        def f(x):
            return x * 2.0

        return f

    return middle
"""
    assert captured(text) == [["k"] if other == "pass" else []]


def test_both_variables_of_one_name() -> None:
    text = """
def outer(k):
    def helper(t):
        return t * k

    def middle(k):
        def bwd(vjp_fn, t):
            return vjp_fn(t * k)

        # custom-vjp: bwd=bwd
        def f(x):
            return helper(x)

        return f
"""
    assert captured(text) == [["k"]]


def test_a_rule_in_a_rule_takes_what_the_inner_one_takes() -> None:
    text = """
def outer(a, b):
    # custom-vjp: bwd=bwd
    def f(x):
        # custom-vjp: bwd=functools.partial(bwd, k=b)
        def g(x):
            return a * x

        return g(x)

    def bwd(vjp_fn, t, k=1):
        return vjp_fn(t)
"""
    assert captured(text) == [["a", "b"], ["a", "b"]]


def test_names_that_a_class_body_would_change() -> None:
    text = """
def outer(__a, __b__):
    # custom-vjp: bwd=bwd
    def f(x):
        return __a * __b__ * x

    def bwd(vjp_fn, t):
        return vjp_fn(t)
"""
    assert captured(text) == [["__b__"]]


def test_nothing_is_captured_at_the_level_of_the_module() -> None:
    output = compiled(
        "k = 2\n# custom-vjp: bwd=bwd\ndef f(x):\n    return k\ndef bwd(v, t):\n    return v(t)\n"
    )
    assert "captured" not in output


def test_a_prefix_of_its_own() -> None:
    output = compiled("_vjp = 1\n" + outer())
    assert '_vjp1_split = _vjp1.split(x, captured={"scale": scale})' in output


WRITES = {
    "the primal": "def f(x):\n    nonlocal n\n    n = x\n    return x\n",
    "an augmented assignment": "def f(x):\n    nonlocal n\n    n += x\n    return x\n",
    "a loop": "def f(x):\n    nonlocal n\n    for n in x:\n        pass\n    return x\n",
    "a deletion": "def f(x):\n    nonlocal n\n    del n\n    return x\n",
    "a function": "def f(x):\n    nonlocal n\n    def n(): ...\n    return x\n",
    "a helper inside": (
        "def f(x):\n    def g():\n        nonlocal n\n        n = x\n    return g()\n"
    ),
    "a method inside": (
        "def f(x):\n    class A:\n        def g(self):\n            nonlocal n\n            n = x\n"
        "    return A().g()\n"
    ),
    "a helper": "def f(x):\n    return helper(x)\n",
    "a helper of a helper": "def f(x):\n    return second(x)\n",
    "a helper that is handed on": "def f(x):\n    return jax.tree.map(helper, x)\n",
}
WAYS = {
    "another name": "w = helper",
    "a name of another name": "v = helper\nw = v",
    "one of two": "w = helper if len('a') else abs",
    "a compiled one": "w = jax.jit(helper)",
    "a compiled lambda": "w = jax.jit(lambda t: helper(t))",
    "a partial one": "w = functools.partial(helper)",
    "a list": "w = [helper, abs]",
    "a dict": "w = {'a': (helper,)}",
    "a default": "def w(t, h=helper):\n    return h(t)",
    "a local decorator": (
        "def deco(fn):\n    def inner(t):\n        nonlocal n\n        n = t\n        return fn\n"
        "    return inner\n@deco\ndef w(t):\n    return t"
    ),
}
HELPERS = """
def helper(x):
    nonlocal n
    n = x
    return x

def second(x):
    return helper(x)
"""


def writing(function: str, rule: str = "vjp_fn(t)", before: str = "") -> str:
    bwd = f"def bwd(vjp_fn, t):\n    return {rule}\n"
    body = f"{HELPERS}\n{before}\n{bwd}\n# custom-vjp: bwd=bwd\n{function}"
    return f"{HEAD}def outer():\n    n = 0\n{indent(body, '    ')}\n    return f(1.0), n\n"


def findings(text: str) -> list[tuple[str, str]]:
    result = compile_source(text.encode(), "m.py", options=Options("m.py"))
    lines = text.splitlines()
    assert all(finding.help for finding in result.diagnostics)
    return [(f.code, lines[f.span.row - 1].strip()) for f in result.diagnostics]


@pytest.mark.parametrize("function", WRITES.values(), ids=WRITES)
def test_writes_to_a_function_around(function: str) -> None:
    assert findings(writing(function)) == [("VJP305", "nonlocal n")]


def test_a_write_of_the_backward_rule() -> None:
    plain = "def f(x):\n    return x\n"
    assert findings(writing(plain)) == []
    assert findings(writing(plain, "vjp_fn(helper(t))")) == [("VJP305", "nonlocal n")]


@pytest.mark.parametrize("before", WAYS.values(), ids=WAYS)
def test_a_write_behind_something_else(before: str) -> None:
    plain = "def f(x):\n    return x\n"
    assert findings(writing(plain, before=before)) == []
    assert findings(writing(plain, "vjp_fn(w)", before)) == [("VJP305", "nonlocal n")]


def test_a_write_in_another_method() -> None:
    text = f"""{HEAD}
def make(x):
    n = 0

    class Net(nn.Module):
        # custom-vjp: bwd=bwd
        def __call__(self, x):
            return self.count(x)

        def count(self, x):
            nonlocal n
            n += 1
            return x

        def bwd(self, vjp_fn, t):
            return vjp_fn(t)

    return Net, n
"""
    assert findings(text) == [("VJP305", "nonlocal n")]


CALLED_BEFORE = {
    "called": "w = helper(1.0)",
    "mapped": "w = jax.tree.map(helper, 1.0)",
    "a decorator": (
        "def deco(fn):\n    nonlocal n\n    n = fn\n    return fn\n@deco\ndef w(t):\n    return t"
    ),
}


@pytest.mark.parametrize("before", CALLED_BEFORE.values(), ids=CALLED_BEFORE)
def test_a_write_before_the_rule_runs(before: str) -> None:
    assert findings(writing("def f(x):\n    return x\n", "vjp_fn(w)", before)) == []


FREE = {
    "a variable of the rule": (
        "def f(x):\n    n = 0\n    def g():\n        nonlocal n\n        n = 1\n    g()\n"
        "    return n\n"
    ),
    "a declaration alone": "def f(x):\n    nonlocal n\n    return x + n\n",
    "a variable of a function inside": (
        "def f(x):\n    def g():\n        n = 0\n        def h():\n            nonlocal n\n"
        "            n += 1\n        h()\n        return n\n    return g()\n"
    ),
    "what only the function around calls": "def f(x):\n    return x\n",
}


@pytest.mark.parametrize("function", FREE.values(), ids=FREE)
def test_writes_that_do_no_harm(function: str) -> None:
    assert findings(writing(function)) == []


def test_the_message_names_all_three() -> None:
    text = writing(WRITES["a helper"])
    (finding,) = compile_source(text.encode(), "m.py", options=Options("m.py")).diagnostics
    assert finding.is_error
    assert finding.message == "`helper` writes `n` of `outer`, which is outside of the rule of `f`"


def test_an_inner_rule_does_not_write_to_the_outer_one() -> None:
    text = f"""{HEAD}
def bwd(vjp_fn, t):
    return vjp_fn(t)

# custom-vjp: bwd=bwd
def outer(x):
    n = 0

    def count():
        nonlocal n
        n += 1

    # custom-vjp: bwd=bwd
    def inner(x):
        count()
        return x

    return inner(x)
"""
    result = compile_source(text.encode(), "m.py", options=Options("m.py"))
    assert [(f.code, "`inner`" in f.message) for f in result.diagnostics] == [("VJP305", True)]
