"""Feedback alignment as most projects write it: rules nested beside the function."""

from __future__ import annotations

import flax.linen as nn
import jax


class AlignedDense(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def fwd(mdl, x, feedback):
            y, vjp_fn = nn.vjp(f, mdl, x, feedback)
            return y, (vjp_fn, feedback)

        def bwd(residuals, y_t):
            vjp_fn, feedback = residuals
            params_t, _, _ = vjp_fn(y_t)
            return params_t, y_t @ feedback.T, None

        # custom-vjp: fwd=fwd, bwd=bwd
        def f(mdl: nn.Dense, x: jax.Array, feedback: jax.Array) -> jax.Array:
            return mdl(x)

        init = nn.initializers.lecun_normal()
        feedback = self.param("feedback", init, (x.shape[-1], self.features))
        return f(nn.Dense(self.features), x, feedback)


class Clipped(nn.Module):
    limit: float

    @nn.compact
    def __call__(self, x):
        if self.limit > 0:
            # custom-vjp: bwd=bwd
            def f(self, x):
                return nn.Dense(4)(x)

        else:

            def f(self, x):
                return nn.Dense(4)(x)

        def bwd(vjp_fn, y_t):
            return vjp_fn(y_t.clip(-self.limit, self.limit))

        return f(self, x)
