"""`vjpgen.vjp` against plain autodiff and, where that can, `flax.linen.vjp`."""

from __future__ import annotations

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import vjpgen
from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(2)}


@pytest.fixture(scope="module")
def own(pair):
    return pair("own_vjp")


def derive(module, variables):
    """Value, updates and gradients of parameters and input."""
    variables = dict(variables)
    params = variables.pop("params")

    @jax.jit
    def run(params, x):
        def loss(params, x):
            y, updates = module.apply(
                {"params": params, **variables}, x, mutable=["batch_stats"], rngs=KEYS
            )
            return (y**2).sum(), updates

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    return run(params, X)


def test_in_a_forward_rule(own):
    """State, draws and gradients are those of autodiff; the rule doubles the input's."""
    plain, lifted = own.plain.Forward(), own.lifted.Forward()
    variables = plain.init(KEYS, X)
    assert_same(lifted.init(KEYS, X), variables)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, (params_t, x_t) = derive(lifted, variables)
    expected, (expected_t, expected_x_t) = derive(plain, variables)
    assert_same(found, expected, rtol=1e-6)
    assert_same((params_t, x_t), (expected_t, 2 * expected_x_t), rtol=1e-5)


@pytest.mark.parametrize("name", ["Backward", "Method"])
def test_in_a_backward_rule(own, name):
    fields = {"inner": nn.Sequential([nn.Dense(3), nn.tanh])} if name == "Method" else {}
    plain, lifted = getattr(own.plain, name)(**fields), getattr(own.lifted, name)(**fields)
    variables = plain.init(KEYS, X)
    assert_same(derive(lifted, variables), derive(plain, variables), rtol=1e-5)


def test_outside_of_rules(own):
    """Python numbers have tangents as under `jax.vjp`; parameters are made while initializing."""
    module = own.lifted.Outside()
    variables = module.init(KEYS, X)
    kernel = variables["params"]["Dense_0"]["kernel"]
    for apply in (module.apply, jax.jit(module.apply)):
        variables_t, x_t, scale_t, y = apply(variables, X)
        hidden = jnp.tanh(X @ kernel)
        hidden_t = 2 * (1 - hidden**2)
        dense_t = {"kernel": X.T @ hidden_t, "bias": hidden_t.sum(0)}
        expected = {"params": {"layers_0": dense_t}}, hidden_t @ kernel.T, hidden.sum(), 2 * hidden
        assert_same((variables_t, x_t, scale_t, y), expected, rtol=1e-5)


def test_as_flax_s_own():
    """The same output, tangents and updates for one module that holds no other."""

    class Norm(nn.Module):
        vjp: str

        @nn.compact
        def __call__(self, x):
            norm = nn.BatchNorm(use_running_average=False)
            if self.vjp == "flax":
                y, vjp_fn = nn.vjp(lambda m, x: m(x), norm, x, vjp_variables=True)
            else:
                y, vjp_fn = vjpgen.vjp(lambda m, x: m(x), norm, x, grad_vars=True)
            return y, vjp_fn(jnp.cos(y))

    variables = Norm("flax").init(KEYS, X)
    run = lambda kind: Norm(kind).apply(variables, X, mutable=["batch_stats"])  # noqa: E731
    assert_same(run("vjpgen"), run("flax"))


def test_a_function_of_arrays():
    y, vjp_fn = vjpgen.vjp(lambda x, n: {"a": x**n, "n": n}, X, 3)
    assert_same(y, {"a": X**3, "n": 3})
    tangents = vjp_fn({"a": jnp.ones_like(X), "n": None})
    assert_same(tangents[0], 3 * X**2, rtol=1e-6)


def test_defaults_are_no_primals():
    """As in `jax.vjp`: tangents of what was passed; a default may be traced."""

    @jax.jit
    def tangents(x, w):
        return vjpgen.vjp(lambda x, w=w, *, n=2: w * x**n, x)[1](jnp.ones_like(x))

    assert_same(tangents(X, jnp.float32(3)), (6 * X,), rtol=1e-6)
