"""RTRL equals backpropagation through time; e-prop equals its formula."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runtime.compare import assert_same, double

KEY = jax.random.key(0)


@pytest.fixture
def online(pair, x64):
    return pair("patterns/online_recurrence")


def weights(shape):
    return jnp.cos(jnp.arange(np.prod(shape))).reshape(shape)


def scanned(cls, features):
    """The cell over a batch of sequences."""
    batched = nn.vmap(cls, in_axes=0, variable_axes={"params": None}, split_rngs={"params": False})
    return nn.scan(
        batched, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
    )(features)


def plain_loss(cell, params, xs):
    """Backpropagation through time by autodiff of the plain cell, all states in the loss."""
    h, total = jnp.zeros((xs.shape[0], cell.features)), 0.0
    seeds = weights((xs.shape[1], xs.shape[0], cell.features))
    for t in range(xs.shape[1]):
        h = cell.apply({"params": params}, h, xs[:, t], method="advance")
        total += (seeds[t] * h**2).sum()
    return total


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "remat"])
def test_rtrl_equals_backpropagation_through_time(online, wrap):
    xs = jax.random.normal(jax.random.key(1), (2, 6, 3))
    cell = online.plain.RtrlCell(4)
    params = double(cell.init(KEY, jnp.zeros(4), xs[0, 0], method="advance")["params"])

    def loss(params, xs):
        module = scanned(online.lifted.RtrlCell, 4)
        carry = jax.tree.map(lambda v: jnp.stack([v] * 2), cell.initial(params))
        carry = jax.lax.stop_gradient(carry)
        _, hs = module.apply({"params": params}, carry, xs)
        return (weights((6, 2, 4)) * jnp.moveaxis(hs, 1, 0) ** 2).sum()

    found = jax.jit(jax.value_and_grad(wrap(loss)))(params, xs)
    expected = jax.jit(jax.value_and_grad(lambda p: plain_loss(cell, p, xs)))(params)
    assert_same(found, expected, rtol=1e-10)


def test_rtrl_step_by_step(online):
    """Online: one call a step, the gradients added up; the parameters may move in between."""
    xs = jax.random.normal(jax.random.key(1), (1, 5, 3))
    plain, cell = online.plain.RtrlCell(4), online.lifted.RtrlCell(4)
    params = double(plain.init(KEY, jnp.zeros(4), xs[0, 0], method="advance")["params"])

    @jax.jit
    def step(params, carry, x, seed):
        def loss(params):
            carry_after, h = cell.apply({"params": params}, carry, x)
            return (seed * h**2).sum(), carry_after

        (_, carry_after), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return carry_after, gradient

    carry, total = cell.initial(params), jax.tree.map(jnp.zeros_like, params)
    seeds = weights((5, 1, 4))
    for t in range(5):
        carry, gradient = step(params, carry, xs[0, t], seeds[t, 0])
        total = jax.tree.map(jnp.add, total, gradient)
    assert_same(total, jax.jit(jax.grad(lambda p: plain_loss(plain, p, xs)))(params), rtol=1e-10)


def eprop_by_hand(params, xs, signals, decay=0.9, threshold=0.6):
    """The formula of e-prop, synapse by synapse and step by step, in numpy."""
    inputs, recurrent = (np.asarray(params[name]) for name in ("inputs", "recurrent"))
    (steps, batch, _), count = xs.shape, recurrent.shape[0]
    gradient = {"inputs": np.zeros_like(inputs), "recurrent": np.zeros_like(recurrent)}
    spikes = np.zeros((steps, batch, count))
    for b in range(batch):
        v, z = np.zeros(count), np.zeros(count)
        eligible = {"inputs": np.zeros(inputs.shape[0]), "recurrent": np.zeros(count)}
        for t in range(steps):
            for name, seen in (("inputs", xs[t, b]), ("recurrent", z)):
                eligible[name] = decay * eligible[name] + seen
            v = decay * v + xs[t, b] @ inputs + z @ recurrent - threshold * z
            z = (v > threshold).astype(float)
            slope = 0.3 * np.maximum(0, 1 - np.abs((v - threshold) / threshold))
            spikes[t, b] = z
            for name, trace in eligible.items():
                gradient[name] += trace[:, None] * (signals[t, b] * slope)[None]
    return spikes, gradient


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "remat"])
def test_eprop(online, wrap):
    xs = np.abs(np.random.default_rng(0).normal(size=(7, 2, 3)))
    cell = online.lifted.EpropCell(4)
    variables = double(cell.init(KEY, xs[0]))
    signals = np.asarray(weights((7, 2, 4)))

    class Sequence(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return nn.scan(
                lambda cell, _, x: (None, cell(x)),
                variable_broadcast="params",
                variable_carry="neurons",
                split_rngs={"params": False},
            )(online.lifted.EpropCell(4, name="cell"), None, xs)[1]

    def loss(params, state):
        both = {"params": {"cell": params}, "neurons": {"cell": state}}
        spikes, updates = Sequence().apply(both, xs, mutable=["neurons"])
        return (signals * spikes).sum(), (spikes, updates["neurons"]["cell"])

    derive = jax.jit(jax.grad(wrap(loss), has_aux=True))
    gradient, (spikes, state) = derive(variables["params"], variables["neurons"])
    expected_spikes, expected = eprop_by_hand(variables["params"], xs, signals)
    assert 0.1 < expected_spikes.mean() < 0.9
    assert_same(spikes, jnp.asarray(expected_spikes))
    assert_same(gradient, jax.tree.map(jnp.asarray, expected), rtol=1e-12)

    # one call a step: the state goes through the module's updates
    state_now, total = variables["neurons"], jax.tree.map(jnp.zeros_like, gradient)

    @jax.jit
    def step(params, state, x, signal):
        def loss(params):
            spikes, updates = cell.apply(
                {"params": params, "neurons": state}, x, mutable=["neurons"]
            )
            return (signal * spikes).sum(), updates["neurons"]

        return jax.grad(loss, has_aux=True)(params)

    for t in range(7):
        one, state_now = step(variables["params"], state_now, xs[t], signals[t])
        total = jax.tree.map(jnp.add, total, one)
    assert_same(total, gradient, rtol=1e-12)
    assert_same(state_now, state, rtol=1e-12)
