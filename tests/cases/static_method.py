import functools as ft

import jax.numpy as jnp


class Rounding:
    """Straight-through estimators, kept together."""

    levels = 4

    @staticmethod
    def through(vjp_fn, y_t):
        return (y_t,)

    # custom-vjp: bwd=through
    @staticmethod
    def to_integer(x):
        return jnp.round(x)

    # custom-vjp: bwd=ft.partial(scaled, levels)
    @staticmethod
    def to_level(x):
        return jnp.round(x * Rounding.levels) / Rounding.levels


class Outer:
    class Inner:
        # custom-vjp: bwd=lambda vjp_fn, y_t: (None, y_t)
        def __call__(self, x):
            return jnp.sign(x)

        # custom-vjp: bwd=ft.partial(scaled, 'a string', wanted=1, with_a_long_name=[1, 2])
        @staticmethod
        def long(x):
            return x


halved = ft.partial(jnp.multiply, 0.5)


def scaled(levels, vjp_fn, y_t, **options):
    return (y_t / levels,)
