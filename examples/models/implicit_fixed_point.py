"""A layer that is the solution of an equation, after Bai et al. (2019)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import gmres


class FixedPoint(nn.Module):
    """The layer z = cell(z, x), solved by iteration.

    Autodiff goes back through every iteration and has to store them all. The rule stores the
    solution alone: by the implicit function theorem its gradient solves a linear system.
    """

    features: int
    iterations: int = 40

    def setup(self):
        shape = (self.features, self.features)
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        self.inject = nn.Dense(self.features)

    def cell(self, z, x):
        """Take one step towards the solution.

        No column's absolute values sum to more than 0.9, so a step brings any two z nearer to each
        other: there is one solution, and iteration finds it.
        """
        sums = jnp.abs(self.kernel).sum(axis=0)
        return jnp.tanh(z @ (self.kernel * jnp.minimum(1, 0.9 / sums)) + self.inject(x))

    # custom-vjp: fwd=solve_fwd, bwd=solve_bwd, exact=True, example=example
    def __call__(self, x):
        z = self.cell(jnp.zeros((*x.shape[:-1], self.features), x.dtype), x)
        return jax.lax.fori_loop(1, self.iterations, lambda _, z: self.cell(z, x), z)

    def solve_fwd(self, x):
        """Save the solution and the input."""
        z = self(x)
        return z, (z, x)

    def solve_bwd(self, residuals, z_t):
        """Solve g = z_t + J^T g, J the Jacobian of the cell at the solution, and pull g back."""
        z, x = residuals
        _, cell_vjp = nn.vjp(FixedPoint.cell, self, z, x)

        def system(g):
            return g - cell_vjp(g)[1]

        g, _ = gmres(system, z_t, x0=z_t, tol=100 * jnp.finfo(z.dtype).eps, restart=10, maxiter=2)
        params_t, _, x_t = cell_vjp(g)
        return params_t, x_t


def example(key):
    """Give vjpgen a layer and a batch to inspect and verify the rule on."""
    return FixedPoint(64), jax.random.uniform(key, (128, 64))


class Classifier(nn.Module):
    """One implicit layer and a readout."""

    width: int = 64
    iterations: int = 40

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(FixedPoint(self.width, self.iterations)(x))
