"""What a backward rule returns."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.comparison.outcomes import NotAvailable
from tests.comparison.programs import (
    TWICE,
    X,
    dense,
    dense_pullback,
    filled,
    gradients,
    of_linen,
    of_nnx,
    twice,
    with_twice,
)
from tests.comparison.situation import Situation


class Returned(Situation):
    """a tangent of another shape than its primal"""

    names = r"kernel.*float32\[3,4\]|float32\[3,4\].*kernel"

    @staticmethod
    def change(params_t: Any, x_t: Any) -> Any:
        """Change the tangents of a layer and its input: what the situations below differ in."""
        return {**params_t, "kernel": jnp.zeros((3, 4))}, x_t

    def expected(self):
        return None

    def linen(self):
        change = self.change

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    params_t, x_t = change(mdl_t["params"], x_t)
                    return {"params": params_t}, x_t

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x)

        return of_linen(Net())

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return f(m, x), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = self.change(*dense_pullback(m.kernel[...], x, y_t))
            return self.as_state(m_g, params_t), x_t

        f.defvjp(fwd, bwd)
        return of_nnx(f)

    @staticmethod
    def as_state(template: Any, params_t: Any) -> Any:
        """Put tangents into the state of an NNX module, as they are."""
        if params_t is None:
            return None
        return nnx.State({name: template[name].replace(t) for name, t in params_t.items()})

    def jax(self):
        @jax.custom_vjp
        def f(params, x):
            return dense(params, x)

        def fwd(params, x):
            return f(params, x), (params, x)

        def bwd(residuals, y_t):
            params, x = residuals
            return self.change(*dense_pullback(params["kernel"], x, y_t))

        f.defvjp(fwd, bwd)
        return gradients(f)

    def vjpgen(self):
        change = self.change

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    params_t, x_t = change(mdl_t["params"], x_t)
                    return {"params": params_t}, x_t

                return f(nn.Dense(3), x)

        return of_linen(Net())


class LeafMissing(Returned):
    """a leaf missing from what `bwd` returns"""

    names = r"\A(?!.*PyTreeDef).*\bbias\b"  # by its path, not in a structure to compare by eye

    @staticmethod
    def change(params_t, x_t):
        return {"kernel": params_t["kernel"]}, x_t


class LeafUnknown(Returned):
    """an unknown leaf in what `bwd` returns"""

    names = r"\A(?!.*PyTreeDef).*\bweight\b"

    @staticmethod
    def change(params_t, x_t):
        return {**params_t, "weight": params_t["kernel"]}, x_t

    @staticmethod
    def as_state(template, params_t):
        extra = {**template, "weight": template["kernel"]}
        return Returned.as_state(extra, params_t)


class OtherDtype(Returned):
    """a tangent of another dtype than its primal"""

    names = "bfloat16"

    def expected(self):
        return gradients(dense)

    @staticmethod
    def change(params_t, x_t):
        return jax.tree.map(lambda t: t.astype(jnp.bfloat16), params_t), x_t


class TooFew(Returned):
    """a tuple of too few tangents"""

    names = r"must return a tuple of 2|tuple of length"

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    return (vjp_fn(y_t)[0],)

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x)

        return of_linen(Net())

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return f(m, x), None

        def bwd(_, g):
            (m_g, _), _ = g
            return (filled(m_g),)

        f.defvjp(fwd, bwd)
        return of_nnx(f)

    def jax(self):
        @jax.custom_vjp
        def f(params, x):
            return dense(params, x)

        def fwd(params, x):
            return f(params, x), params

        def bwd(params, y_t):
            return (params,)

        f.defvjp(fwd, bwd)
        return gradients(f)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    all_t = vjp_fn(y_t)
                    return all_t[:1]

                return f(nn.Dense(3), x)

        return of_linen(Net())


class NoneForInput(Returned):
    """`None` for the input's tangent: zero"""

    names = None

    def expected(self):
        plain = gradients(dense)
        return {**plain, "x": jnp.zeros_like(X)}

    @staticmethod
    def change(params_t, x_t):
        return params_t, None


class NoneForModule(Returned):
    """`None` for the module's tangent: zero"""

    names = None

    def expected(self):
        plain = gradients(dense)
        return {**plain, "params": jax.tree.map(jnp.zeros_like, plain["params"])}

    @staticmethod
    def change(params_t, x_t):
        return None, x_t


class NoneForLeaf(Returned):
    """`None` for one leaf: zero"""

    names = None

    def expected(self):
        plain = gradients(dense)
        return {**plain, "params": {**plain["params"], "bias": jnp.zeros(3)}}

    @staticmethod
    def change(params_t, x_t):
        return {**params_t, "bias": None}, x_t

    @staticmethod
    def as_state(template, params_t):
        return nnx.State({"kernel": template["kernel"].replace(params_t["kernel"]), "bias": None})


class OneLeaf(Situation):
    """a gradient for the kernel alone, the rest left to autodiff"""

    def expected(self):
        plain = gradients(dense)
        kernel_t = TWICE * plain["params"]["kernel"]
        return {**plain, "params": {**plain["params"], "kernel": kernel_t}}

    no_autodiff = "what the rule does not give cannot be left to autodiff"

    def linen(self):
        raise NotAvailable(self.no_autodiff)

    def nnx(self):
        raise NotAvailable(self.no_autodiff)

    def jax(self):
        raise NotAvailable(self.no_autodiff)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd, missing=autodiff
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return {"params": {"kernel": TWICE * mdl_t["params"]["kernel"]}}, x_t

                return f(nn.Dense(3), x)

        return of_linen(Net())


