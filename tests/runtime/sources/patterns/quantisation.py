"""Learned step sizes for integers, and scales for 8-bit floats that calibrate themselves."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

# -- LSQ: a step size that is learned (Esser et al., 2020) -----------------------------------------


def limits(bits):
    """Return the least and the greatest integer of so many bits."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def lsq_fwd(x, step, bits):
    return lsq(x, step, bits), (x, step)


def lsq_bwd(bits, residuals, y_t):
    x, step = residuals
    low, high = limits(bits)
    level = x / step
    inside = (level >= low) & (level <= high)
    per_element = jnp.where(inside, jnp.round(level) - level, jnp.clip(level, low, high))
    return jnp.where(inside, y_t, 0), (per_element * y_t).sum() * (x.size * high) ** -0.5


# custom-vjp: fwd=lsq_fwd, bwd=lsq_bwd, nondiff_argnames=bits
# custom-vjp: surrogate=(x, step), example=some_integers
def lsq(x, step, bits=8):
    """Round `x` to multiples of `step`, as many as integers of so many bits tell apart."""
    low, high = limits(bits)
    return jnp.clip(jnp.round(x / step), low, high) * step


class Int8Dense(nn.Module):
    """A dense layer on 8-bit integers; the step sizes are parameters."""

    features: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        steps = [
            self.param(f"{name}_step", nn.initializers.constant(step), ())
            for name, step in (("input", 0.02), ("kernel", 0.005))
        ]
        return lsq(x, steps[0]) @ lsq(kernel, steps[1])


# -- fp8: scales that the backward pass renews -----------------------------------------------------


def saturate(x, dtype, scale):
    """Round `x / scale` to an 8-bit float, and scale back."""
    greatest = jnp.finfo(dtype).max.astype(x.dtype)
    return jnp.clip(x / scale, -greatest, greatest).astype(dtype).astype(x.dtype) * scale


def calibrate(x, dtype, scale, history):
    """Return the next scale, by the greatest value in the history, and the next history."""
    greatest = history.max()
    fresh = greatest / jnp.finfo(dtype).max.astype(scale.dtype)
    usable = (greatest > 0) & jnp.isfinite(greatest)
    newest = jnp.abs(x).max().astype(history.dtype)
    return jnp.where(usable, fresh, scale), jnp.roll(history, 1).at[0].set(newest)


def qdq_in_fwd(x, dtype, scale, history):
    return qdq_in(x, dtype, scale, history), calibrate(x, dtype, scale, history)


def qdq_in_bwd(dtype, state, y_t):
    return y_t, *state


# custom-vjp: fwd=qdq_in_fwd, bwd=qdq_in_bwd, nondiff_argnames=dtype
# custom-vjp: surrogate=x, state=(scale, history), example=an_operand
def qdq_in(x, dtype, scale, history):
    """Quantise an operand; the "gradients" of scale and history are their next values."""
    return saturate(x, dtype, scale)


def qdq_out_fwd(y, dtype, scale, history):
    return y, (scale, history)


def qdq_out_bwd(dtype, residuals, y_t):
    return saturate(y_t, dtype, residuals[0]), *calibrate(y_t, dtype, *residuals)


# custom-vjp: fwd=qdq_out_fwd, bwd=qdq_out_bwd, nondiff_argnames=dtype
# custom-vjp: surrogate=y, state=(scale, history), example=a_result
def qdq_out(y, dtype, scale, history):
    """Quantise the gradient that comes back through `y`."""
    return y


class Fp8Dense(nn.Module):
    """A dense layer in fp8; its calibration is overwritten, not trained."""

    features: int
    history: int = 3

    def quantiser(self, name):
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        key = jax.random.key(0)  # neither of the two draws from it
        scale = self.variable("overwrite_with_gradient", f"{name}_scale", ones, key, ())
        history = self.variable(
            "overwrite_with_gradient", f"{name}_history", zeros, key, (self.history,)
        )
        return scale.value, history.value

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        x = qdq_in(x, jnp.float8_e4m3fn, *self.quantiser("input"))
        kernel = qdq_in(kernel, jnp.float8_e4m3fn, *self.quantiser("kernel"))
        return qdq_out(x @ kernel, jnp.float8_e5m2, *self.quantiser("output"))


class CalibratedDense(nn.Module):
    """The same as one rule on the whole layer: the state has its place in the module's tangent."""

    features: int
    history: int = 3

    # custom-vjp: fwd=run, bwd=renew, grad_vars=(params, overwrite_with_gradient)
    # custom-vjp: surrogate=(params, x), state=overwrite_with_gradient, example=a_layer
    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        scales, _ = self.state()
        x8 = saturate(x, jnp.float8_e4m3fn, scales["input"])
        kernel8 = saturate(kernel, jnp.float8_e4m3fn, scales["kernel"])
        return x8 @ kernel8

    def state(self):
        group = "overwrite_with_gradient"
        names = ("input", "kernel", "output")
        scales = self.variable(group, "scale", lambda: {name: jnp.ones(()) for name in names})
        histories = self.variable(
            group, "history", lambda: {name: jnp.zeros(self.history) for name in names}
        )
        return scales.value, histories.value

    def run(self, x):
        return self(x), x

    @nn.compact
    def renew(self, x, y_t):
        scales, histories = self.state()
        kernel = self.get_variable("params", "kernel")
        values = {"input": x, "kernel": kernel, "output": y_t}
        kinds = dict.fromkeys(values, jnp.float8_e4m3fn) | {"output": jnp.float8_e5m2}
        x8, kernel8, y8_t = (saturate(values[n], kinds[n], scales[n]) for n in values)
        renewed = {n: calibrate(values[n], kinds[n], scales[n], histories[n]) for n in values}
        state = {
            "scale": {name: scale for name, (scale, _) in renewed.items()},
            "history": {name: history for name, (_, history) in renewed.items()},
        }
        params_t = {"kernel": x8.T @ y8_t}
        return {"params": params_t, "overwrite_with_gradient": state}, y8_t @ kernel8.T


def sgd(variables, gradients, rate):
    """Take a step: parameters move against their gradient, the rest is overwritten by it."""
    return {
        name: gradient
        if name == "overwrite_with_gradient"
        else jax.tree.map(lambda p, g: p - rate * g, variables[name], gradient)
        for name, gradient in gradients.items()
    }


def some_integers(key):
    """Return values, some of them out of reach, and a step."""
    return jax.random.normal(key, (5, 4)), jnp.array(0.3), 3


# -- examples: some of each array is out of reach of its 8-bit float -------------------------------


def an_operand(key):
    """Return an operand with its dtype, its scale and history."""
    state = jnp.array(0.002), jnp.array([3.0, 2.0, 1.0])
    return jax.random.normal(key, (5, 4)), jnp.float8_e4m3fn, *state


def a_result(key):
    """Return a result with its gradient's dtype, scale and history."""
    state = jnp.array(1e-5), jnp.array([3.0, 2.0, 1.0])
    return jax.random.normal(key, (5, 4)), jnp.float8_e5m2, *state


def a_layer(key):
    """Return a layer whose scales are small, and a batch."""
    layer, x = CalibratedDense(3), jax.random.normal(key, (5, 4))
    variables = layer.init(key, x)
    state = variables["overwrite_with_gradient"]
    scale = {
        name: jnp.array(s) for name, s in (("input", 2e-3), ("kernel", 1e-3), ("output", 1e-5))
    }
    state = {"scale": scale, "history": jax.tree.map(lambda h: h + 1.0, state["history"])}
    return layer.bind({**variables, "overwrite_with_gradient": state}), x
