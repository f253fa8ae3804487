"""Arguments without a tangent slot that are modules, or callables that hold modules."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def solve_fwd(f, x, start):
    z = solve(f, x, start)
    return z, (x, z)


def solve_bwd(f, residuals, z_t):
    x, z = residuals
    _, pull = jax.vjp(f, x, z)
    u = jax.lax.fori_loop(0, 40, lambda _, u: z_t + pull(u)[1], z_t)
    return pull(u)[0], None


# custom-vjp: fwd=solve_fwd, bwd=solve_bwd, nondiff_argnames=f, missing=zero
def solve(f, x, start):
    """Return the solution of z = f(x, z); f is a static callable, called in both passes."""
    return jax.lax.fori_loop(0, 40, lambda _, z: f(x, z), start)


class Frozen(nn.Module):
    """An equilibrium whose cell is fixed: only the input has a gradient."""

    kind: str

    def setup(self):
        self.dense = nn.Dense(3, kernel_init=nn.initializers.normal(0.1))
        self.block = nn.Sequential([nn.Dense(3, kernel_init=nn.initializers.normal(0.1))])

    def step(self, x, z):
        return nn.tanh(self.dense(z) + self.block(z) + x)

    def __call__(self, x):
        f = {
            "method": self.step,
            "function": lambda x, z: self.step(x, z),
            "captured": lambda x, z: nn.tanh(self.block(z) + x),
        }[self.kind]
        return solve(f, x, f(x, jnp.zeros_like(x)))


def sent_back_fwd(module, other, x):
    return sent_back(module, other, x), None


def sent_back_bwd(other, _, y_t):
    return None, other(y_t)


# custom-vjp: fwd=sent_back_fwd, bwd=sent_back_bwd, nondiff_argnames=other, missing=zero
def sent_back(module, other, x):
    """Apply `module`; the gradient of `x` goes through `other`, which has none itself."""
    return module(x)


class SentBack(nn.Module):
    @nn.compact
    def __call__(self, x):
        back = nn.Dense(3)
        if self.is_initializing():
            back(jnp.zeros((1, 2)))
        return sent_back(nn.Dense(2), back, x)