class FloatZero(Situation):
    """a `float0` array for the tangent of integers"""

    rows = jnp.array([2, 0, 1, 1])

    def expected(self):
        return with_twice(lambda p, x: dense(p, x)[self.rows])

    def back(self, y_t: Any) -> Any:
        """Pull a tangent back through the choice of rows."""
        return jnp.zeros_like(y_t).at[self.rows].add(y_t)

    def linen(self):
        rows = self.rows

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x, rows):
                    return mdl(x)[rows]

                def fwd(mdl, x, rows):
                    return nn.vjp(lambda m, x: f(m, x, rows), mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t, np.zeros(4, jax.dtypes.float0)

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x, rows)

        return of_linen(Net())

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x, rows):
            return m(x)[rows]

        def fwd(m, x, rows):
            return f(m, x, rows), (m, x)

        def bwd(residuals, g):
            (m_g, *_), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, self.back(y_t))
            return filled(m_g, **twice(params_t)), x_t, np.zeros(4, jax.dtypes.float0)

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: f(m, x, self.rows))

    def jax(self):
        @jax.custom_vjp
        def f(params, x, rows):
            return dense(params, x)[rows]

        def fwd(params, x, rows):
            return f(params, x, rows), (params, x)

        def bwd(residuals, y_t):
            params, x = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, self.back(y_t))
            return twice(params_t), x_t, np.zeros(4, jax.dtypes.float0)

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p, x, self.rows))

    def vjpgen(self):
        rows = self.rows

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x, rows):
                    return mdl(x)[rows]

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t, _ = vjp_fn(y_t)
                    return twice(mdl_t), x_t, np.zeros(4, jax.dtypes.float0)

                return f(nn.Dense(3), x, rows)

        return of_linen(Net())


class SymbolicZeros(Situation):
    """`symbolic_zeros`: a rule that is told what is differentiated"""

    def expected(self):
        """Whether the input and the other factor are differentiated: as the rule is told."""
        return {"x": jnp.ones(()), "other": jnp.zeros(()), "x_t": 7 * jnp.ones(3)}

    def linen(self):
        raise NotAvailable("it has no such option")

    def nnx(self):
        seen = {}

        @nnx.custom_vjp
        def f(x, other):
            return x * other

        def fwd(x, other):
            seen.update(x=jnp.float32(x.perturbed), other=jnp.float32(other.perturbed))
            return f(x.value, other.value), other.value

        def bwd(other, g):
            _, y_t = g
            return y_t * other, None

        f.defvjp(fwd, bwd, symbolic_zeros=True)
        x_t = jax.grad(lambda x: f(x, 7 * jnp.ones(3)).sum())(jnp.ones(3))
        return {**seen, "x_t": x_t}

    def jax(self):
        seen = {}

        @jax.custom_vjp
        def f(x, other):
            return x * other

        def fwd(x, other):
            seen.update(x=jnp.float32(x.perturbed), other=jnp.float32(other.perturbed))
            return f(x.value, other.value), other.value

        def bwd(other, y_t):
            return y_t * other, None

        f.defvjp(fwd, bwd, symbolic_zeros=True)
        x_t = jax.grad(lambda x: f(x, 7 * jnp.ones(3)).sum())(jnp.ones(3))
        return {**seen, "x_t": x_t}

    def vjpgen(self):
        seen = {}

        # custom-vjp: fwd=fwd, bwd=bwd, symbolic_zeros=True
        def f(x, other):
            return x * other

        def fwd(x, other):
            seen.update(x=jnp.float32(x.perturbed), other=jnp.float32(other.perturbed))
            return f(x.value, other.value), other.value

        def bwd(other, y_t):
            return y_t * other, None

        x_t = jax.grad(lambda x: f(x, 7 * jnp.ones(3)).sum())(jnp.ones(3))
        return {**seen, "x_t": x_t}


class ForwardDiffers(Situation):
    """a forward rule that returns another dtype than its primal"""

    names = r"output(\[|\.|: ).*(float32|bfloat16)|output.*(dtype|type|aval)"

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    y, vjp_fn = nn.vjp(f, mdl, x)
                    return y.astype(jnp.bfloat16), vjp_fn

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x)

        return of_linen(Net(), wrap=jax.jit)

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return f(m, x).astype(jnp.bfloat16), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, y_t)
            return filled(m_g, **params_t), x_t

        f.defvjp(fwd, bwd)
        return of_nnx(f, wrap=nnx.jit)

    def jax(self):
        @jax.custom_vjp
        def f(params, x):
            return dense(params, x)

        def fwd(params, x):
            return f(params, x).astype(jnp.bfloat16), (params, x)

        def bwd(residuals, y_t):
            params, x = residuals
            return dense_pullback(params["kernel"], x, y_t)

        f.defvjp(fwd, bwd)
        return gradients(f, wrap=jax.jit)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: fwd=fwd, bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    y, vjp_fn = nn.vjp(f, mdl, x)
                    return y.astype(jnp.bfloat16), vjp_fn

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return f(nn.Dense(3), x)

        return of_linen(Net(), wrap=jax.jit)
