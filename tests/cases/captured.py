"""Rules that take values from the functions around them."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def loss(params, batch, *, temperature: float = 1.0, **options: bool):
    scale = 1 / len(batch)
    low, (high, *_) = -1.0, (1.0, 2.0)
    with jax.named_scope("offset"):
        offset = jnp.sin(params).sum()
    if options:
        factor = 2.0
    else:
        factor = 3.0

    def clipped(y_t):
        return y_t.clip(low, high) * factor

    tanh = jax.jit(lambda t: jnp.tanh(t))

    # custom-vjp: bwd=jax.tree_util.Partial(backward, temperature), missing=autodiff
    def shifted(x):
        return tanh(x) + offset

    def backward(temperature, vjp_fn, y_t):
        return vjp_fn(clipped(y_t) * scale * late / temperature)

    late = 2.0
    return shifted(params * batch).sum()


class Mixed(nn.Module):
    features: int
    limit: float

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        dense = nn.Dense(self.features)
        running_mean_of_inputs = inputs.mean()
        running_deviation_of_inputs = inputs.std()
        if self.features > 2:

            def forward(x, part):
                return jax.vjp(normalized, x, part)

            def backward(vjp_fn, y_t):
                return vjp_fn(y_t.clip(-self.limit, self.limit))

            # custom-vjp: fwd=forward, bwd=backward
            def normalized(x, part):
                centred = x - running_mean_of_inputs
                return dense(centred / running_deviation_of_inputs) + part

            return normalized(inputs, inputs[:1, :1])
        return inputs


def make(width: int, gain):
    class Scaled(nn.Module):
        # custom-vjp: bwd=backward
        @nn.compact
        def __call__(self, x):
            return nn.Dense(width)(x)

        def backward(self, vjp_fn, y_t):
            return vjp_fn(gain * y_t)

    return Scaled()
