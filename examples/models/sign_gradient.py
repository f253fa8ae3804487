"""The sign-gradient module of Flax's documentation, as a layer of a classifier."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def sign_bwd(vjp_fn, y_t):
    """Keep the sign of each parameter's gradient; let the inputs' gradient pass as it is."""
    params_t, *inputs_t = vjp_fn(y_t)
    return (jax.tree.map(jnp.sign, params_t), *inputs_t)


class SignDense(nn.Module):
    """A dense layer whose parameters all move by the same amount at each step."""

    features: int

    # custom-vjp: bwd=sign_bwd, surrogate=params, exact=x, example=example
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)


def example(key):
    """Give vjpgen a layer and a batch to inspect and verify the rule on."""
    return SignDense(64), jax.random.uniform(key, (128, 64))


class Classifier(nn.Module):
    """Two hidden layers and ten classes."""

    width: int = 64

    @nn.compact
    def __call__(self, x):
        x = nn.relu(SignDense(self.width)(x))
        x = nn.relu(SignDense(self.width)(x))
        return SignDense(10)(x)
