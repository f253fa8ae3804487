"""A mixture of experts by permutation against one by a sum over all experts."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runtime.compare import assert_same, double

X = jax.random.normal(jax.random.key(1), (6, 3))


@pytest.fixture
def mixture(pair, x64):
    return pair("patterns/mixture")


def gates_of(params, x):
    best, chosen = jax.lax.top_k(nn.softmax(x @ params["router"]["kernel"]), 2)
    return best / best.sum(-1, keepdims=True), chosen


def with_room(params, x, capacity):
    """Say by a loop which choices of which tokens have room: tokens, choices, experts."""
    chosen = np.asarray(gates_of(params, x)[1])
    room = np.full(params["router"]["kernel"].shape[1], capacity)
    mask = np.zeros((*chosen.shape, len(room)))
    for choice, token in np.ndindex(2, len(x)):
        expert = chosen[token, choice]
        if room[expert] > 0:
            room[expert] -= 1
            mask[token, choice, expert] = 1
    return mask


def naive(params, x, mask):
    """Compute every expert for every token, and sum what the mask lets through."""
    hidden = nn.gelu(jnp.einsum("td,edf->tef", x, params["in"]))
    out = jnp.einsum("tef,efd->ted", hidden, params["out"])
    return jnp.einsum("tc,tce,ted->td", gates_of(params, x)[0], mask, out)


@pytest.mark.parametrize("capacity", [2, 12])
def test_mixture(mixture, capacity):
    module = mixture.lifted.Mixture(3, capacity, 4)
    x = double(X)
    params = double(module.init(jax.random.key(0), X)["params"])
    mask = with_room(params, x, capacity)
    y = jax.jit(naive)(params, x, mask)
    assert (mask.sum() < 12) == (capacity == 2)
    assert_same(jax.jit(module.apply)({"params": params}, x), y, rtol=1e-12)
    reference = jax.jit(jax.grad(lambda p, x: jnp.vdot(y, naive(p, x, mask)), (0, 1)))
    expected = reference(params, x)
    loss = lambda p, x: jnp.vdot(y, module.apply({"params": p}, x))  # noqa: E731
    wrap = jax.checkpoint if capacity == 2 else jax.jit
    assert_same(jax.jit(jax.grad(wrap(loss), (0, 1)))(params, x), expected, rtol=1e-12)


def test_groups_by_vmap(mixture):
    module = mixture.lifted.Mixture(3, 2, 4)
    variables = module.init(jax.random.key(0), X)
    groups = jnp.stack([X, X[::-1] * 2])
    one = jax.grad(lambda v, x: (module.apply(v, x) ** 2).sum(), (0, 1))
    found = jax.jit(jax.vmap(one, (None, 0)))(variables, groups)
    each = [jax.jit(one)(variables, x) for x in groups]
    assert_same(found, jax.tree.map(lambda *parts: jnp.stack(parts), *each), rtol=1e-5)


def test_the_backward_pass_gathers(mixture):
    """Autodiff of a permutation scatters and adds; the rule gathers."""
    order = jnp.array([2, 0, 1, 4, 5, 3])

    def program(module):
        loss = lambda x: (module.permute(x, order, jnp.argsort(order)) ** 2).sum()  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(X)), jax.grad(loss)(X)

    lifted, plain = program(mixture.lifted), program(mixture.plain)
    assert "scatter" in plain[0]
    assert "scatter" not in lifted[0]
    assert_same(lifted[1], plain[1])
