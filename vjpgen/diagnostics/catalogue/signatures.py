"""The family VJP2xx: the shape of the annotated function and of its rule."""

from __future__ import annotations

from vjpgen.diagnostics.catalogue.entry import Entry

_PRODUCT = """\
def product_fwd(x, y):
    return x * y, (x, y)


def product_bwd(residuals, z_t):
    x, y = residuals
    return y * z_t, x * z_t


# custom-vjp: fwd=product_fwd, bwd=product_bwd
def product(x, y):
    return x * y
"""

_POWER = """\
def power_bwd(n, vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=power_bwd, nondiff_argnames=n
def power(x, n):
    return x**n
"""

ENTRIES = (
    Entry(
        "VJP201",
        "`fwd` cannot be called with the function's arguments",
        "The forward rule takes the same arguments as the function, the module among them, and "
        "returns the output and the residuals.",
        bad="""\
def product_fwd(x):
    return x * x, x


def product_bwd(residuals, z_t):
    return residuals * z_t, residuals * z_t


# custom-vjp: fwd=product_fwd, bwd=product_bwd
def product(x, y):
    return x * y
""",
        good=_PRODUCT,
    ),
    Entry(
        "VJP202",
        "`bwd` takes the wrong number of arguments",
        "The backward rule takes the nondiff arguments in the order of the signature, then the "
        "residuals, then the tangent of the output. Without `fwd` the residual is the vjp "
        "function. A method also has its `self`.",
        bad="""\
def scale_bwd(y_t):
    return (2 * y_t,)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
        good="""\
def scale_bwd(vjp_fn, y_t):
    return (2 * y_t,)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
    ),
    Entry(
        "VJP203",
        "`bwd` returns a tuple of the wrong length",
        "The backward rule returns one tangent for the module, if there is one, and one for each "
        "argument that is not nondiff. `None` stands for zero. The finding is made where a "
        "`return` shows a tuple, or something that is none, and where nothing is returned.",
        bad="""\
def product_bwd(vjp_fn, z_t):
    x_t, y_t = vjp_fn(z_t)
    return (x_t,)


# custom-vjp: bwd=product_bwd
def product(x, y):
    return x * y
""",
        good="""\
def product_bwd(vjp_fn, z_t):
    x_t, y_t = vjp_fn(z_t)
    return (x_t, None)


# custom-vjp: bwd=product_bwd
def product(x, y):
    return x * y
""",
    ),
    Entry(
        "VJP204",
        "`fwd` does not return a pair",
        "The forward rule returns `(output, residuals)`; what `bwd` needs goes into one value, "
        "a tuple for instance. The finding is made where a `return` shows a tuple of another "
        "length, or something that is none, and where nothing is returned.",
        bad="""\
def product_fwd(x, y):
    return x * y, x, y


def product_bwd(residuals, z_t):
    x, y = residuals
    return y * z_t, x * z_t


# custom-vjp: fwd=product_fwd, bwd=product_bwd
def product(x, y):
    return x * y
""",
        good=_PRODUCT,
    ),
    Entry(
        "VJP205",
        "a nondiff argument that the function does not have, is the module, or is repeated",
        "`nondiff_argnums` counts the module, or the first argument, as 0; `nondiff_argnames` "
        "uses the names of the signature. The module is always differentiated, and an argument "
        "is named once, by number or by name.",
        bad="""\
def power_bwd(n, vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=power_bwd, nondiff_argnames=m
def power(x, n):
    return x**n
""",
        good=_POWER,
    ),
    Entry(
        "VJP206",
        "this kind of function cannot carry a rule",
        "A rule replaces the gradient of a call that takes arrays and returns arrays. Coroutines, "
        "generators, properties, class methods, overloads and lambdas are not such calls. Methods "
        "of Flax NNX modules are not supported yet.",
        bad="""\
def scale_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=scale_bwd
async def scale(x):
    return 3 * x
""",
        good="""\
def scale_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
    ),
    Entry(
        "VJP207",
        "the function already carries a rule",
        "The function is decorated with `jax.custom_vjp`, `jax.custom_jvp` or another such rule. "
        "A function has one rule: keep the decorator or the annotation.",
        bad="""\
import jax


def scale_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=scale_bwd
@jax.custom_vjp
def scale(x):
    return 3 * x
""",
        good="""\
def scale_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
    ),
)
