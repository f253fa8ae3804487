"""Captured values, ambient and unbound modules; what forward rules may not return."""

from __future__ import annotations

import gc
import re
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import vjpgen
from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def captures(pair):
    return pair("captures")


def derive(module, variables, wrap=lambda f: f):
    loss = lambda v, x: (module.apply(v, x) ** 2).sum()  # noqa: E731
    return wrap(jax.grad(loss, (0, 1)))(variables, X)


@pytest.mark.parametrize("kind", ["vmap", "jit", "partial", "object", "list", "default"])
def test_captured_through_wrappers(captures, kind):
    plain, lifted = captures.plain.Wrapped(kind), captures.lifted.Wrapped(kind)
    for wrap in (lambda f: f, jax.jit):
        assert_same(derive(lifted, {}, wrap), derive(plain, {}, wrap), rtol=1e-5)
    assert_same(
        jax.grad(jax.jit(lambda x: lifted.apply({}, x).sum()))(X),
        jax.grad(lambda x: plain.apply({}, x).sum())(X),
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", ["Outer", "HoldsModules", "Ambient"])
def test_callables_and_ambient_modules(captures, name):
    plain, lifted = getattr(captures.plain, name)(), getattr(captures.lifted, name)()
    variables = plain.init(KEY, X)
    assert_same(lifted.init(KEY, X), variables)
    assert_same(lifted.apply(variables, X), plain.apply(variables, X))
    for wrap in (lambda f: f, jax.jit):
        assert_same(derive(lifted, variables, wrap), derive(plain, variables, wrap), rtol=1e-5)


def test_the_ambient_module_is_taken_only_where_it_is_needed(captures):
    from vjpgen.runtime import wrapping
    from vjpgen.runtime.errors import AmbientNeededError

    module = captures.lifted.Ambient()
    variables = module.init(KEY, X)
    module.apply(variables, X)
    needing = [key for key, needs in wrapping._needs.items() if AmbientNeededError in needs]
    assert any("Ambient" in key for key in needing)
    assert not any("Callback" in key for key in needing)


def test_a_module_that_is_not_bound_keeps_its_rule(captures):
    for wrap in (lambda f: f, jax.jit):
        found = wrap(jax.grad(lambda x: captures.lifted.Unbound()(x).sum()))(X)
        assert_same(found, jnp.ones_like(X))
    dense = nn.Dense(2)
    variables = dense.init(KEY, X)
    run = lambda m: jax.grad(lambda v, x: m.applied(dense, v, x), (0, 1))(variables, X)  # noqa: E731
    assert_same(run(captures.lifted), jax.tree.map(lambda t: 7 * t, run(captures.plain)), rtol=1e-6)


def test_a_compact_module_that_is_not_bound_gets_the_error_of_flax(captures):
    with pytest.raises(Exception, match="compact") as plain:
        captures.plain.Cell()(X, X)
    with pytest.raises(type(plain.value)):
        captures.lifted.Cell()(X, X)


def test_scan_with_shared_parameters(captures):
    def run(cell):
        layer = nn.scan(cell, variable_broadcast="params", split_rngs={"params": False})()
        variables = layer.init(KEY, X, X[None] * jnp.ones((5, 1, 1)))

        def loss(variables):
            return (layer.apply(variables, X, X[None] * jnp.ones((5, 1, 1)))[0] ** 2).sum()

        return variables, jax.jit(jax.grad(loss))(variables)

    assert_same(run(captures.lifted.Cell), run(captures.plain.Cell), rtol=1e-5)


MISMATCHES = {
    "structure": r"returned a dict with b as output, where its primal returns a dict with a",
    "dtype": r"output\.a: expected float32\[4,3\], not bfloat16\[4,3\]",
    "pair": r"must return a pair, the output and the residuals",
}


@pytest.mark.parametrize("kind", MISMATCHES)
def test_forward_rules_that_differ_from_their_primal(captures, kind):
    module = captures.lifted.Mismatch(kind)
    variables = module.init(KEY, X)
    loss = jax.jit(lambda v: module.apply(v, X)["a"].astype(jnp.float32).sum())
    with pytest.raises(TypeError, match=MISMATCHES[kind]) as caught:
        jax.grad(loss)(variables)
    assert re.search(r"captures\.py:\d+", str(caught.value))


def test_a_cotangent_that_does_not_fit(captures):
    with pytest.raises(vjpgen.TangentError, match=r"bad (.|\n)*output: expected float32\[4,3\]"):
        jax.grad(lambda x: captures.lifted.bad(x).sum())(X)


def test_a_misspelt_collection_is_named():
    def f(mdl, x):
        return mdl(x)

    class Foo(nn.Module):
        @nn.compact
        def __call__(self, x):
            fwd = lambda m, x: nn.vjp(f, m, x)  # noqa: E731
            bwd = lambda vjp_fn, y_t: ({}, vjp_fn(y_t)[1])  # noqa: E731
            return vjpgen.custom_vjp(f, fwd, bwd, grad_vars="parms")(nn.Dense(2), x)

    variables = Foo().init(KEY, X)
    with pytest.warns(vjpgen.DroppedTangentWarning, match=r"'parms' is none .*: params"):
        jax.grad(lambda v: Foo().apply(v, X).sum())(variables)


def test_arrays_are_freed_with_the_call(pair):
    """Nothing of a call waits for the garbage collector."""
    module = pair("layers").lifted.Compact()
    x = jnp.ones((2, 3))
    variables = module.init(KEY, x)
    for derive in (lambda f: f, jax.grad, lambda f: jax.grad(jax.jit(f))):
        run = derive(lambda v, x: module.apply(v, x).sum())
        run(variables, x)
        gc.collect()
        gc.disable()
        try:
            fresh = jax.tree.map(lambda a: a + 1, variables)
            seen = [weakref.ref(leaf) for leaf in jax.tree.leaves(fresh)]
            run(fresh, x)
            del fresh
            assert not any(ref() is not None for ref in seen)
        finally:
            gc.enable()


@pytest.mark.parametrize("name", ["Compact", "Stateful", "Noisy", "Setup"])
def test_no_tracer_leaks(pair, name):
    module = getattr(pair("layers").lifted, name)()
    rngs = {"params": KEY, "dropout": KEY, "noise": KEY}
    variables = module.init(rngs, X)
    params, state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    apply = lambda p: module.apply({"params": p, **state}, X, rngs=rngs).sum()  # noqa: E731
    with jax.checking_leaks():
        jax.jit(apply)(params)
        jax.grad(apply)(params)
        jax.grad(jax.jit(apply))(params)
        jax.jit(jax.grad(apply))(params)
        jax.grad(jax.checkpoint(apply))(params)
        jax.jit(lambda: module.init(rngs, X))()
        jax.eval_shape(lambda: module.init(rngs, X))


def test_decorators_that_change_the_parameters(captures):
    lifted = captures.lifted
    assert lifted.power(3.0) == 6.0
    assert lifted.power(3.0, n=4.0) == 12.0
    assert jax.grad(lifted.power)(3.0) == 14.0
    assert lifted.times_n(3.0, 4.0) == 12.0
    assert jax.grad(lifted.times_n)(3.0, 4.0) == 28.0
    assert lifted.times_n(3.0, 4.0, log=True) == 12.0
    assert lifted.tripled(3.0) == 9.0
    assert jax.grad(lifted.tripled)(3.0) == 21.0
    rngs = {"params": KEY, "noise": KEY}
    plain, module = captures.plain.Injected(), lifted.Injected()
    variables = plain.init(rngs, X)
    assert_same(module.init(rngs, X), variables)

    def derive(module):
        return jax.grad(lambda v, x: module.apply(v, x, rngs=rngs).sum(), (0, 1))(variables, X)

    assert_same(derive(module), derive(plain), rtol=1e-6)


def test_nondiff_arguments_with_what_jax_cannot_flatten(captures):
    """A dict whose keys have no order, and a callable that holds a traced value."""
    config = {1: "one", "gain": 2.0}

    @jax.jit
    def step(x, w):
        return jax.grad(lambda x: captures.lifted.configured(x, config, lambda z: z * w))(x)

    assert step(jnp.float32(3.0), jnp.float32(5.0)) == 1000.0


def test_a_backward_method_with_captured_values(captures):
    """In the rule itself and in a field of its module, which comes as a snapshot."""

    @jax.jit
    def step(x, w):
        module = captures.lifted.local_class(w)(lambda z: 3 * w * z)
        return jax.grad(lambda x: module.apply({}, x).sum())(x)

    assert_same(step(X, jnp.float32(2.0)), jnp.full_like(X, 120.0))


def test_a_static_method_of_a_class_in_a_function(captures):
    def loss(x, scale):
        return captures.lifted.local_static_method(scale).sine(x).sum()

    for wrap in (lambda f: f, jax.jit):
        assert_same(wrap(jax.grad(loss))(X, 3.0), 3 * jnp.cos(X), rtol=1e-6)
