"""Cross entropy in chunks against the whole logits."""

from __future__ import annotations

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same, double

TOKENS = jnp.array([3, 7, 0, 11, 5])
LABELS = jnp.array([1, -1, 11, 4, -1])


@pytest.fixture
def entropy(pair, x64):
    return pair("patterns/cross_entropy")


def naive(table, hidden, labels, z_weight=1e-2):
    logits = hidden @ table.T
    logsumexp = jax.scipy.special.logsumexp(logits, axis=-1)
    counted = labels != -1
    correct = jnp.take_along_axis(logits, jnp.where(counted, labels, 0)[:, None], 1)[:, 0]
    each = jnp.where(counted, logsumexp - correct + z_weight * logsumexp**2, 0)
    return each.sum() / jnp.maximum(counted.sum(), 1), logsumexp


def by_hand(params, tokens, labels):
    table = params["Embed_0"]["embedding"]
    hidden = nn.tanh(table[tokens] @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    return naive(table, hidden, labels)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "remat"])
def test_the_embedding_gets_both_gradients(entropy, wrap):
    """The table is read where the tokens enter and where the loss is: the tangents add up."""
    module = entropy.lifted.LanguageModel(12, 3)
    params = double(module.init(jax.random.key(0), TOKENS, LABELS)["params"])

    def loss(params):
        value, updates = module.apply({"params": params}, TOKENS, LABELS, mutable=["intermediates"])
        return value, updates["intermediates"]["logsumexp"][0]

    found = jax.jit(jax.value_and_grad(wrap(loss), has_aux=True))(params)
    reference = jax.jit(jax.value_and_grad(by_hand, has_aux=True))
    assert_same(found, reference(params, TOKENS, LABELS), rtol=1e-12)


def test_the_tangent_of_the_logsumexp_is_ignored(entropy):
    embed = nn.Embed(12, 3)
    hidden = jax.random.normal(jax.random.key(1), (5, 3))
    params = double(embed.init(jax.random.key(0), TOKENS))

    def loss(weight, params, hidden):
        def run(embed):
            value, logsumexp = entropy.lifted.chunked_loss(
                embed, hidden, labels=LABELS, chunk=3, z_weight=0.5
            )
            return value + weight * logsumexp.sum()

        return nn.apply(run, embed)(params)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jax.jit(jax.grad(loss, (1, 2)))(7.0, params, hidden)
    reference = jax.jit(jax.grad(lambda t, h: naive(t, h, LABELS, 0.5)[0], (0, 1)))
    expected = reference(params["params"]["embedding"], hidden)
    assert_same((found[0]["params"]["embedding"], found[1]), expected, rtol=1e-12)

    # no token counts: nothing to divide by, nothing to learn
    @jax.jit
    @jax.grad
    def nothing(params):
        run = lambda embed: entropy.lifted.chunked_loss(embed, hidden, jnp.full(5, -1))[0]  # noqa: E731
        return nn.apply(run, embed)(params)

    assert_same(nothing(params), jax.tree.map(jnp.zeros_like, params))


def test_a_batch_of_sequences(entropy):
    """vmap over sequences of the whole model: one mean a sequence."""
    module = entropy.lifted.LanguageModel(12, 3)
    params = double(module.init(jax.random.key(0), TOKENS, LABELS)["params"])
    tokens, labels = jnp.stack([TOKENS, TOKENS[::-1]]), jnp.stack([LABELS, LABELS[::-1] // 2])

    def total(one):
        return lambda params: jax.vmap(lambda t, n: one(params, t, n))(tokens, labels).sum()

    found = jax.jit(jax.grad(total(lambda p, t, n: module.apply({"params": p}, t, n))))(params)
    expected = jax.jit(jax.grad(total(lambda p, t, n: by_hand(p, t, n)[0])))(params)
    assert_same(found, expected, rtol=1e-12)
