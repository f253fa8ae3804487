"""Attention block by block: the backward pass recomputes each block from the logsumexp."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

LEAST = -1e30  # stands for minus infinity, where differences have to stay numbers


def blocks_of(x, size, axis=0):
    """Part an axis into blocks, and put their number first."""
    axis %= x.ndim
    shape = (*x.shape[:axis], x.shape[axis] // size, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(x.reshape(shape), axis, 0)


def joined(blocks):
    """Undo `blocks_of` along the first axis."""
    return blocks.reshape(-1, *blocks.shape[2:])


def scores_of(q, k, mask):
    """Compute one block of masked scores."""
    return jnp.where(mask, q @ k.T * q.shape[-1] ** -0.5, LEAST)


def flash_fwd(q, k, v, mask, block):
    """Walk over the blocks of keys with a running maximum, sum and average."""

    def step(carry, part):
        greatest, total, average = carry
        k, v, mask = part
        scores = scores_of(q, k, mask)
        after = jnp.maximum(greatest, scores.max(-1))
        weights = jnp.where(mask, jnp.exp(scores - after[:, None]), 0)
        shrink = jnp.exp(greatest - after)
        average = shrink[:, None] * average + weights @ v
        return (after, shrink * total + weights.sum(-1), average), None

    start = (
        jnp.full(q.shape[0], LEAST, q.dtype),
        jnp.zeros(q.shape[0], q.dtype),
        jnp.zeros((q.shape[0], v.shape[-1]), v.dtype),
    )
    parts = blocks_of(k, block), blocks_of(v, block), blocks_of(mask, block, -1)
    (greatest, total, average), _ = jax.lax.scan(step, start, parts)
    total = jnp.where(total == 0, 1, total)  # a row that sees nothing gives zeros
    y = average / total[:, None]
    return y, (q, k, v, mask, y, greatest + jnp.log(total))


def flash_bwd(block, residuals, y_t):
    """Recompute the weights of each block; no matrix of all scores is ever made."""
    q, k, v, mask, y, logsumexp = residuals
    inner = (y * y_t).sum(-1)
    scale = q.shape[-1] ** -0.5

    def step(q_t, part):
        k, v, mask = part
        weights = jnp.where(mask, jnp.exp(scores_of(q, k, mask) - logsumexp[:, None]), 0)
        scores_t = weights * (y_t @ v.T - inner[:, None]) * scale
        return q_t + scores_t @ k, (scores_t.T @ q, weights.T @ y_t)

    parts = blocks_of(k, block), blocks_of(v, block), blocks_of(mask, block, -1)
    q_t, (k_t, v_t) = jax.lax.scan(step, jnp.zeros_like(q), parts)
    return q_t, joined(k_t), joined(v_t), None


# custom-vjp: fwd=flash_fwd, bwd=flash_bwd, nondiff_argnames=block, exact=(q, k, v), example=example
def flash_attention(q, k, v, mask, block=4):
    """Attend from `q` to `k` and `v` where the boolean `mask` says so; a row that sees none is 0.

    One head of one example; the block divides the number of keys.
    """
    return flash_fwd(q, k, v, mask, block)[0]


def attention_fn(query, key, value, bias=None, mask=None, block=4, **unused):
    """Take the place of Flax's `dot_product_attention`, in its layout: batch, length, head."""
    if mask is None:
        mask = jnp.ones((query.shape[0], 1, query.shape[1], key.shape[1]), bool)
    mask = jnp.broadcast_to(mask, (mask.shape[0], query.shape[2], *mask.shape[2:]))
    one = functools.partial(flash_attention, block=block)
    over_heads = jax.vmap(one, (1, 1, 1, 0), 1)
    return jax.vmap(over_heads)(query, key, value, mask)


def example(key):
    """Return queries, keys, values and a causal mask."""
    q, k, v = jax.random.normal(key, (3, 8, 4))
    return q, k, v, jnp.tril(jnp.ones((8, 8), bool))
