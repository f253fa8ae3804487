"""A module in `setup` style: rules that are methods, keywords of every kind."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Head(nn.Module):
    features: int
    scale: float = 1.0

    def setup(self):
        self.inner = nn.Dense(self.features)
        self.adapter = nn.Dense(self.features)

    def encode_fwd(self, x, mask=None, *, train: bool = False, **extra: Any):
        y, vjp_fn = nn.vjp(Head.encode, self, x, mask)
        return y, vjp_fn

    def encode_bwd(self, train, vjp_fn, y_t):
        variables_t, x_t, mask_t = vjp_fn(y_t * self.scale)
        return variables_t, x_t, mask_t, None

    # custom-vjp: fwd=encode_fwd, bwd=encode_bwd
    # custom-vjp: grad_vars=(params, adapters), nondiff_argnames=train
    # custom-vjp: missing=autodiff
    @nn.nowrap
    def encode(self, x, mask=None, *, train: bool = False, **extra: Any):
        y = self.inner(x) + self.adapter(x)
        return y if mask is None else y * mask

    @staticmethod
    def sign_bwd(vjp_fn, y_t):
        params_t, *inputs_t = vjp_fn(y_t)
        return (jax.tree.map(jnp.sign, params_t), *inputs_t)

    # custom-vjp: bwd=sign_bwd
    def __call__(self, *inputs):
        return self.encode(sum(inputs))
