"""How the function is called, and with what."""

from __future__ import annotations

import enum
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from tests.comparison.programs import (
    KEY,
    PARAMS,
    X,
    dense,
    dense_pullback,
    filled,
    gradients,
    linear,
    of_linen,
    of_nnx,
    twice,
    with_twice,
)
from tests.comparison.situation import Situation


class Scaled(Situation):
    """a rule on a layer, called by position"""

    def expected(self):
        return with_twice(lambda p, x: 3 * dense(p, x))

    def call(self, f: Any, first: Any, x: Any) -> Any:
        """Call the function: what the situations below differ in."""
        return f(first, x, 3.0)

    def linen(self):
        call = self.call

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, scale=1.0):
                    return scale * mdl(x)

                def fwd(mdl, x, scale=1.0):
                    return nn.vjp(f, mdl, x, scale)

                def bwd(vjp_fn, y_t):
                    mdl_t, *rest_t = vjp_fn(y_t)
                    return (twice(mdl_t), *rest_t)

                return call(nn.custom_vjp(f, fwd, bwd), nn.Dense(3), x)

        return of_linen(Net())

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x, scale=1.0):
            return scale * m(x)

        def fwd(m, x, scale=1.0):
            return f(m, x, scale), (m, x, scale)

        def bwd(residuals, g):
            (m_g, *_), y_t = g
            m, x, scale = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, scale * y_t)
            return filled(m_g, **twice(params_t)), x_t, (y_t * m(x)).sum()

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: self.call(f, m, x))

    def jax(self):
        @jax.custom_vjp
        def f(params, x, scale=1.0):
            return scale * dense(params, x)

        def fwd(params, x, scale=1.0):
            return f(params, x, scale), (params, x, scale)

        def bwd(residuals, y_t):
            params, x, scale = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, scale * y_t)
            return twice(params_t), x_t, (y_t * dense(params, x)).sum()

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: self.call(f, p, x))

    def vjpgen(self):
        call = self.call

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x, scale=1.0):
                    return scale * mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, *rest_t = vjp_fn(y_t)
                    return (twice(mdl_t), *rest_t)

                return call(f, nn.Dense(3), x)

        return of_linen(Net())


class Keyword(Scaled):
    """a keyword argument at the call site"""

    def call(self, f, first, x):
        return f(first, x, scale=3.0)


class KeywordEvaluated(Situation):
    """the same, with no gradient taken"""

    def expected(self):
        return 3 * dense(PARAMS, X)

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, scale=1.0):
                    return scale * mdl(x)

                def fwd(mdl, x, scale=1.0):
                    return nn.vjp(f, mdl, x, scale)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x, scale=3.0)

        return Net().apply({"params": {"Dense_0": PARAMS}}, X)

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x, scale=1.0):
            return scale * m(x)

        f.defvjp(lambda m, x, scale: (f(m, x, scale), None), lambda _, g: None)
        return f(linear(), X, scale=3.0)

    def jax(self):
        @jax.custom_vjp
        def f(params, x, scale=1.0):
            return scale * dense(params, x)

        f.defvjp(lambda params, x, scale: (f(params, x, scale), None), lambda _, y_t: None)
        return f(PARAMS, X, scale=3.0)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x, scale=1.0):
                    return scale * mdl(x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return f(nn.Dense(3), x, scale=3.0)

        return Net().apply({"params": {"Dense_0": PARAMS}}, X)


class Default(Scaled):
    """an argument left to its default"""

    def expected(self):
        return with_twice(dense)

    def call(self, f, first, x):
        return f(first, x)


class KeywordOnly(Situation):
    """a keyword-only argument"""

    def expected(self):
        return with_twice(lambda p, x: 3 * dense(p, x))

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, *, scale=1.0):
                    return scale * mdl(x)

                def fwd(mdl, x, *, scale=1.0):
                    return nn.vjp(lambda m, x: f(m, x, scale=scale), mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x, scale=3.0)

        return of_linen(Net())

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x, *, scale=1.0):
            return scale * m(x)

        def fwd(m, x, *, scale=1.0):
            return f(m, x, scale=scale), (m, x, scale)

        def bwd(residuals, g):
            (m_g, *_), y_t = g
            m, x, scale = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, scale * y_t)
            return filled(m_g, **twice(params_t)), x_t, None

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: f(m, x, scale=3.0))

    def jax(self):
        @jax.custom_vjp
        def f(params, x, *, scale=1.0):
            return scale * dense(params, x)

        def fwd(params, x, *, scale=1.0):
            return f(params, x, scale=scale), (params, x, scale)

        def bwd(residuals, y_t):
            params, x, scale = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, scale * y_t)
            return twice(params_t), x_t, None

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p, x, scale=3.0))

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x, *, scale=1.0):
                    return scale * mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t, _ = vjp_fn(y_t)
                    return twice(mdl_t), x_t, None

                return f(nn.Dense(3), x, scale=3.0)

        return of_linen(Net())


