"""Skeletons of rules: applied, they leave no finding, compile, run and give the plain gradient."""

from __future__ import annotations

import importlib
import itertools
import warnings
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import pytest

from tests.lsp.conftest import Look
from vjpgen.compiler import Options, compile_source
from vjpgen.lsp.actions import Action, actions
from vjpgen.lsp.edits import applied
from vjpgen.lsp.view import View

_NUMBER = itertools.count()

JAX = "import jax\nimport jax.numpy as jnp\n\n\n"
LINEN = "import flax.linen as nn\nimport jax\nimport jax.numpy as jnp\n\n\n"

PLAIN = """\
# custom-vjp: {keys}
def scale(x, w):
    return jnp.sin(x) * w


def gradient():
    x = jnp.arange(3.0) + 1
    return jax.grad(lambda *a: scale(*a).sum(), argnums=(0, 1))(x, 2 * x)
"""
ONE = """\
# custom-vjp: {keys}
def cube(x):
    return x**3


def gradient():
    return jax.grad(lambda x: cube(x).sum())(jnp.arange(3.0))
"""
NAMED_Y = """\
# custom-vjp: {keys}
def product(x, y):
    return x * y


def gradient():
    return jax.grad(product, argnums=(0, 1))(2.0, 3.0)
"""
NONDIFF = """\
# custom-vjp: {keys}, nondiff_argnames=(n, power)
def rise(n: int, x, *, power, offset):
    for _ in range(n):
        x = x**power + offset
    return x


def gradient():
    x = jnp.arange(3.0) + 1
    return jax.grad(lambda x, o: rise(2, x, power=2, offset=o).sum(), argnums=(0, 1))(x, 0.5)
"""
STATIC = """\
# custom-vjp: {keys}
def drop(x, scale, train: bool = False, mode="plain"):
    if train:
        return x * scale
    return x if mode == "plain" else -x


def gradient():
    x = jnp.arange(3.0) + 1
    both = jax.grad(lambda x, s: drop(x, s, train=True).sum(), argnums=(0, 1))(x, 3.0)
    return both, jax.grad(lambda x: drop(x, 2.0, mode="turned").sum())(x)
"""
STARRED = """\
# custom-vjp: {keys}
def mix(x, *rest, bias, **more):
    return sum(rest, x) * bias + more["a"] * more["b"]


def gradient():
    def loss(x, y, z, b, m):
        return mix(x, y, z, bias=b, **m).sum()

    x = jnp.arange(3.0) + 1
    m = {{"a": x, "b": 2 * x}}
    return jax.grad(loss, argnums=(0, 1, 2, 3, 4))(x, 2 * x, 3 * x, 2.0, m)
"""
NESTED = """\
def loss(x, w):
    shift = jnp.cos(w)

    # why: a test
    # custom-vjp: {keys}
    @jax.jit
    def inner(x, shift):
        return x * shift

    return inner(x, shift).sum()


def gradient():
    return jax.grad(loss)(jnp.arange(3.0), 2.0)
"""
STATIC_METHOD = """\
class Shapes:
    # custom-vjp: {keys}
    @staticmethod
    def area(a, b):
        return a * b


def gradient():
    return jax.grad(Shapes.area, argnums=(0, 1))(2.0, 3.0)
"""
METHOD = """\
class Net(nn.Module):
    features: int
    # custom-vjp: {keys}
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(jnp.tanh(x))


def gradient():
    x = jnp.ones((2, 4)) / 3
    net = Net(3)
    variables = net.init(jax.random.key(0), x)
    return jax.grad(lambda v, x: (net.apply(v, x) ** 2).sum(), argnums=(0, 1))(variables, x)
"""
SETUP = """\
class Net(nn.Module):
    def setup(self):
        self.dense = nn.Dense(3)

    # custom-vjp: {keys}, nondiff_argnums=2
    def encode(self, x, deep, mask=None):
        x = self.dense(x)
        return x if mask is None else x * mask

    def __call__(self, x):
        return self.encode(x, True)


def gradient():
    x = jnp.ones((2, 4)) / 3
    net = Net()
    variables = net.init(jax.random.key(0), x)
    return jax.grad(lambda v, x: (net.apply(v, x) ** 2).sum(), argnums=(0, 1))(variables, x)
"""
OF_MODULE = """\
# custom-vjp: {keys}, target=linen
def apply(mdl, x):
    return jnp.sin(mdl(x))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return apply(nn.Dense(3), x)


def gradient():
    x = jnp.ones((2, 4)) / 3
    variables = Net().init(jax.random.key(0), x)
    return jax.grad(lambda v, x: (Net().apply(v, x) ** 2).sum(), argnums=(0, 1))(variables, x)
"""
NESTED_OF_MODULE = """\
class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        # custom-vjp: {keys}, target=linen
        def f(mdl, x):
            return mdl(x)

        return f(nn.Dense(3), jnp.sin(x))


def gradient():
    x = jnp.ones((2, 4)) / 3
    variables = Net().init(jax.random.key(0), x)
    return jax.grad(lambda v, x: (Net().apply(v, x) ** 2).sum(), argnums=(0, 1))(variables, x)
"""
LONG = """\
# custom-vjp: {keys}
def attend(queries_with_position, keys_with_position, values, *, scale=None, train: bool = False):
    weights = queries_with_position * keys_with_position
    return weights * values if train else weights


def gradient():
    def loss(q, k, v):
        return attend(q, k, v, train=True).sum()

    x = jnp.arange(3.0) + 1
    return jax.grad(loss, argnums=(0, 1, 2))(x, 2 * x, 3 * x)
"""
FUNCTIONS = {
    "long": (JAX, LONG),
    "plain": (JAX, PLAIN),
    "one": (JAX, ONE),
    "named y": (JAX, NAMED_Y),
    "nondiff": (JAX, NONDIFF),
    "static": (JAX, STATIC),
    "starred": (JAX, STARRED),
    "nested": (JAX, NESTED),
    "static method": (JAX, STATIC_METHOD),
    "no import of jax": (
        "import jax.numpy as jnp\nfrom jax import grad\n\n\n",
        ONE.replace("jax.grad", "grad"),
    ),
    "tabs": (JAX, NESTED.replace("    ", "\t")),
}
MODULES = {
    "method": (LINEN, METHOD),
    "setup": (LINEN, SETUP),
    "of module": (LINEN, OF_MODULE),
    "nested of module": (LINEN, NESTED_OF_MODULE),
}
CASES = {**FUNCTIONS, **MODULES}
BOTH = "fwd=rule_fwd, bwd=rule_bwd"
RUNS = [(case, form) for case in CASES for form in ("", BOTH)]
RUNS += [(case, form) for case in ("plain", "method") for form in ("bwd=rule_bwd", "fwd=rule_fwd")]


