"""`vjpgen.custom_vjp` beside `flax.linen.custom_vjp` and `flax.core.lift.custom_vjp`."""

from __future__ import annotations

import doctest
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.core import init, lift
from flax.core import nn as core_nn

import vjpgen
from tests.runtime.compare import assert_same

X = jnp.array([[1.0, -2.0, 0.5], [0.3, 0.1, -1.0]])


def sign_bwd(vjp_fn, y_t):
    params_t, *inputs_t = vjp_fn(y_t)
    return (jax.tree.map(jnp.sign, params_t), *inputs_t)


@pytest.mark.parametrize("function", [nn.custom_vjp, lift.custom_vjp])
def test_the_documented_example_of_flax_runs_with_vjpgen(function, monkeypatch):
    """Run the example in Flax's docstring, both as it stands and with vjpgen in Flax's place."""
    monkeypatch.setattr(nn, "custom_vjp", vjpgen.custom_vjp)
    monkeypatch.setattr(lift, "custom_vjp", vjpgen.custom_vjp)
    examples = doctest.DocTestFinder().find(function, "custom_vjp", globs={})
    for example in examples:
        assert doctest.DocTestRunner().run(example).failed == 0


def _linen(custom_vjp):
    class Foo(nn.Module):
        @nn.compact
        def __call__(self, x):
            def f(mdl, x):
                return mdl(x)

            def fwd(mdl, x):
                return nn.vjp(f, mdl, x)

            y = custom_vjp(f, forward_fn=fwd, backward_fn=sign_bwd)(nn.Dense(2), x)
            return y.sum()

    return Foo()


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_linen_example_equals_flax(wrap):
    theirs, ours = _linen(nn.custom_vjp), _linen(vjpgen.custom_vjp)
    variables = theirs.init(jax.random.key(0), X)
    assert_same(ours.init(jax.random.key(0), X), variables)
    expected = wrap(jax.value_and_grad(theirs.apply, argnums=(0, 1)))(variables, X)
    assert_same(wrap(jax.value_and_grad(ours.apply, argnums=(0, 1)))(variables, X), expected)
    assert set(jnp.unique(expected[1][0]["params"]["Dense_0"]["kernel"]).tolist()) <= {-1, 0, 1}


def _scoped(custom_vjp):
    f = core_nn.dense

    def fwd(scope, x, features):
        return lift.vjp(partial(f, features=features), scope, x)

    def bwd(features, vjp_fn, y_t):
        assert features == 2
        return sign_bwd(vjp_fn, y_t)

    return custom_vjp(f, forward_fn=fwd, backward_fn=bwd, nondiff_argnums=(2,))


def test_scope_example_equals_flax():
    """The example of `flax.core.lift.custom_vjp`: a function of a scope, features nondiff."""

    def run(custom_vjp):
        dense = _scoped(custom_vjp)
        y, variables = init(dense)(jax.random.key(0), X, 2)

        def loss(params, x):
            from flax.core import apply

            return jnp.mean(apply(dense)(params, x, 2) ** 2)

        return y, variables, jax.grad(loss, argnums=(0, 1))(variables, X)

    assert_same(run(vjpgen.custom_vjp), run(lift.custom_vjp))


def test_several_scopes():
    """A tree of scopes gives a tree of tangents, as in Flax."""

    def model(scope, x, custom_vjp):
        children = {"a": scope.push("a"), "b": scope.push("b")}

        def f(scopes, x):
            return core_nn.dense(scopes["a"], x, 3) * core_nn.dense(scopes["b"], x, 3)

        def fwd(scopes, x):
            y, vjp_fn = lift.vjp(f, scopes, x)
            return y, vjp_fn

        def bwd(vjp_fn, y_t):
            scopes_t, x_t = vjp_fn(y_t)
            assert sorted(scopes_t) == ["a", "b"]
            return jax.tree.map(lambda t: 2 * t, scopes_t), x_t

        return custom_vjp(f, fwd, bwd)(children, x).sum()

    from flax.core import apply

    results = []
    for custom_vjp in (lift.custom_vjp, vjpgen.custom_vjp):
        _, variables = init(model)(jax.random.key(1), X, custom_vjp)
        loss = lambda v, x, c=custom_vjp: apply(model)(v, x, c)  # noqa: E731
        results.append((variables, jax.grad(loss, argnums=(0, 1))(variables, X)))
    assert_same(*results)


