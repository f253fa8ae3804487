"""Clipped, reversed and scaled gradients against what they do in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def control(pair):
    return pair("patterns/gradient_control")


def clipped_by_hand(tree, limit):
    norm = np.sqrt(sum(np.sum(np.asarray(x, np.float64) ** 2) for x in jax.tree.leaves(tree)))
    return jax.tree.map(lambda x: (x * min(1.0, limit / norm)).astype(x.dtype), tree)


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_each_layer_is_clipped_on_its_own(control, limit):
    module = control.lifted.ClippedDense(2, limit)
    variables = module.init(KEY, X)
    plain = control.plain.ClippedDense(2, limit)

    def gradient(module):
        loss = lambda v, x: (module.apply(v, x) ** 2).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1)))(variables, X)

    variables_t, x_t = gradient(plain)
    assert_same(gradient(module), (clipped_by_hand(variables_t, limit), x_t), rtol=1e-6)
    # per example: vmap clips each example's gradient
    one = jax.grad(lambda v, x: (module.apply(v, x) ** 2).sum())
    each = jax.jit(jax.vmap(one, (None, 0)))(variables, X)
    norms = [control.plain.norm_of(jax.tree.map(lambda t, n=n: t[n], each)) for n in range(4)]
    assert (max(norms) <= 0.5 * (1 + 1e-6)) == (limit == 0.5)


def test_clipping_a_tree_by_a_traced_limit(control):
    tree = {"a": X, "b": [2 * X.astype(jnp.bfloat16)]}

    @jax.jit
    def gradient(limit):
        def loss(tree):
            tree = control.lifted.clip_gradient(tree, limit)
            return sum((leaf.astype(jnp.float32) ** 2).sum() for leaf in jax.tree.leaves(tree))

        return jax.grad(loss)(tree)

    full = jax.tree.map(lambda x: 2 * x, tree)
    for limit in (0.25, 1e6):
        expected = clipped_by_hand(full, limit)
        assert_same(gradient(limit), expected, rtol=1e-2)
    assert abs(control.plain.norm_of(gradient(0.25)) - 0.25) < 1e-2


def test_reversal_by_a_schedule(control):
    """The features learn the label and unlearn the domain, the more the further training is."""
    lifted, plain = control.lifted.Adversarial(), control.plain.Adversarial()
    params = lifted.init(KEY, X, 0.0)["params"]

    def parts(module):
        def loss(head):
            return lambda p, progress: (module.apply({"params": p}, X, progress)[head] ** 2).sum()

        return [jax.jit(jax.grad(loss(head))) for head in (0, 1)]

    (label, domain), (plain_label, plain_domain) = parts(lifted), parts(plain)
    for progress in (0.0, 0.3, 1.0):
        strength = 2 / (1 + np.exp(-10 * progress)) - 1
        assert_same(label(params, progress), plain_label(params, progress), rtol=1e-6)
        found, true = domain(params, progress), plain_domain(params, progress)
        assert_same(found["domain"], true["domain"], rtol=1e-6)
        expected = jax.tree.map(lambda t, s=strength: jnp.float32(-s) * t, true["features"])
        assert_same(found["features"], expected, rtol=1e-5)


def test_the_schedule_may_be_differentiated_without_effect(control):
    found = jax.grad(lambda s: (control.lifted.reverse(X, s) * X).sum())(0.5)
    assert_same(found, jnp.zeros_like(found))


def test_loss_scaling(control):
    """In float16 the scaled gradient overflows, the flag comes back, and the scale goes down."""
    params = {"w": jnp.asarray([1.0, -2.0], jnp.float16), "b": jnp.asarray(0.5, jnp.float16)}

    def loss(params):
        return ((params["w"] * jnp.asarray([3.0, 1.0], jnp.float16)).sum() * 100 + params["b"]) * 2

    true = {"w": jnp.asarray([600.0, 200.0], jnp.float16), "b": jnp.asarray(2.0, jnp.float16)}

    @jax.jit
    def step(scale, _):
        gradient, overflow = control.lifted.scaled_gradient(loss, params, scale)
        return control.lifted.next_scale(scale, overflow), (scale, gradient, overflow)

    _, (scales, gradients, flags) = jax.lax.scan(step, jnp.float16(256), None, 4)
    np.testing.assert_array_equal(scales, [256, 128, 64, 96])  # 600 * 128 > 65504
    np.testing.assert_array_equal(flags, [1, 1, 0, 0])
    assert flags.dtype == jnp.float32
    expected = jax.tree.map(lambda t: jnp.stack([0 * t, 0 * t, t, t]), true)
    assert_same(gradients, expected, rtol=1e-3)
