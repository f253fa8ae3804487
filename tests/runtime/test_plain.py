"""Within `plain()` every function is its primal: what the source is without vjpgen."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vjpgen import custom_vjp
from vjpgen.runtime.recursion import is_plain, plain

X = jnp.arange(3.0)


def twice_fwd(x):
    return jnp.sin(x), x


def twice_bwd(x, y_t):
    return (2 * jnp.cos(x) * y_t,)


ruled = custom_vjp(jnp.sin, twice_fwd, twice_bwd)


def dense_bwd(vjp_fn, y_t):
    return jax.tree.map(lambda t: 2 * t, vjp_fn(y_t))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        def fwd(dense, x):
            return nn.vjp(lambda dense, x: dense(x), dense, x)

        dense = custom_vjp(lambda dense, x: dense(x), fwd, dense_bwd)
        return ruled(dense(nn.Dense(2), x))


def slope(x):
    return jax.grad(lambda x: ruled(x).sum())(x)


def test_rules_are_left_out_and_come_back():
    assert not is_plain()
    with plain():
        assert is_plain()
        np.testing.assert_array_equal(slope(X), jnp.cos(X))
    np.testing.assert_array_equal(slope(X), 2 * jnp.cos(X))


def test_what_jax_keeps_of_a_jitted_function_is_of_one_kind():
    jitted = jax.jit(slope)
    with_rule = jitted(X)
    with plain():
        without = jitted(X)
    np.testing.assert_allclose(with_rule, 2 * without)
    np.testing.assert_array_equal(jitted(X), with_rule)


def test_rules_on_modules_and_inside_methods_are_left_out():
    variables = Net().init(jax.random.key(0), X)
    gradient = jax.grad(lambda v: Net().apply(v, X).sum())
    with plain():
        kernel = gradient(variables)["params"]["Dense_0"]["kernel"]
    dense = X @ variables["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel, jnp.outer(X, jnp.cos(dense)), rtol=1e-6)
    np.testing.assert_allclose(gradient(variables)["params"]["Dense_0"]["kernel"], 4 * kernel)