def test_a_class_with_custom_vjp_on_a_method():
    """`custom_vjp` in a class body, as a method."""

    def make(custom_vjp):
        class Layer(nn.Module):
            def setup(self):
                self.dense = nn.Dense(2)

            def raw(self, x):
                return self.dense(x)

            def forward(self, x):
                return nn.vjp(lambda m, x: m.raw(x), self, x)

            __call__ = custom_vjp(raw, forward, sign_bwd)

        return Layer()

    theirs, ours = make(nn.custom_vjp), make(vjpgen.custom_vjp)
    variables = theirs.init(jax.random.key(0), X)
    assert_same(ours.init(jax.random.key(0), X), variables)

    def gradient(module):
        return jax.grad(lambda v, x: module.apply(v, x).sum(), argnums=(0, 1))(variables, X)

    assert_same(gradient(ours), gradient(theirs))


def test_a_plain_function_of_arrays():
    """Without a module the rule is that of `jax.custom_vjp`: one slot an argument."""

    def f(x, y):
        return jnp.sin(x) * y

    def fwd(x, y):
        return f(x, y), (jnp.cos(x), jnp.sin(x), y)

    def bwd(residuals, g):
        cos, sin, y = residuals
        return cos * g * y, sin * g

    theirs = jax.custom_vjp(f)
    theirs.defvjp(fwd, bwd)
    ours = vjpgen.custom_vjp(f, fwd, bwd)
    for derive in (jax.grad, lambda g, a: jax.jit(jax.grad(g, a)), jax.jacrev):
        assert_same(derive(ours, (0, 1))(1.5, 2.0), derive(theirs, (0, 1))(1.5, 2.0))
    second = jax.grad(jax.grad(ours))(1.5, 2.0)
    assert_same(second, jax.grad(jax.grad(theirs))(1.5, 2.0))


def test_keywords_are_passed_where_flax_drops_them():
    class Foo(nn.Module):
        @nn.compact
        def __call__(self, x):
            def f(mdl, x, scale=1.0):
                return mdl(x) * scale

            def fwd(mdl, x, scale):
                return nn.vjp(f, mdl, x, scale)

            def bwd(vjp_fn, y_t):
                return vjp_fn(y_t)

            return vjpgen.custom_vjp(f, fwd, bwd)(nn.Dense(1), x, scale=3.0)

    variables = Foo().init(jax.random.key(0), X)
    expected = 3 * nn.Dense(1).apply({"params": variables["params"]["Dense_0"]}, X)
    assert_same(Foo().apply(variables, X), expected)


@pytest.mark.parametrize(("outer", "inner"), [(-1.0, -2.0), (-1, -2), (1, True), (3, 2)])
def test_functions_of_one_place_keep_their_rules(outer, inner):
    """One calls the other in its forward rule; Python's hashes of -1 and -2 are the same."""

    def scaled(scale, through=None):
        def f(x):
            return scale * x

        def forward(x):
            return scale * x, None if through is None else jax.vjp(through, x)[1]

        def backward(pullback, y_t):
            return (10 * y_t,) if pullback is None else pullback(y_t)

        return vjpgen.custom_vjp(f, forward, backward)

    assert jax.grad(scaled(outer, scaled(inner)))(3.0) == 10


def test_import_is_lazy():
    import subprocess
    import sys

    code = "import sys, vjpgen; assert not {'jax', 'libcst', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_two_halves_never_import_each_other():
    import subprocess
    import sys

    for code in (
        "import vjpgen.runtime.interface_1, vjpgen.runtime.drop_in, vjpgen.runtime.snapshots; "
        "unwanted = ('libcst', 'vjpgen.compiler', 'vjpgen.cli', 'click')",
        "import vjpgen.compiler.pipeline, vjpgen.cli.build, vjpgen.building.pipeline; "
        "unwanted = ('jax', 'flax', 'numpy', 'vjpgen.runtime')",
    ):
        check = "import sys; assert not set(unwanted) & set(sys.modules)"
        subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True)
