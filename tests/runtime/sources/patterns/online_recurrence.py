"""Recurrent networks whose gradients are computed online: RTRL and e-prop."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

# -- real-time recurrent learning (Williams and Zipser, 1989) --------------------------------------


class RtrlCell(nn.Module):
    """A recurrent cell that carries the derivative of its state by its parameters.

    The carry is the pair of the state and that influence matrix, a tree like the parameters.
    One sequence at a time; `nn.vmap` makes batches.
    """

    features: int

    def setup(self):
        self.recurrent = nn.Dense(self.features)
        self.inputs = nn.Dense(self.features, use_bias=False)

    def advance(self, h, x):
        """Compute the next state."""
        return nn.tanh(self.recurrent(h) + self.inputs(x))

    # custom-vjp: fwd=fwd, bwd=bwd, surrogate=(params, x), zero=carry, example=a_sequence
    def __call__(self, carry, x):
        carry, _ = self.fwd(carry, x)
        return carry

    def fwd(self, carry, x):
        """Advance the state and its derivative; save the derivatives of the new state."""
        h, influence = carry
        h, vjp_fn = nn.vjp(RtrlCell.advance, self, h, x)
        variables_j, h_j, x_j = jax.vmap(vjp_fn)(jnp.eye(self.features, dtype=h.dtype))
        influence = jax.tree.map(
            lambda direct, before: direct + jnp.tensordot(h_j, before, 1),
            variables_j["params"],
            influence,
        )
        return ((h, influence), h), (influence, x_j)

    def bwd(self, residuals, tangents):
        """Use the derivative as it stands: nothing goes back in time."""
        influence, x_j = residuals
        (_, _), h_t = tangents
        params_t = jax.tree.map(lambda j: jnp.tensordot(h_t, j, 1), influence)
        return {"params": params_t}, None, h_t @ x_j

    @nn.nowrap
    def initial(self, params):
        """Return the carry to begin with: nothing has influenced the state yet."""
        shape = (self.features,)
        zeros = lambda p: jnp.zeros(shape + p.shape, p.dtype)  # noqa: E731
        return jnp.zeros(shape, params["recurrent"]["bias"].dtype), jax.tree.map(zeros, params)


# -- e-prop (Bellec et al., 2020) ------------------------------------------------------------------


def pseudo_derivative(v, threshold):
    """Return the slope that stands for the derivative of a spike."""
    return 0.3 * jnp.maximum(0, 1 - jnp.abs((v - threshold) / threshold))


class EpropCell(nn.Module):
    """Leaky integrate-and-fire neurons; potentials, spikes and traces are the module's state."""

    features: int
    decay: float = 0.9
    threshold: float = 0.6

    # custom-vjp: fwd=fwd, bwd=bwd, missing=zero, surrogate=True, example=a_spiking_cell
    @nn.compact
    def __call__(self, x):
        return self.step(x)[0]

    @nn.compact
    def fwd(self, x):
        spikes, slope, traces = self.step(x)
        return spikes, (slope, traces)

    def bwd(self, residuals, spikes_t):
        """Multiply the learning signal by the eligibility of each synapse."""
        slope, traces = residuals
        signal = spikes_t * slope
        batch = lambda trace: jnp.einsum("bi,bj->ij", trace, signal)  # noqa: E731
        params_t = {name: batch(trace) for name, trace in traces.items()}
        return {"params": params_t}, signal @ self.get_variable("params", "inputs").T

    def step(self, x):
        """Update the state; return spikes, their slopes and the presynaptic traces."""
        draw = nn.initializers.lecun_normal()
        inputs = self.param("inputs", draw, (x.shape[-1], self.features))
        recurrent = self.param("recurrent", draw, (self.features, self.features))
        shape = (*x.shape[:-1], self.features)
        v = self.variable("neurons", "v", jnp.zeros, shape, x.dtype)
        z = self.variable("neurons", "z", jnp.zeros, shape, x.dtype)
        traces = {
            "inputs": self.variable("neurons", "input_trace", jnp.zeros, x.shape, x.dtype),
            "recurrent": self.variable("neurons", "spike_trace", jnp.zeros, shape, x.dtype),
        }
        if not self.is_initializing():
            for name, seen in (("inputs", x), ("recurrent", z.value)):
                traces[name].value = self.decay * traces[name].value + seen
            reset = z.value * self.threshold
            v.value = self.decay * v.value + x @ inputs + z.value @ recurrent - reset
            z.value = (v.value > self.threshold).astype(x.dtype)
        slope = pseudo_derivative(v.value, self.threshold)
        return z.value, slope, {name: trace.value for name, trace in traces.items()}


# -- examples --------------------------------------------------------------------------------------


def a_sequence(key):
    """Return a cell, the carry that two steps have left, and the next input."""
    cell = RtrlCell(3)
    xs = jax.random.normal(key, (3, 4))
    params = cell.init(key, (jnp.zeros(3), {}), xs[0], method=lambda m, c, x: m.advance(c[0], x))
    carry = cell.initial(params["params"])
    for x in xs[:2]:
        carry, _ = cell.apply(params, carry, x)
    return cell.bind(params), carry, xs[2]


def a_spiking_cell(key):
    """Return a cell in the middle of a sequence, and the next input."""
    cell = EpropCell(3)
    first, second = jax.random.normal(key, (2, 5, 4))
    variables = cell.init(key, first)
    _, state = cell.apply(variables, first, mutable=["neurons"])
    return cell.bind({**variables, **state}, mutable=["neurons"]), second
