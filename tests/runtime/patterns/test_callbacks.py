"""Functions on the host, whose gradients are formulas or further callbacks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runtime.compare import assert_same, double

X = jnp.array([[-1.5, 0.0, 0.3], [2.0, 0.7, -0.1]])
WRAPS = {"jit": jax.jit, "remat": lambda f: jax.jit(jax.checkpoint(f))}


@pytest.fixture
def callbacks(pair, x64):
    return pair("patterns/callbacks")


def test_without_its_rule_the_function_has_no_gradient(callbacks):
    with pytest.raises(ValueError, match="Pure callbacks do not support JVP"):
        jax.grad(lambda x: callbacks.plain.host_sinc(x).sum())(X)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_a_gradient_in_closed_form(callbacks, wrap):
    x = double(X)
    assert_same(wrap(callbacks.lifted.host_sinc)(x), jnp.asarray(np.sinc(np.asarray(x))))
    expected = jax.grad(lambda x: (jnp.sinc(x) ** 2).sum())(x)
    gradient = jax.grad(wrap(lambda x: (callbacks.lifted.host_sinc(x) ** 2).sum()))
    assert_same(gradient(x), expected, rtol=1e-10)
    one = jax.grad(lambda x: callbacks.lifted.host_sinc(x) ** 2)
    assert_same(wrap(jax.vmap(jax.vmap(one)))(x), expected, rtol=1e-10)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_a_gradient_by_a_second_callback(callbacks, wrap):
    module, force = callbacks.lifted.Springs(), double(X[0])
    variables = module.init(jax.random.key(0), force)
    variables = jax.tree.map(lambda v: 2 * jnp.float64(v), variables)

    def solved(stiffness, force):
        matrix = 2 * jnp.eye(3) - jnp.eye(3, k=1) - jnp.eye(3, k=-1)
        return (jnp.linalg.solve(stiffness * matrix, force) ** 2).sum()

    expected = jax.grad(solved, (0, 1))(variables["params"]["stiffness"], force)
    loss = lambda v, f: (module.apply(v, f) ** 2).sum()  # noqa: E731
    variables_t, force_t = jax.grad(wrap(loss), (0, 1))(variables, force)
    assert_same((variables_t["params"]["stiffness"], force_t), expected, rtol=1e-10)
    # each force of a batch with a stiffness of its own
    many = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), variables)
    each = wrap(jax.vmap(jax.grad(loss, (0, 1))))(many, double(X))
    reference = jax.vmap(jax.grad(solved, (0, 1)))(many["params"]["stiffness"], double(X))
    assert_same((each[0]["params"]["stiffness"], each[1]), reference, rtol=1e-10)


def test_a_shield_around_functions_of_the_host(callbacks):
    """Both callables are static; how often they are called is how often they are needed."""
    calls = []

    def cube(x):
        calls.append("value")
        return np.asarray(x) ** 3

    def slope(x, y_t):
        calls.append("gradient")
        return 3 * np.asarray(x) ** 2 * np.asarray(y_t)

    loss = jax.jit(lambda x: callbacks.lifted.shield(cube, slope, x).sum())
    x = double(X)
    assert_same(loss(x), jnp.sum(x**3), rtol=1e-12)
    assert calls == ["value"]
    assert_same(jax.jit(jax.grad(loss))(x), 3 * x**2, rtol=1e-12)
    assert calls[1:] in (["value", "gradient"], ["gradient"])
