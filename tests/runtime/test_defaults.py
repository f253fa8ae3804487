"""Defaults that are traced values: each has a tangent slot."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))


@pytest.mark.parametrize(("name", "offset"), [("Defaults", 10.0), ("Decorated", 0.0)])
def test_traced_defaults(pair, name, offset):
    found = pair("defaults")
    plain, lifted = getattr(found.plain, name)(), getattr(found.lifted, name)()
    variables = plain.init(jax.random.key(0), X)
    assert_same(lifted.apply(variables, X), plain.apply(variables, X))

    def gradient(module):
        loss = lambda v, x: module.apply(v, x).sum()  # noqa: E731
        params_t, x_t = jax.jit(jax.grad(loss, (0, 1)))(variables, X)
        w_t = params_t["params"].pop("w")
        return (params_t, x_t), w_t

    others, w_t = gradient(lifted)
    assert_same(others, gradient(plain)[0], rtol=1e-6)
    dense = (X @ variables["params"]["Dense_0"]["kernel"]).sum()
    assert_same(w_t, jnp.float32(2 * dense + offset * 12), rtol=1e-5)
