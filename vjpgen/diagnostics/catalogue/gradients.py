"""The family VJP3xx: what a backward rule does."""

from __future__ import annotations

from vjpgen.diagnostics import Severity
from vjpgen.diagnostics.catalogue.entry import Entry

_LINEN = """\
import flax.linen as nn
import jax.numpy as jnp


"""

ENTRIES = (
    Entry(
        "VJP301",
        "`bwd` uses a module or scope of the enclosing function",
        "The backward pass runs after the forward pass is over, when the scope of the module is "
        "no longer there. Make the rule a method, which receives a snapshot of the module as "
        "`self`, or pass `vjpgen.snapshot(module)` as a residual. The plain fields of a module "
        "(`self.features`) are there all the same.",
        bad=_LINEN
        + """\
class Scaled(nn.Module):
    @nn.compact
    def __call__(self, x):
        def scale_bwd(vjp_fn, y_t):
            factor = self.get_variable("params", "factor")
            params_t, x_t = vjp_fn(y_t)
            return params_t, factor * x_t

        # custom-vjp: bwd=scale_bwd
        def scale(module, x):
            return x * module.param("factor", nn.initializers.ones, ())

        return scale(self, x)
""",
        good=_LINEN
        + """\
class Scaled(nn.Module):
    def scale_bwd(self, vjp_fn, y_t):
        factor = self.get_variable("params", "factor")
        params_t, x_t = vjp_fn(y_t)
        return params_t, factor * x_t

    # custom-vjp: bwd=scale_bwd
    @nn.compact
    def __call__(self, x):
        return x * self.param("factor", nn.initializers.ones, ())
""",
    ),
    Entry(
        "VJP302",
        "a residual that `bwd` never uses",
        "Residuals are kept in memory from the forward pass to the backward pass. One that is "
        "unpacked and never read costs memory for nothing. A name such as `_` says that this is on "
        "purpose; it is reported all the same where `fwd` is seen to keep an array for it, and no "
        "other rule shares that `fwd`. Leave the residual out of what `fwd` returns.",
        bad="""\
def square_fwd(x):
    y = x * x
    return y, (x, y)


def square_bwd(residuals, y_t):
    x, y = residuals
    return (2 * x * y_t,)


# custom-vjp: fwd=square_fwd, bwd=square_bwd
def square(x):
    return x * x
""",
        good="""\
def square_fwd(x):
    return x * x, x


def square_bwd(x, y_t):
    return (2 * x * y_t,)


# custom-vjp: fwd=square_fwd, bwd=square_bwd
def square(x):
    return x * x
""",
        severity=Severity.WARNING,
    ),
    Entry(
        "VJP303",
        "`bwd` creates variables, sows or draws rngs",
        "The backward pass has no scope to create a variable in, to sow into or to draw a key "
        "from. Draw or create in `fwd` and pass the value on as a residual. Reading is fine, and a "
        "rule under `@nn.compact` may name the parameters and layers of the forward pass again.",
        bad=_LINEN
        + """\
class Noisy(nn.Module):
    def noisy_bwd(self, vjp_fn, y_t):
        self.sow("intermediates", "y_t", y_t)
        return vjp_fn(y_t)

    # custom-vjp: bwd=noisy_bwd
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)
""",
        good=_LINEN
        + """\
class Noisy(nn.Module):
    def noisy_bwd(self, vjp_fn, y_t):
        return vjp_fn(jnp.clip(y_t, -1, 1))

    # custom-vjp: bwd=noisy_bwd
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)
""",
    ),
    Entry(
        "VJP304",
        "a float literal or array constructor of fixed dtype in a tangent",
        "A tangent has the dtype of its primal. A constructor such as `jnp.ones(shape)` gives "
        "float32 whatever the primal is, and a module that runs in bfloat16 then fails. Use "
        "`jnp.ones_like` or pass the dtype.",
        bad="""\
import jax.numpy as jnp


def scale_bwd(vjp_fn, y_t):
    return (jnp.ones(y_t.shape),)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
        good="""\
import jax.numpy as jnp


def scale_bwd(vjp_fn, y_t):
    return (jnp.ones_like(y_t),)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
        severity=Severity.WARNING,
        default=False,
    ),
    Entry(
        "VJP305",
        "a rule writes a variable of an enclosing function",
        "What a rule takes from the functions around it becomes an argument of the lifted "
        "function, so a variable that it binds anew, by `nonlocal`, would change in a copy alone; "
        "and what it writes is a value of the trace, which nothing outside may use. Return the "
        "value as an output, a residual or a tangent, or keep it in a variable of a module. This "
        "holds for the primal, for `fwd`, for `bwd` and for local functions that they use; a "
        "variable of a function inside the rule may be written.",
        bad="""\
def loss(x):
    largest = None

    def clip_bwd(vjp_fn, y_t):
        nonlocal largest
        largest = abs(y_t).max()
        return vjp_fn(y_t.clip(-1, 1))

    # custom-vjp: bwd=clip_bwd
    def clip(x):
        return 2 * x

    return clip(x).sum(), largest
""",
        good="""\
def loss(x, largest):
    def clip_fwd(x, largest):
        return 2 * x, None

    def clip_bwd(_, y_t):
        return 2 * y_t.clip(-1, 1), abs(y_t).max()

    # custom-vjp: fwd=clip_fwd, bwd=clip_bwd, state=largest
    def clip(x, largest):
        return 2 * x

    return clip(x, largest).sum()
""",
    ),
)
