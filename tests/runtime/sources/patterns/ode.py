"""An ordinary differential equation, its gradient by the adjoint equation (Chen et al., 2018)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

import vjpgen


def integrate(velocity, state, start, end, steps):
    """Integrate by the classical method of Runge and Kutta; `state` is any pytree."""
    h = (end - start) / steps

    def moved(state, by, slope):
        return jax.tree.map(lambda s, k: s + by * k, state, slope)

    def step(state, n):
        t = start + n * h
        k1 = velocity(state, t)
        k2 = velocity(moved(state, h / 2, k1), t + h / 2)
        k3 = velocity(moved(state, h / 2, k2), t + h / 2)
        k4 = velocity(moved(state, h, k3), t + h)
        slope = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        return moved(state, h, slope), None

    return jax.lax.scan(step, state, jnp.arange(steps))[0]


def flow_fwd(dynamics, y, start, end, steps):
    """Save the end alone."""
    y = flow(dynamics, y, start, end, steps)
    return y, (vjpgen.snapshot(dynamics), y, start, end)


def flow_bwd(steps, residuals, y_t):
    """Integrate backwards: the state, its adjoint, and the parameters' gradient."""
    snapshot, y, start, end = residuals
    dynamics, variables = snapshot.module().unbind()

    def velocity(state, t):
        y, y_t, _ = state
        slope, pull = jax.vjp(lambda v, y: dynamics.apply(v, y, t), variables, y)
        variables_t, y_t = pull(y_t)
        return slope, jax.tree.map(jnp.negative, y_t), jax.tree.map(jnp.negative, variables_t)

    none = jax.tree.map(jnp.zeros_like, variables)
    end_t = jnp.vdot(y_t, dynamics.apply(variables, y, end))
    y, y_t, variables_t = integrate(velocity, (y, y_t, none), end, start, steps)
    start_t = -jnp.vdot(y_t, dynamics.apply(variables, y, start))
    return variables_t, y_t, start_t, end_t


# custom-vjp: fwd=flow_fwd, bwd=flow_bwd, nondiff_argnames=steps, exact=True, example=example
def flow(dynamics: nn.Module, y, start, end, steps=20):
    """Follow dy/dt = dynamics(y, t) from the time `start` to `end`."""
    return integrate(dynamics, y, start, end, steps)


class Dynamics(nn.Module):
    """How fast the state moves, and where to."""

    width: int = 6

    @nn.compact
    def __call__(self, y, t):
        phase = jnp.full((*y.shape[:-1], 1), t, y.dtype)
        hidden = nn.tanh(nn.Dense(self.width)(jnp.concatenate([y, phase], -1)))
        return nn.Dense(y.shape[-1])(hidden)


class NeuralOde(nn.Module):
    """A readout of where the state is after a while that is learned."""

    @nn.compact
    def __call__(self, y):
        dynamics = Dynamics()
        if self.is_initializing():
            dynamics(y, 0.0)
        end = self.param("end", nn.initializers.ones, ())
        return nn.Dense(1)(flow(dynamics, y, 0.0, end))


def example(key):
    """Return dynamics, where to begin, from when until when, and steps enough to be exact."""
    y = jax.random.normal(key, (2, 3))
    variables = Dynamics().init(key, y, 0.0)  # not inside of the scan
    return Dynamics().bind(variables), y, jnp.array(0.1), jnp.array(0.9), 200
