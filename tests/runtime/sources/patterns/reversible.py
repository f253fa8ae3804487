"""Reversible blocks: the backward pass recomputes the inputs from the outputs (RevNet)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

import vjpgen


class Branch(nn.Module):
    """What a block adds to one half of its input; dropout takes its key as an argument."""

    features: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, key):
        x = nn.tanh(nn.Dense(2 * self.features)(nn.LayerNorm()(x)))
        x = nn.Dropout(self.dropout, deterministic=False)(x, rng=key)
        return nn.Dense(self.features)(x)


def keys_of(key, number):
    """Return the keys of the two branches of one block."""
    return jax.random.split(jax.random.fold_in(key, number))


def run_fwd(blocks, x, y, key):
    """Save the outputs of the last block alone."""
    x, y = run(blocks, x, y, key)
    return (x, y), (vjpgen.snapshot(blocks), x, y, key)


def run_bwd(residuals, tangents):
    """Go back block by block: reconstruct its input, then differentiate its branches there."""
    snapshot, x, y, key = residuals
    x_t, y_t = tangents
    blocks = snapshot.module()
    blocks_t = []
    for number, (f, g) in reversed(list(enumerate(blocks))):
        f_key, g_key = keys_of(key, number)
        out, g_vjp = vjpgen.vjp(lambda g, x, key=g_key: g(x, key), g, x)
        y = y - out
        g_t, from_y = g_vjp(y_t)
        x_t = x_t + from_y
        out, f_vjp = vjpgen.vjp(lambda f, y, key=f_key: f(y, key), f, y)
        x = x - out
        f_t, from_x = f_vjp(x_t)
        y_t = y_t + from_x
        blocks_t.insert(0, (f_t, g_t))
    return blocks_t, x_t, y_t, None


# custom-vjp: fwd=run_fwd, bwd=run_bwd, exact=True, example=example
def run(blocks: Sequence[tuple[nn.Module, nn.Module]], x, y, key):
    """Run the blocks, each a pair of modules F and G: x += F(y), then y += G(x)."""
    for number, (f, g) in enumerate(blocks):
        f_key, g_key = keys_of(key, number)
        x = x + f(y, f_key)
        y = y + g(x, g_key)
    return x, y


class RevNet(nn.Module):
    """A stack of reversible blocks between two dense layers."""

    features: int
    depth: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x):
        branch = lambda n, name: Branch(self.features, self.dropout, name=f"{name}{n}")  # noqa: E731
        blocks = [(branch(n, "f"), branch(n, "g")) for n in range(self.depth)]
        key = self.make_rng("dropout") if self.dropout else jax.random.key(0)
        x, y = jnp.split(nn.Dense(2 * self.features)(x), 2, -1)
        return nn.Dense(3)(jnp.concatenate(run(blocks, x, y, key), -1))


def example(key):
    """Return two blocks, both halves of a batch and the key of their dropout."""
    blocks = [(Branch(3, 0.4), Branch(3, 0.4)) for _ in range(2)]
    return blocks, *jax.random.normal(key, (2, 5, 3)), key
