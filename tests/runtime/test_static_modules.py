"""A module without a tangent slot comes back in the backward rule, read-only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))


@pytest.mark.parametrize("kind", ["method", "function", "captured"])
def test_static_callables_that_hold_modules(pair, kind):
    found = pair("static_modules")
    plain, lifted = found.plain.Frozen(kind), found.lifted.Frozen(kind)
    variables = plain.init(jax.random.key(0), X)

    def gradient(module, wrap=lambda f: f):
        loss = wrap(lambda v, x: (module.apply(v, x) ** 2).sum())
        return jax.jit(jax.grad(loss, (0, 1)))(variables, X)

    _, expected = gradient(plain)
    for wrap in (lambda f: f, jax.checkpoint):
        params_t, x_t = gradient(lifted, wrap)
        assert_same(x_t, expected, rtol=1e-5)
    assert_same(params_t, jax.tree.map(jnp.zeros_like, variables))


def test_a_module_without_a_slot(pair):
    lifted = pair("static_modules").lifted.SentBack()
    variables = lifted.init(jax.random.key(0), X)
    back = variables["params"]["Dense_0"]
    found = jax.jit(jax.grad(lambda x: lifted.apply(variables, x).sum()))(X)
    assert_same(found, jnp.ones((4, 2)) @ back["kernel"] + back["bias"], rtol=1e-6)
