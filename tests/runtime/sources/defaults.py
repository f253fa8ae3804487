"""Annotated functions whose defaults are values of the function around them."""

from __future__ import annotations

import functools

import flax.linen as nn


def logged(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs)

    return wrapper


class Defaults(nn.Module):
    """A parameter is the default of two arguments, each with a slot of its own."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.constant(3.0), ())

        # custom-vjp: bwd=bwd
        def f(mdl, x, w=w, *, b=w):
            return w * mdl(x) + b

        def bwd(vjp_fn, y_t):
            mdl_t, x_t, w_t, b_t = vjp_fn(y_t)
            return mdl_t, x_t, 2 * w_t, 10 * b_t

        return f(nn.Dense(3), x)


class Decorated(nn.Module):
    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.constant(3.0), ())

        # custom-vjp: bwd=bwd
        @logged
        def f(mdl, x, w=w):
            return w * mdl(x)

        def bwd(vjp_fn, y_t):
            mdl_t, x_t, w_t = vjp_fn(y_t)
            return mdl_t, x_t, 2 * w_t

        return f(nn.Dense(3), x)