def longest(view: View, start: str) -> Action:
    """The action that does most, of those whose title begins so."""
    lines = view.document.lines
    rows = [row for row, line in enumerate(lines, 1) if "custom-vjp" in line]
    found = actions(view, rows[0], rows[-1])
    matching = [action for action in found if action.title.startswith(start)]
    assert matching, [action.title for action in found]
    return max(matching, key=lambda action: len(action.title))


def load(text: str, folder: Path) -> ModuleType:
    name = f"skeleton_{next(_NUMBER)}"
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def generated(text: str) -> str:
    result = compile_source(text.encode(), "model.py", options=Options("model.py"))
    assert result.output is not None, result.diagnostics
    return result.output.decode()


def assert_same_gradient(text: str, folder: Path) -> None:
    plain = load(text, folder).gradient()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        custom = load(generated(text), folder).gradient()
    assert jax.tree.structure(plain) == jax.tree.structure(custom)
    assert all(map(jnp.allclose, jax.tree.leaves(plain), jax.tree.leaves(custom)))


@pytest.fixture(autouse=True)
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(("case", "form"), RUNS)
def test_a_missing_rule_is_written(look: Look, tmp_path: Path, case: str, form: str) -> None:
    head, body = CASES[case]
    text = head + body.format(keys=form).replace(": ,", ":")
    view = look(text)
    assert view.findings
    done = applied(view.document, longest(view, "Write ").edits)
    assert look(done).findings == (), done
    assert all(len(line) <= 100 for line in done.splitlines())
    assert_same_gradient(done, tmp_path)


SAVES = """\
def scale_fwd(a, b, train):
    return scale(a, b, train), (b, a, train)


# custom-vjp: fwd=scale_fwd, bwd=scale_bwd
def scale(x, w, train=True):
    return jnp.sin(x) * w if train else x


def gradient():
    x = jnp.arange(3.0) + 1
    return jax.grad(lambda *a: scale(*a).sum(), argnums=(0, 1))(x, 2 * x)
"""


def test_a_backward_rule_from_saved_arguments(look: Look, tmp_path: Path) -> None:
    view = look(JAX + SAVES)
    done = applied(view.document, longest(view, "Write ").edits)
    assert look(done).findings == (), done
    assert "w, x, train = residuals" in done
    assert_same_gradient(done, tmp_path)


def test_a_forward_rule_is_written_out(look: Look, tmp_path: Path) -> None:
    head = LINEN + "def rule_bwd(vjp_fn, y_t):\n    return vjp_fn(y_t)\n\n\n"
    view = look(head + METHOD.format(keys="bwd=rule_bwd, grad_vars=params"))
    done = applied(view.document, longest(view, "Write the forward rule").edits)
    assert 'vjp_variables="params"' in done
    assert look(done).findings == (), done
    assert_same_gradient(done, tmp_path)
