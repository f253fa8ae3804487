"""Rules that drop tangents of every kind, under each policy, and rules that drop none."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


class Inner(nn.Module):
    """Parameters, a collection that it reads, and one that it updates."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3))
        bias = self.param("bias", nn.initializers.ones, (3,))
        scale = self.variable("stats", "scale", lambda: jnp.full((3,), 1.5))
        last = self.variable("memory", "last", jnp.ones, (4, 3))
        y = x @ kernel * scale.value + bias
        last.value = jnp.tanh(y) * last.value
        return y


class Cell(nn.Module):
    """Drops one of each: a leaf, a captured value, a collection, an argument, an update."""

    policy: str
    full: bool = True

    @nn.compact
    def __call__(self, x, knob):
        gain = self.param("gain", nn.initializers.constant(2.0), ())

        def body(mdl, x, knob):
            return mdl(x) * gain + knob["a"] * jnp.sin(x)

        if self.policy == "strict":
            # custom-vjp: fwd=fwd, bwd=bwd, nondiff_argnames=knob
            def f(mdl, x, knob):
                return body(mdl, x, knob)

        elif self.policy == "error":
            # custom-vjp: fwd=fwd, bwd=bwd, nondiff_argnames=knob, missing=error
            def f(mdl, x, knob):
                return body(mdl, x, knob)

        elif self.policy == "zero":
            # custom-vjp: fwd=fwd, bwd=bwd, nondiff_argnames=knob, missing=zero
            def f(mdl, x, knob):
                return body(mdl, x, knob)

        else:
            # custom-vjp: fwd=fwd, bwd=bwd, nondiff_argnames=knob, missing=autodiff
            def f(mdl, x, knob):
                return body(mdl, x, knob)

        def fwd(mdl, x, knob):
            return nn.vjp(lambda mdl, x: f(mdl, x, knob), mdl, x)

        def bwd(knob, vjp_fn, y_t):
            params_t, x_t = vjp_fn(y_t)
            params = {"kernel": 2 * params_t["params"]["kernel"]}
            if self.full:
                params["bias"] = params_t["params"]["bias"]
            return {"params": params}, x_t

        return f(Inner(), x, knob)


