"""A mixture of experts whose dispatch is a permutation, and so is its backward pass."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def permute_fwd(x, order, inverse):
    return x[order], inverse


def permute_bwd(inverse, y_t):
    """Gather by the inverse permutation; autodiff would scatter and add."""
    return y_t[inverse], None, None


# custom-vjp: fwd=permute_fwd, bwd=permute_bwd, exact=x, example=example
def permute(x, order, inverse):
    """Put rows into another order; `inverse` is the inverse permutation."""
    return x[order]


class Mixture(nn.Module):
    """Each token goes to its two best experts, as far as they have room."""

    experts: int
    capacity: int
    features: int

    @nn.compact
    def __call__(self, x):
        tokens, width = x.shape
        draw = nn.initializers.lecun_normal(batch_axis=0)
        gates = nn.softmax(nn.Dense(self.experts, use_bias=False, name="router")(x))
        kernel_in = self.param("in", draw, (self.experts, width, self.features))
        kernel_out = self.param("out", draw, (self.experts, self.features, width))

        # one row for each choice of each token, first choices first
        best, chosen = jax.lax.top_k(gates, 2)
        best = best / best.sum(-1, keepdims=True)
        chosen, best = chosen.T.reshape(-1), best.T.reshape(-1)
        rank = (jnp.cumsum(jax.nn.one_hot(chosen, self.experts, dtype=jnp.int32), 0) - 1)[
            jnp.arange(2 * tokens), chosen
        ]

        # the choices fill places for each expert; what finds no room goes to the end, and so do
        # rows of zeros that fill the places which stay empty
        places = self.experts * self.capacity
        kept = rank < self.capacity
        place = jnp.where(kept, chosen * self.capacity + rank, places)
        taken = jnp.zeros(places, bool).at[place].set(True, mode="drop")
        free = jnp.where(taken, places, jnp.arange(places))
        order = jnp.argsort(jnp.concatenate([place, free]), stable=True)
        inverse = jnp.argsort(order)

        rows = jnp.concatenate([x, x, jnp.zeros((places, width), x.dtype)])
        ordered = permute(rows, order, inverse)
        batches = ordered[:places].reshape(self.experts, self.capacity, width)
        hidden = nn.gelu(jnp.einsum("ecd,edf->ecf", batches, kernel_in))
        out = jnp.einsum("ecf,efd->ecd", hidden, kernel_out).reshape(places, width)
        out = jnp.concatenate([out, jnp.zeros_like(ordered[places:])])
        returned = permute(out, inverse, order)[: 2 * tokens]
        weighted = jnp.where(kept, best, 0)[:, None] * returned
        return weighted[:tokens] + weighted[tokens:]


def example(key):
    """Return rows, and a permutation with its inverse."""
    rows_key, order_key = jax.random.split(key)
    order = jax.random.permutation(order_key, 6)
    return jax.random.normal(rows_key, (6, 3)), order, jnp.argsort(order)