class VariableArguments(Situation):
    """`*args`, one tangent each"""

    def expected(self):
        return with_twice(lambda p, x: dense(p, x) * x * 5.0)

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, *more):
                    return mdl(x) * more[0] * more[1]

                def fwd(mdl, x, *more):
                    return nn.vjp(f, mdl, x, *more)

                def bwd(vjp_fn, y_t):
                    mdl_t, *rest_t = vjp_fn(y_t)
                    return (twice(mdl_t), *rest_t)

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x, x, 5.0)

        return of_linen(Net())

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x, *more):
            return m(x) * more[0] * more[1]

        def fwd(m, x, *more):
            return f(m, x, *more), (m, x, more)

        def bwd(residuals, g):
            (m_g, *_), y_t = g
            m, x, (a, b) = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, a * b * y_t)
            y = m(x)
            return filled(m_g, **twice(params_t)), x_t, y_t * y * b, (y_t * y * a).sum()

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: f(m, x, x, 5.0))

    def jax(self):
        @jax.custom_vjp
        def f(params, x, *more):
            return dense(params, x) * more[0] * more[1]

        def fwd(params, x, *more):
            return f(params, x, *more), (params, x, more)

        def bwd(residuals, y_t):
            params, x, (a, b) = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, a * b * y_t)
            y = dense(params, x)
            return twice(params_t), x_t, y_t * y * b, (y_t * y * a).sum()

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p, x, x, 5.0))

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x, *more):
                    return mdl(x) * more[0] * more[1]

                def bwd(vjp_fn, y_t):
                    mdl_t, *rest_t = vjp_fn(y_t)
                    return (twice(mdl_t), *rest_t)

                return f(nn.Dense(3), x, x, 5.0)

        return of_linen(Net())


class Mode(enum.Enum):
    NEGATE = "negate"
    KEEP = "keep"


class Flag(Situation):
    """`if train:` with a Python bool argument, not declared, under `jit`"""

    value: Any = True

    @staticmethod
    def apply(y: Any, value: Any) -> Any:
        """Use the argument as plain Python does."""
        return 3 * y if value else y

    def expected(self):
        return with_twice(lambda p, x: 3 * dense(p, x))

    def linen(self):
        apply, value = self.apply, self.value

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, value):
                    return apply(mdl(x), value)

                def fwd(mdl, x, value):
                    return nn.vjp(lambda m, x: f(m, x, value), mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t, None

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x, value)

        return of_linen(Net(), wrap=jax.jit)

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x, value):
            return self.apply(m(x), value)

        def fwd(m, x, value):
            return f(m, x, value), (m, x)

        def bwd(residuals, g):
            (m_g, *_), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, 3 * y_t)
            return filled(m_g, **twice(params_t)), x_t, None

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: f(m, x, self.value), wrap=nnx.jit)

    def jax(self):
        @jax.custom_vjp
        def f(params, x, value):
            return self.apply(dense(params, x), value)

        def fwd(params, x, value):
            return f(params, x, value), (params, x)

        def bwd(residuals, y_t):
            params, x = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, 3 * y_t)
            return twice(params_t), x_t, None

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p, x, self.value), wrap=jax.jit)

    def vjpgen(self):
        apply, value = self.apply, self.value

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x, value):
                    return apply(mdl(x), value)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t, _ = vjp_fn(y_t)
                    return twice(mdl_t), x_t, None

                return f(nn.Dense(3), x, value)

        return of_linen(Net(), wrap=jax.jit)


