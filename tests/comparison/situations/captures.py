"""Values and modules that a rule takes from the functions around it."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from tests.comparison.programs import (
    PARAMS,
    TWICE,
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


def gain_of(x):
    """A value that is traced whenever `x` is, and that no gradient flows through."""
    return jax.lax.stop_gradient(jnp.abs(x).max())


class CapturedInPrimal(Situation):
    """a captured traced value, used in the function, under `jit`"""

    def expected(self):
        return with_twice(lambda p, x: gain_of(x) * dense(p, x))

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                gain = gain_of(x)

                def f(mdl, x):
                    return gain * mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x)

        return of_linen(Net(), wrap=jax.jit)

    def nnx(self):
        def net(m, x):
            gain = gain_of(x)

            @nnx.custom_vjp
            def f(m, x):
                return gain * m(x)

            def fwd(m, x):
                return f(m, x), (m, x)

            def bwd(residuals, g):
                (m_g, _), y_t = g
                m, x = residuals
                params_t, x_t = dense_pullback(m.kernel[...], x, gain * y_t)
                return filled(m_g, **twice(params_t)), x_t

            f.defvjp(fwd, bwd)
            return f(m, x)

        return of_nnx(net, wrap=nnx.jit)

    def jax(self):
        def net(params, x):
            gain = gain_of(x)

            @jax.custom_vjp
            def f(params, x):
                return gain * dense(params, x)

            def fwd(params, x):
                return f(params, x), (params, x)

            def bwd(residuals, y_t):
                params, x = residuals
                params_t, x_t = dense_pullback(params["kernel"], x, gain * y_t)
                return twice(params_t), x_t

            f.defvjp(fwd, bwd)
            return f(params, x)

        return gradients(net, wrap=jax.jit)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                gain = gain_of(x)

                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return gain * mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return f(nn.Dense(3), x)

        return of_linen(Net(), wrap=jax.jit)


class CapturedInRules(Situation):
    """a captured traced value, used in `fwd` and `bwd`, under `jit`"""

    def expected(self):
        plain = gradients(dense)
        return {**plain, "params": jax.tree.map(lambda t: gain_of(X) * t, plain["params"])}

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                gain = gain_of(x)

                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    y, vjp_fn = nn.vjp(f, mdl, x)
                    return y, (vjp_fn, gain / 2)

                def bwd(residuals, y_t):
                    vjp_fn, half = residuals
                    mdl_t, x_t = vjp_fn(y_t)
                    return jax.tree.map(lambda t: (gain - half) * 2 * t, mdl_t), x_t

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x)

        return of_linen(Net(), wrap=jax.jit)

    def nnx(self):
        def net(m, x):
            gain = gain_of(x)

            @nnx.custom_vjp
            def f(m, x):
                return m(x)

            def fwd(m, x):
                return f(m, x), (m, x, gain / 2)

            def bwd(residuals, g):
                (m_g, _), y_t = g
                m, x, half = residuals
                params_t, x_t = dense_pullback(m.kernel[...], x, y_t)
                scaled = jax.tree.map(lambda t: (gain - half) * 2 * t, params_t)
                return filled(m_g, **scaled), x_t

            f.defvjp(fwd, bwd)
            return f(m, x)

        return of_nnx(net, wrap=nnx.jit)

    def jax(self):
        def net(params, x):
            gain = gain_of(x)

            @jax.custom_vjp
            def f(params, x):
                return dense(params, x)

            def fwd(params, x):
                return f(params, x), (params, x, gain / 2)

            def bwd(residuals, y_t):
                params, x, half = residuals
                params_t, x_t = dense_pullback(params["kernel"], x, y_t)
                return jax.tree.map(lambda t: (gain - half) * 2 * t, params_t), x_t

            f.defvjp(fwd, bwd)
            return f(params, x)

        return gradients(net, wrap=jax.jit)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                gain = gain_of(x)

                # custom-vjp: fwd=fwd, bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    y, vjp_fn = nn.vjp(f, mdl, x)
                    return y, (vjp_fn, gain / 2)

                def bwd(residuals, y_t):
                    vjp_fn, half = residuals
                    mdl_t, x_t = vjp_fn(y_t)
                    return jax.tree.map(lambda t: (gain - half) * 2 * t, mdl_t), x_t

                return f(nn.Dense(3), x)

        return of_linen(Net(), wrap=jax.jit)


class CapturedDifferentiated(Situation):
    """a captured value that is differentiated, which the rule has no tangent for"""

    names = "gain|closed-over value|closed over"

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                gain = self.param("gain", nn.initializers.ones, ())

                def f(mdl, x):
                    return gain * mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x)

        return of_linen(Net(), {"gain": jnp.float32(2), "Dense_0": PARAMS})

    def nnx(self):
        def net(gain, layer, x):
            @nnx.custom_vjp
            def f(m, x):
                return gain * m(x)

            def fwd(m, x):
                return f(m, x), (m, x)

            def bwd(residuals, g):
                (m_g, _), y_t = g
                m, x = residuals
                params_t, x_t = dense_pullback(m.kernel[...], x, y_t)
                return filled(m_g, **params_t), x_t

            f.defvjp(fwd, bwd)
            return f(layer, x)

        return nnx.grad(lambda gain, layer: net(gain, layer, X).sum())(jnp.float32(2), linear())

    def jax(self):
        def net(gain, x):
            @jax.custom_vjp
            def f(params, x):
                return gain * dense(params, x)

            def fwd(params, x):
                return f(params, x), (params, x)

            def bwd(residuals, y_t):
                params, x = residuals
                return dense_pullback(params["kernel"], x, y_t)

            f.defvjp(fwd, bwd)
            return f(PARAMS, x)

        return jax.grad(lambda gain: net(gain, X).sum())(jnp.float32(2))

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                gain = self.param("gain", nn.initializers.ones, ())

                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return gain * mdl(x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return f(nn.Dense(3), x)

        return of_linen(Net(), {"gain": jnp.float32(2), "Dense_0": PARAMS})


class CapturedArgument(Situation):
    """the same value passed as an argument instead, with its tangent"""

    def expected(self):
        gain = jnp.float32(2)
        plain = gradients(lambda p, x: p["gain"] * dense(p["Dense_0"], x), self._params(gain))
        return jax.tree.map(lambda t: t, plain)

    @staticmethod
    def _params(gain):
        return {"gain": gain, "Dense_0": PARAMS}

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, gain):
                    return gain * mdl(x)

                def fwd(mdl, x, gain):
                    return nn.vjp(f, mdl, x, gain)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                gain = self.param("gain", nn.initializers.ones, ())
                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x, gain)

        return of_linen(Net(), self._params(jnp.float32(2)))

    def nnx(self):
        class Net(nnx.Module):
            def __init__(self):
                self.gain = nnx.Param(jnp.float32(2))
                self.Dense_0 = linear()

        @nnx.custom_vjp
        def f(m, x, gain):
            return gain * m(x)

        def fwd(m, x, gain):
            return f(m, x, gain), (m, x, gain)

        def bwd(residuals, g):
            (m_g, *_), y_t = g
            m, x, gain = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, gain * y_t)
            return filled(m_g, **params_t), x_t, (y_t * m(x)).sum()

        f.defvjp(fwd, bwd)
        return of_nnx(lambda net, x: f(net.Dense_0, x, net.gain[...]), Net())

    def jax(self):
        @jax.custom_vjp
        def f(params, x, gain):
            return gain * dense(params, x)

        def fwd(params, x, gain):
            return f(params, x, gain), (params, x, gain)

        def bwd(residuals, y_t):
            params, x, gain = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, gain * y_t)
            return params_t, x_t, (y_t * dense(params, x)).sum()

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p["Dense_0"], x, p["gain"]), self._params(jnp.float32(2)))

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x, gain):
                    return gain * mdl(x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                gain = self.param("gain", nn.initializers.ones, ())
                return f(nn.Dense(3), x, gain)

        return of_linen(Net(), self._params(jnp.float32(2)))


class CapturedModule(Situation):
    """a captured module (in JAX: captured parameters), whose gradient is left to autodiff"""

    def expected(self):
        plain = gradients(dense)
        return {**plain, "x": TWICE * plain["x"]}

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                layer = nn.Dense(3)

                def f(mdl, x):
                    return layer(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return mdl_t, TWICE * x_t

                return nn.custom_vjp(f, fwd, bwd)(self, x)

        return of_linen(Net())

    def nnx(self):
        def net(m, x):
            @nnx.custom_vjp
            def f(x):
                return m(x)

            def fwd(x):
                return f(x), (m, x)

            def bwd(residuals, g):
                _, y_t = g
                m, x = residuals
                return (TWICE * dense_pullback(m.kernel[...], x, y_t)[1],)

            f.defvjp(fwd, bwd)
            return f(x)

        return of_nnx(net)

    def jax(self):
        def net(params, x):
            @jax.custom_vjp
            def f(x):
                return dense(params, x)

            def fwd(x):
                return f(x), None

            def bwd(_, y_t):
                return (TWICE * y_t @ params["kernel"].T,)

            f.defvjp(fwd, bwd)
            return f(x)

        return gradients(net)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                layer = nn.Dense(3)

                # custom-vjp: bwd=bwd, missing=autodiff
                def f(x):
                    return layer(x)

                def bwd(vjp_fn, y_t):
                    (x_t,) = vjp_fn(y_t)
                    return (TWICE * x_t,)

                return f(x)

        return of_linen(Net())
