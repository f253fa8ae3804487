"""A network of few-bit weights and activations, after Bengio et al. (2013)."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def quantise_fwd(x, bits):
    """Save the input, which says where the quantiser saturates."""
    return quantise(x, bits), x


def quantise_bwd(bits, x, y_t):
    """Pass the gradient straight through, except where the input lies outside [-1, 1]."""
    return (jnp.where(jnp.abs(x) <= 1, y_t, 0),)


# custom-vjp: fwd=quantise_fwd, bwd=quantise_bwd, nondiff_argnames=bits
# custom-vjp: surrogate=x, example=example
def quantise(x, bits):
    """Round to the nearest of 2**bits - 1 evenly spaced values from -1 to 1."""
    steps = 2 ** (bits - 1) - 1
    return jnp.round(jnp.clip(x, -1, 1) * steps) / steps


def example(key):
    """Give vjpgen values to inspect and verify the rule on, and a number of bits."""
    return jax.random.normal(key, (128, 64)), 2


def between_minus_one_and_one(key, shape):
    """Draw the latent weights over the quantiser's whole range."""
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


class QuantisedDense(nn.Module):
    """A dense layer that computes with quantised weights and gives out quantised activations."""

    features: int
    bits: int

    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", between_minus_one_and_one, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = x @ quantise(kernel, self.bits) * (2 / x.shape[-1] ** 0.5) + bias
        return quantise(y, self.bits)


class Classifier(nn.Module):
    """Two quantised layers and a readout in full precision."""

    width: int = 64
    bits: int = 2

    @nn.compact
    def __call__(self, x):
        x = QuantisedDense(self.width, self.bits)(x)
        x = QuantisedDense(self.width, self.bits)(x)
        return nn.Dense(10)(x)