class String(Flag):
    """a string argument, not declared"""

    value = "three"

    @staticmethod
    def apply(y, value):
        return 3 * y if value == "three" else y


class Enumeration(Flag):
    """an enum member as argument, not declared"""

    value = Mode.NEGATE

    @staticmethod
    def apply(y, value):
        return 3 * y if value is Mode.NEGATE else y


class Callable(Flag):
    """a callable as argument, not declared"""

    value = staticmethod(lambda y: 3 * y)

    @staticmethod
    def apply(y, value):
        return value(y)


class Declared(Flag):
    """a Python value declared in `nondiff_argnums`"""

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, value):
                    return 3 * mdl(x) if value else mdl(x)

                def fwd(mdl, x, value):
                    return nn.vjp(lambda m, x: f(m, x, value), mdl, x)

                def bwd(value, vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return nn.custom_vjp(f, fwd, bwd, nondiff_argnums=(2,))(nn.Dense(3), x, True)

        return of_linen(Net(), wrap=jax.jit)

    def nnx(self):
        def f(m, x, value):
            return 3 * m(x) if value else m(x)

        f = nnx.custom_vjp(f, nondiff_argnums=(2,))

        def fwd(m, x, value):
            return f(m, x, value), (m, x)

        def bwd(value, residuals, g):
            (m_g, *_), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, 3 * y_t)
            return filled(m_g, **twice(params_t)), x_t

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: f(m, x, True), wrap=nnx.jit)

    def jax(self):
        def f(params, x, value):
            return 3 * dense(params, x) if value else dense(params, x)

        f = jax.custom_vjp(f, nondiff_argnums=(2,))

        def fwd(params, x, value):
            return f(params, x, value), (params, x)

        def bwd(value, residuals, y_t):
            params, x = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, 3 * y_t)
            return twice(params_t), x_t

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p, x, True), wrap=jax.jit)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd, nondiff_argnums=2
                def f(mdl, x, value):
                    return 3 * mdl(x) if value else mdl(x)

                def bwd(value, vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return f(nn.Dense(3), x, True)

        return of_linen(Net(), wrap=jax.jit)


class Integers(Situation):
    """integers as argument, `None` for their tangent"""

    # What stands beside the input, and how it is used.
    extra = jnp.array([2, 0, 1, 1])

    @staticmethod
    def use(y: Any, extra: Any) -> Any:
        """Use the argument that has no tangent."""
        return 3 * y[extra]

    def expected(self):
        return with_twice(lambda p, x: self.use(dense(p, x), self.extra))

    def pull(self, y_t: Any, extra: Any) -> Any:
        """Pull a tangent back through `use`."""
        (found,) = jax.vjp(lambda y: self.use(y, extra), jnp.zeros_like(X))[1](y_t)
        return found

    def linen(self):
        use, extra = self.use, self.extra

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, extra):
                    return use(mdl(x), extra)

                def fwd(mdl, x, extra):
                    return nn.vjp(lambda m, x: f(m, x, extra), mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t, None

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x, extra)

        return of_linen(Net())

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x, extra):
            return self.use(m(x), extra)

        def fwd(m, x, extra):
            return f(m, x, extra), (m, x, extra)

        def bwd(residuals, g):
            (m_g, *_), y_t = g
            m, x, extra = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, self.pull(y_t, extra))
            return filled(m_g, **twice(params_t)), x_t, None

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: f(m, x, self.extra))

    def jax(self):
        @jax.custom_vjp
        def f(params, x, extra):
            return self.use(dense(params, x), extra)

        def fwd(params, x, extra):
            return f(params, x, extra), (params, x, extra)

        def bwd(residuals, y_t):
            params, x, extra = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, self.pull(y_t, extra))
            return twice(params_t), x_t, None

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p, x, self.extra))

    def vjpgen(self):
        use, extra = self.use, self.extra

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x, extra):
                    return use(mdl(x), extra)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t, _ = vjp_fn(y_t)
                    return twice(mdl_t), x_t, None

                return f(nn.Dense(3), x, extra)

        return of_linen(Net())


class Key(Integers):
    """a PRNG key as argument, `None` for its tangent"""

    extra = KEY

    @staticmethod
    def use(y, extra):
        return y * jax.random.normal(extra, y.shape)
