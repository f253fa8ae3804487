"""Feedback alignment and direct feedback alignment against the chain rule by hand."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runtime.compare import assert_same, double

KEY = jax.random.key(0)
WRAPS = {"plain": lambda f: f, "remat": jax.checkpoint}


def by_feedback(function, true, feedback):
    """Lift by hand: `function(params, x)`, the gradient of `x` taken with other parameters."""

    @jax.custom_vjp
    def lifted(params, feedback, x):
        return function(params, x)

    def fwd(params, feedback, x):
        return function(params, x), (params, feedback, x)

    def bwd(residuals, y_t):
        params, feedback, x = residuals
        params_t = jax.vjp(lambda p: function(p, x), params)[1](y_t)[0]
        x_t = jax.vjp(lambda x: function(feedback, x), x)[1](y_t)[0]
        return params_t, None, x_t

    lifted.defvjp(fwd, bwd)
    return lambda x: lifted(true, feedback, x)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def conv(params, x):
    return nn.tanh(nn.Conv(3, (3, 3)).apply({"params": params}, x))


def by_hand(params, feedback, x):
    twin = feedback["Aligned_0"]["params"]["layers_0"]
    x = by_feedback(conv, params["Conv_0"], twin)(x)
    x = x.reshape(*x.shape[:-3], -1)
    for n, name in enumerate(["FeedbackDense_0", "SignSymmetricDense_0", "FeedbackDense_1"]):
        layer = params[name].get("dense", params[name])
        other = feedback[name]["kernel"] if name in feedback else jnp.sign(layer["kernel"])
        x = by_feedback(dense, layer, {"kernel": other, "bias": layer["bias"]})(x)
        x = nn.tanh(x) if n < 2 else x
    return x


@pytest.fixture
def aligned(pair, x64):
    found = pair("patterns/feedback_alignment")
    x = jax.random.normal(jax.random.key(1), (3, 4, 4, 2))
    variables = found.plain.Network().init(KEY, x)
    assert_same(found.lifted.Network().init(KEY, x), variables)
    return found, double(variables), x


def loss_of(module, variables, x):
    return lambda params: (module.apply({**variables, "params": params}, x) ** 2).sum()


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_feedback_alignment(aligned, wrap):
    found, variables, x = aligned
    params = variables["params"]
    reference = lambda p: (by_hand(p, variables["feedback"], x) ** 2).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(wrap(loss_of(found.lifted.Network(), variables, x))))(params)
    assert_same(gradient, jax.jit(jax.grad(reference))(params), rtol=1e-12)
    true = jax.jit(jax.grad(loss_of(found.plain.Network(), variables, x)))(params)
    last, first = "FeedbackDense_1", "FeedbackDense_0"
    assert_same(gradient[last], true[last], rtol=1e-12)
    assert abs(gradient[first]["kernel"] - true[first]["kernel"]).max() > 1e-2


def test_feedback_alignment_per_example(aligned):
    """vmap over examples: the sum of their gradients is the gradient of the batch."""
    found, variables, x = aligned
    gradient = lambda x: jax.grad(loss_of(found.lifted.Network(), variables, x))(  # noqa: E731
        variables["params"]
    )
    each = jax.jit(jax.vmap(gradient))(x[:, None])
    assert_same(jax.tree.map(lambda g: g.sum(0), each), jax.jit(gradient)(x), rtol=1e-12)


def test_feedback_alignment_learns(aligned):
    found, variables, x = aligned
    y = jnp.stack([x[:, 0, 0, 0], x[:, 1, 1, 1]], -1)
    module = found.lifted.Network()

    @jax.jit
    def step(params, _):
        def loss(params):
            return ((module.apply({**variables, "params": params}, x) - y) ** 2).sum()

        value, gradient = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.02 * g, params, gradient), value

    _, losses = jax.lax.scan(step, variables["params"], None, 300)
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_direct_feedback_alignment(pair, x64, wrap):
    found = pair("patterns/direct_feedback_alignment")
    x = jax.random.normal(jax.random.key(1), (3, 4))
    target = jax.random.normal(jax.random.key(2), (3, 2))
    plain, lifted = (part.DirectFeedback((6, 5, 4), 2) for part in (found.plain, found.lifted))
    variables = plain.init(KEY, x)
    assert_same(lifted.init(KEY, x), variables)
    variables = double(variables)
    assert_same(lifted.apply(variables, x), plain.apply(variables, x))

    def loss(params, x):
        return 0.5 * ((lifted.apply({**variables, "params": params}, x) - target) ** 2).sum()

    params_t, x_t = jax.jit(jax.grad(wrap(loss), (0, 1)))(variables["params"], x)
    assert_same(x_t, jnp.zeros_like(x))

    # in closed form: a tanh layer at the error times its matrix
    params = jax.tree.map(np.asarray, variables["params"])
    above, activations = np.asarray(x), []
    for n in range(3):
        layer = params[f"layers_{n}"]
        activations.append(above)
        above = np.tanh(above @ layer["kernel"] + layer["bias"])
    activations.append(above)
    error = above @ params["readout"]["kernel"] + params["readout"]["bias"] - np.asarray(target)
    expected = {"readout": {"kernel": above.T @ error, "bias": error.sum(0)}}
    for n in range(3):
        matrix = np.asarray(variables["feedback"][f"matrix_{n}"])
        delta = (error @ matrix) * (1 - activations[n + 1] ** 2)
        expected[f"layers_{n}"] = {"kernel": activations[n].T @ delta, "bias": delta.sum(0)}
    assert_same(params_t, jax.tree.map(jnp.asarray, expected), rtol=1e-12)
