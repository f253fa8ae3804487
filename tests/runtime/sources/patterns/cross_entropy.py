"""Cross entropy over a large vocabulary, a chunk of it at a time, by weights that are shared."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

import vjpgen

IGNORE = -1


def chunks_of(table, size):
    """Part the rows of the embedding table."""
    return table.reshape(-1, size, table.shape[-1])


def loss_fwd(embed, hidden, labels, chunk, z_weight):
    """Run over the chunks with a running maximum and sum; save one logsumexp a token."""
    table = embed.embedding

    def step(carry, part):
        greatest, total, correct = carry
        number, rows = part
        logits = hidden @ rows.T
        after = jnp.maximum(greatest, logits.max(-1))
        total = jnp.exp(greatest - after) * total + jnp.exp(logits - after[:, None]).sum(-1)
        place = labels - number * chunk
        here = (place >= 0) & (place < chunk)
        picked = jnp.take_along_axis(logits, jnp.clip(place, 0, chunk - 1)[:, None], 1)[:, 0]
        return (after, total, jnp.where(here, picked, correct)), None

    zeros = jnp.zeros_like(hidden[:, 0])
    chunks = chunks_of(table, chunk)
    parts = jnp.arange(chunks.shape[0]), chunks
    (greatest, total, correct), _ = jax.lax.scan(step, (zeros - jnp.inf, zeros, zeros), parts)
    logsumexp = greatest + jnp.log(total)
    counted = labels != IGNORE
    tokens = jnp.maximum(counted.sum(), 1)
    each = logsumexp - correct + z_weight * logsumexp**2
    loss = jnp.where(counted, each, 0).sum() / tokens
    return (loss, logsumexp), (vjpgen.snapshot(embed), hidden, labels, logsumexp)


def loss_bwd(chunk, z_weight, residuals, tangents):
    """Recompute the logits of each chunk; the logsumexps are for logs, their tangent is ignored."""
    snapshot, hidden, labels, logsumexp = residuals
    loss_t, _ = tangents
    table = snapshot.module().embedding
    counted = labels != IGNORE
    weight = jnp.where(counted, loss_t / jnp.maximum(counted.sum(), 1), 0)
    of_softmax = weight * (1 + 2 * z_weight * logsumexp)

    def step(hidden_t, part):
        number, rows = part
        softmax = jnp.exp(hidden @ rows.T - logsumexp[:, None])
        target = jax.nn.one_hot(labels - number * chunk, chunk, dtype=hidden.dtype)
        logits_t = softmax * of_softmax[:, None] - target * weight[:, None]
        return hidden_t + logits_t @ rows, logits_t.T @ hidden

    chunks = chunks_of(table, chunk)
    parts = jnp.arange(chunks.shape[0]), chunks
    hidden_t, table_t = jax.lax.scan(step, jnp.zeros_like(hidden), parts)
    return {"params": {"embedding": table_t.reshape(table.shape)}}, hidden_t, None


# custom-vjp: fwd=loss_fwd, bwd=loss_bwd, nondiff_argnames=(chunk, z_weight)
# custom-vjp: surrogate=(embed, hidden), example=example
def chunked_loss(embed: nn.Module, hidden, labels, chunk=4, z_weight=1e-2):
    """Return the mean loss of the tokens whose label counts, and the logsumexp of each token.

    Args:
        embed: the embedding; its rows are the weights of the readout, too.
        hidden: one row a token.
        labels: integers; `IGNORE` where a token does not count.
        chunk: how many words to look at at a time; it divides the vocabulary.
        z_weight: the weight of the squared logsumexp, which keeps logits small.
    """
    return loss_fwd(embed, hidden, labels, chunk, z_weight)[0]


class LanguageModel(nn.Module):
    """Embed, mix, and predict by the same embedding."""

    vocabulary: int
    width: int

    @nn.compact
    def __call__(self, tokens, labels):
        embed = nn.Embed(self.vocabulary, self.width)
        hidden = nn.tanh(nn.Dense(self.width)(embed(tokens)))
        loss, logsumexp = chunked_loss(embed, hidden, labels)
        self.sow("intermediates", "logsumexp", logsumexp)
        return loss


def example(key):
    """Return an embedding, hidden states and labels, one of which does not count."""
    hidden = jax.random.normal(key, (5, 3))
    embed = nn.Embed(8, 3)
    labels = jnp.array([0, 7, IGNORE, 3, 3])
    return embed.bind(embed.init(key, labels)), hidden, labels