class Remembered(nn.Module):
    """Updates that depend on nothing differentiated, used by a second call.

    The three variables: decayed, an average of what is stopped, and one as it came in.
    """

    policy: str = "strict"

    def setup(self):
        self.dense = nn.Dense(3)
        self.decayed = self.variable("memory", "decayed", jnp.ones, (3,))
        self.mean = self.variable("memory", "mean", jnp.ones, (3,))
        self.kept = self.variable("memory", "kept", jnp.ones, (3,))

    def __call__(self, x):
        step = getattr(self, self.policy)
        return step(step(x))

    def _step(self, x):
        y = self.dense(x) * self.decayed.value + self.mean.value * self.kept.value
        self.decayed.value = 0.9 * self.decayed.value
        self.mean.value = 0.9 * self.mean.value + 0.1 * jax.lax.stop_gradient(y.mean(0))
        return y

    # custom-vjp: bwd=identity
    def strict(self, x):
        return self._step(x)

    # custom-vjp: fwd=through, bwd=identity
    def custom(self, x):
        return self._step(x)

    def through(self, x):
        return nn.vjp(lambda mdl, x: mdl.custom(x), self, x)

    # custom-vjp: bwd=identity, missing=error
    def error(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, missing=autodiff
    def autodiff(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, missing=zero
    def zero(self, x):
        return self._step(x)


class Recurrent(nn.Module):
    """State that depends on parameters, carried from call to call: a gradient through time."""

    policy: str = "autodiff"

    def setup(self):
        self.dense = nn.Dense(3)
        self.state = self.variable("memory", "state", jnp.zeros, (4, 3))

    def __call__(self, x):
        step = getattr(self, self.policy)
        return step(x) + 2 * step(jnp.cos(x))

    def _step(self, x):
        self.state.value = jnp.tanh(self.dense(x) + self.state.value)
        return jnp.sin(self.state.value)

    # custom-vjp: bwd=identity
    def strict(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, missing=error
    def error(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, missing=zero
    def zero(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, missing=autodiff
    def autodiff(self, x):
        return self._step(x)

    # custom-vjp: fwd=through, bwd=identity, missing=autodiff
    def custom(self, x):
        return self._step(x)

    def through(self, x):
        return nn.vjp(lambda mdl, x: mdl.custom(x), self, x)

    # custom-vjp: bwd=identity, missing=autodiff, optimize_remat=True
    def remat(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, optimize_remat=True
    def opaque(self, x):
        return self._step(x)


class Reader(nn.Module):
    """Another module that reads, without a rule, what one with a rule has updated."""

    policy: str = "autodiff"

    @nn.compact
    def __call__(self, x):
        cell = Recurrent(self.policy)
        y = cell(x)
        state: Any = cell.state.value
        return nn.Dense(3)(y) * state


class Normed(nn.Module):
    """Batch statistics, in a rule with the default forward rule and in one with its own."""

    custom: bool = False
    train: bool = True

    def setup(self):
        self.dense = nn.Dense(3)
        self.norm = nn.BatchNorm(use_running_average=not self.train)

    def __call__(self, x):
        y = self.own(x) if self.custom else self.default(x)
        return self.own(y) if self.custom else self.default(y)

    # custom-vjp: bwd=identity
    def default(self, x):
        return self.norm(self.dense(x))

    # custom-vjp: fwd=through, bwd=identity
    def own(self, x):
        return self.norm(self.dense(x))

    def through(self, x):
        return nn.vjp(lambda mdl, x: mdl.own(x), self, x)


class Nested(nn.Module):
    """A rule inside a rule; the inner one updates a variable, or uses a captured value."""

    outer: str = "strict"

    def setup(self):
        self.cell = Recurrent("strict")
        self.gain = self.param("gain", nn.initializers.constant(2.0), ())

    def __call__(self, x):
        return getattr(self, self.outer)(x)

    # custom-vjp: bwd=identity
    def strict(self, x):
        return self.cell.strict(x)

    # custom-vjp: bwd=identity, missing=autodiff
    def autodiff(self, x):
        return self.cell.strict(x)


class Kinds(nn.Module):
    """State of other kinds: integers, keys, complex numbers; what is sown; a perturbation."""

    policy: str = "strict"
    gains: Any = None

    def setup(self):
        self.kernel = self.param("kernel", nn.initializers.ones, (3,))
        self.count = self.variable("state", "count", lambda: jnp.int32(1))
        self.key = self.variable("state", "key", lambda: jax.random.key(0))
        self.phase = self.variable("state", "phase", lambda: jnp.full((3,), 1j, jnp.complex64))
        self.twin = self.variable("state", "twin", jnp.ones, (3,))
        self.other = self.variable("state", "other", jnp.ones, (3,))

    def __call__(self, x):
        return getattr(self, self.policy)(x)

    def _step(self, x):
        y = self.perturb("inner", x * self.kernel)
        if self.gains is not None:
            y = y * self.gains["a"]
        self.sow("losses", "aux", (y**2).mean())
        self.count.value += 1
        self.key.value = jax.random.split(self.key.value)[0]
        self.phase.value = self.phase.value * y.sum(0)
        return jnp.tanh(y) * self.count.value

    # custom-vjp: bwd=identity
    def strict(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, missing=error
    def error(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, missing=zero
    def zero(self, x):
        return self._step(x)

    # custom-vjp: bwd=identity, missing=autodiff
    def autodiff(self, x):
        return self._step(x)


class Shielded(nn.Module):
    """Primals that JAX cannot differentiate, with a variable that depends on nothing else."""

    kind: str

    def setup(self):
        self.weight = self.param("weight", nn.initializers.ones, ())
        self.decayed = self.variable("memory", "decayed", jnp.ones, ())

    def __call__(self, x):
        return self.step(self.step(x))

    # custom-vjp: fwd=through, bwd=back
    def step(self, x):
        weight = self.weight
        if self.kind == "callback":
            y = jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x) * weight
        else:
            y = jax.lax.while_loop(lambda c: c.sum() < 100.0, lambda c: 2 * weight * c + 1, x)
        y = y * self.decayed.value
        self.decayed.value = 0.9 * self.decayed.value
        return y

    def through(self, x):
        return self.step(x), x

    def back(self, x, y_t):
        return None, y_t * jnp.cos(x)


class Capturing(nn.Module):
    """A rule around one that has no slot for the input."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=identity
        def scaled(scale):
            return scale * x

        return scaled(self.param("scale", nn.initializers.ones, (3,)))


def scaled(scale, policy):
    """Functions of arrays that capture a value, with options of `jax.custom_vjp`."""
    if policy == "strict":
        # custom-vjp: bwd=identity, optimize_remat=True
        def f(x):
            return jnp.sin(x) * scale

    elif policy == "error":
        # custom-vjp: bwd=identity, optimize_remat=True, missing=error
        def f(x):
            return jnp.sin(x) * scale

    elif policy == "zero":
        # custom-vjp: bwd=identity, optimize_remat=True, missing=zero
        def f(x):
            return jnp.sin(x) * scale

    elif policy == "autodiff":
        # custom-vjp: bwd=identity, optimize_remat=True, missing=autodiff
        def f(x):
            return jnp.sin(x) * scale

    else:
        # custom-vjp: fwd=symbolic_fwd, bwd=identity, symbolic_zeros=True
        def f(x):
            return jnp.sin(x) * scale

        def symbolic_fwd(x):
            return jax.vjp(f, x.value)

    return f
