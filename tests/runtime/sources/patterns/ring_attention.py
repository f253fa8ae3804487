"""Attention over a ring of devices: keys and values go round, and so do their gradients."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def around(tree, axis_name):
    """Hand a tree on to the next device of the ring."""
    size = jax.lax.axis_size(axis_name)
    pairs = [(n, (n + 1) % size) for n in range(size)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, pairs), tree)


def visible(step, q, k, axis_name):
    """Say which keys of the block that has come `step` devices along a query may see (causal)."""
    size, here = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
    rows = here * q.shape[0] + jnp.arange(q.shape[0])
    columns = (here - step) % size * k.shape[0] + jnp.arange(k.shape[0])
    return rows[:, None] >= columns[None]


def scores_of(q, k, seen):
    """Compute the masked scores of one block."""
    return jnp.where(seen, q @ k.T * q.shape[-1] ** -0.5, -jnp.inf)


def ring_fwd(q, k, v, axis_name):
    """Attend to each block as it passes by; the first is the device's own, so no row is empty."""

    def step(carry, n):
        (k, v), greatest, total, average = carry
        scores = scores_of(q, k, visible(n, q, k, axis_name))
        after = jnp.maximum(greatest, scores.max(-1))
        weights, shrink = jnp.exp(scores - after[:, None]), jnp.exp(greatest - after)
        average = shrink[:, None] * average + weights @ v
        total = shrink * total + weights.sum(-1)
        return (around((k, v), axis_name), after, total, average), None

    zero = 0 * q[:, 0]  # varies over the ring as the queries do
    start = ((k, v), zero - jnp.inf, zero, zero[:, None] * v[:1])
    steps = jnp.arange(jax.lax.axis_size(axis_name))
    (_, greatest, total, average), _ = jax.lax.scan(step, start, steps)
    y = average / total[:, None]
    return y, (q, k, v, y, greatest + jnp.log(total))


def ring_bwd(axis_name, residuals, y_t):
    """Go round once more; the gradients of keys and values travel along with them."""
    q, k, v, y, logsumexp = residuals
    inner, scale = (y * y_t).sum(-1), q.shape[-1] ** -0.5

    def step(carry, n):
        q_t, (k, v, k_t, v_t) = carry
        seen = visible(n, q, k, axis_name)
        weights = jnp.exp(scores_of(q, k, seen) - logsumexp[:, None])
        scores_t = weights * (y_t @ v.T - inner[:, None]) * scale
        k_t, v_t = k_t + scores_t.T @ q, v_t + weights.T @ y_t
        return (q_t + scores_t @ k, around((k, v, k_t, v_t), axis_name)), None

    start = jnp.zeros_like(q), (k, v, jnp.zeros_like(k), jnp.zeros_like(v))
    steps = jnp.arange(jax.lax.axis_size(axis_name))
    (q_t, (_, _, k_t, v_t)), _ = jax.lax.scan(step, start, steps)
    return q_t, k_t, v_t


# custom-vjp: fwd=ring_fwd, bwd=ring_bwd, nondiff_argnames=axis_name, exact=True
def ring_attention(q, k, v, axis_name):
    """Attend causally over a sequence whose blocks lie on the devices of `axis_name`."""
    return ring_fwd(q, k, v, axis_name)[0]


def sharded(mesh, attention=ring_attention):
    """Return attention over whole arrays whose rows lie along the mesh's axis `ring`."""
    rows = jax.sharding.PartitionSpec("ring")
    one = functools.partial(attention, axis_name="ring")
    return jax.shard_map(one, mesh=mesh, in_specs=rows, out_specs=rows)
