"""Rules that are right, in all that makes a check of gradients hard."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import vjpgen
from tests.compiled import compiled
from tests.power.case import (
    Arguments,
    Case,
    Make,
    Real,
    by_jax,
    drawn,
    normal,
    of_dtype,
    of_scale,
)
from tests.power.functions import (
    Attention,
    Conv,
    CrossEntropy,
    CumSum,
    Dense,
    Dropout,
    Dropped,
    Embedding,
    FixedPoint,
    Halved,
    LayerNorm,
    LeakyRelu,
    LogDensity,
    LogSumExp,
    Metered,
    Mlp,
    Moments,
    Normed,
    Power,
    Quantiser,
    Recompute,
    RmsNorm,
    Rnn,
    SegmentSum,
    SoftPlus,
    Solve,
    Sort,
    Spectral,
    Tanh,
    UnitRows,
)

RIGHT: dict[str, Case] = {}


def add(name: str, kind: str, about: str, make: Make, arguments: Arguments, **claims: Any) -> None:
    """Add a rule to the suite."""
    assert name not in RIGHT
    RIGHT[name] = Case(name, kind, about, make, arguments, claims)


def right(kind: str, arguments: Arguments, **claims: Any) -> Callable[[Make], Make]:
    """Add what a function makes to the suite."""

    def added(make: Make) -> Make:
        assert make.__doc__ is not None
        add(make.__name__, kind, make.__doc__, make, arguments, **claims)
        return make

    return added


def add_real(kind: str, real: type[Real], arguments: Arguments | None = None, **how: Any) -> None:
    """Add one of the real functions, perhaps with other arguments or made in another way."""
    assert real.__doc__ is not None
    words = "".join(c if c.isalnum() else "_" for c in kind)
    name = f"{real.__name__.lower()}_{words}"
    about = real.__doc__
    add(name, kind, about, lambda: real.make(**how), arguments or real.arguments)


# -- as they come ----------------------------------------------------------------------------------

SINGLE = "float32"
for each in (
    *(Dense, Conv, LayerNorm, RmsNorm, Attention, FixedPoint, Solve, LogDensity, LogSumExp),
    *(Tanh, SoftPlus, Rnn, Recompute, CumSum, Sort, Moments, Mlp),
):
    add_real(SINGLE, each)

for each in (Tanh, Moments, Recompute):
    add_real("by `vjpgen.custom_vjp`", each, by=vjpgen.custom_vjp)

for each in (Spectral, Power):
    add_real("complex64", each)

DISCRETE = "integers, booleans and keys among the arguments"
for each in (CrossEntropy, Embedding, SegmentSum, Dropout, Dropped):
    add_real(DISCRETE, each)

# -- precision -------------------------------------------------------------------------------------

for each in (Dense, Conv, LayerNorm, RmsNorm, Attention, CrossEntropy, Rnn):
    add_real("bfloat16", each, of_dtype(each.arguments, jnp.bfloat16))
for each in (Halved, Metered):
    add_real("bfloat16", each)
for each in (Dense, LogSumExp, Recompute, Moments):
    add_real("float16", each, of_dtype(each.arguments, jnp.float16))


def _half_and_single(rng):
    x, kernel, bias = Dense.arguments(rng)
    return x.astype(jnp.bfloat16), kernel, bias


@right("bfloat16", _half_and_single)
def dense_mixed_precision():
    """parameters in float32, computed in bfloat16"""

    def primal(x, kernel, bias):
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)

    def forward(x, kernel, bias):
        return primal(x, kernel, bias), (x, kernel)

    def backward(saved, g):
        x, kernel = saved
        kernel_t, bias_t = (x.T @ g).astype(kernel.dtype), g.sum(0).astype(kernel.dtype)
        return g @ kernel.astype(x.dtype).T, kernel_t, bias_t

    return by_jax(primal, forward, backward)


# -- scale -----------------------------------------------------------------------------------------

LARGE, TINY, MIXED = "large scale (1e6)", "tiny scale (1e-6)", "scales that differ"
for each in (Dense, RmsNorm, LogSumExp, CumSum, Sort):
    add_real(LARGE, each, of_scale(each.arguments, 1e6))
for each in (Dense, LayerNorm, Attention, Tanh, Moments):
    add_real(TINY, each, of_scale(each.arguments, 1e-6))
add_real(MIXED, Dense, of_scale(Dense.arguments, 1e6, 1e-6, 1.0))
add_real(MIXED, Solve, of_scale(Solve.arguments, 1e4, 1e-4))
add_real(MIXED, RmsNorm, of_scale(RmsNorm.arguments, 1e-3, 1e5))


def _rows(rng):
    x, scale, bias = LayerNorm.arguments(rng)
    return x * jnp.array([[1e-4], [1.0], [1e4]]), scale, bias


add("layernorm_rows", MIXED, "rows of very different size", LayerNorm.make, _rows)


@right("bfloat16", of_dtype(RmsNorm.arguments, jnp.bfloat16))
def rms_norm_in_single():
    """a backward rule that computes in float32, whatever its arguments are"""

    def backward(saved, g):
        single = [each.astype(jnp.float32) for each in (*saved, g)]
        x_t, scale_t = RmsNorm.backward(tuple(single[:-1]), single[-1])
        return x_t.astype(g.dtype), scale_t.astype(g.dtype)

    return RmsNorm.make(backward=backward)


def _one_hot(rng):
    return normal(rng, (4, 5)), jax.nn.one_hot(jnp.asarray(rng.integers(0, 5, 4)), 5)


@right(DISCRETE, _one_hot, zero="labels")
def cross_entropy_of_one_hot():
    """a rule that keeps the class alone, as the labels have a single one each"""

    def loss(logits, labels):
        return -(jax.nn.log_softmax(logits) * labels).sum(-1)

    def forward(logits, labels):
        return loss(logits, labels), (logits, labels.argmax(-1))

    def backward(saved, g):
        logits, classes = saved
        wanted = jax.nn.one_hot(classes, 5, dtype=logits.dtype)
        return g[:, None] * (jax.nn.softmax(logits) - wanted), jnp.zeros_like(logits)

    return by_jax(loss, forward, backward)


# -- kinks -----------------------------------------------------------------------------------------

KINK = "near or at a kink"


def _near(rng):
    signs = np.where(np.arange(8) % 2, 1.0, -1.0)
    return (jnp.asarray(signs * rng.uniform(1e-5, 1e-3, 8), jnp.float32),)


add("leakyrelu_near", KINK, "a leaky ReLU just beside its kink", LeakyRelu.make, _near)


@right(KINK, lambda rng: (jnp.asarray([0.0, 1.0, -1.0, 0.0, 0.5], jnp.float32),))
def relu_at_zero():
    """a ReLU at zero"""
    relu = lambda x: jnp.where(x > 0, x, jnp.zeros_like(x))  # noqa: E731
    return by_jax(
        relu,
        lambda x: (relu(x), x > 0),
        lambda positive, g: (jnp.where(positive, g, jnp.zeros_like(g)),),
    )


add("unit_rows", KINK, UnitRows.__doc__ or "", UnitRows.make, UnitRows.arguments)


@right(KINK, lambda rng: (jnp.where(jnp.arange(200) % 2 == 0, 0.0, normal(rng, (200,))),))
def relu_at_many_zeros():
    """a ReLU at a hundred zeros, with the slope of the other side"""
    return by_jax(
        lambda x: jnp.maximum(x, 0),
        lambda x: (jnp.maximum(x, 0), x >= 0),
        lambda positive, g: (jnp.where(positive, g, jnp.zeros_like(g)),),
    )


def _close(rng):
    return (jnp.asarray(1 + 1e-4 * rng.permutation(6), jnp.float32),)


add("sort_close", KINK, "a sort of values that nearly tie", Sort.make, _close)


@right(KINK, lambda rng: (jnp.asarray(rng.uniform(1e-4, 1e-2, 6), jnp.float32),))
def root_near_zero():
    """a square root near zero, whose slope grows without bound"""
    return by_jax(jnp.sqrt, lambda x: (jnp.sqrt(x), jnp.sqrt(x)), lambda root, g: (0.5 * g / root,))


@right(KINK, lambda rng: (jnp.asarray(rng.uniform(-2e-2, 2e-2, 5), jnp.float32),))
def clipped_at_bounds():
    """a clip whose inputs lie close to its bounds"""
    bound = 1e-2
    return by_jax(
        lambda x: jnp.where(jnp.abs(x) < bound, x, bound * jnp.sign(x)),
        lambda x: (jnp.where(jnp.abs(x) < bound, x, bound * jnp.sign(x)), jnp.abs(x) < bound),
        lambda inside, g: (jnp.where(inside, g, jnp.zeros_like(g)),),
    )


# -- conditioning ----------------------------------------------------------------------------------

HARD = "ill-conditioned, long sums, cancellation"


def _ill(rng):
    left, right_ = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    return (
        jnp.asarray(left @ np.diag([1.0, 1e-1, 1e-3, 1e-4]) @ right_, jnp.float32),
        normal(rng, (4,)),
    )


add("solve_ill", HARD, "a solve of condition 1e4", Solve.make, _ill)


@right(HARD, drawn((100_000,), ()))
def sum_of_100000():
    """a weighted sum of 100,000 numbers"""
    return by_jax(
        lambda x, w: (w * x).sum(),
        lambda x, w: ((w * x).sum(), (x, w)),
        lambda saved, g: (jnp.broadcast_to(g * saved[1], saved[0].shape), g * saved[0].sum()),
    )


@right(HARD, drawn((100_000,)))
def log_sum_exp_of_100000():
    """a log-sum-exp of 100,000 numbers"""

    def forward(x):
        total = jax.nn.logsumexp(x)
        return total, (x, total)

    return by_jax(lambda x: jax.nn.logsumexp(x), forward, lambda s, g: (g * jnp.exp(s[0] - s[1]),))


@right(HARD, drawn((300, 400)))
def mean_square():
    """a mean of 120,000 squares"""
    return by_jax(
        lambda x: (x**2).mean(),
        lambda x: ((x**2).mean(), x),
        lambda x, g: (2 * g / x.size * x,),
    )


@right(HARD, lambda rng: (normal(rng, (6,)) + 1000, normal(rng, (6,)) + 1000))
def difference_of_squares():
    """a difference of nearly equal squares"""
    return by_jax(
        lambda x, y: x**2 - y**2,
        lambda x, y: (x**2 - y**2, (x, y)),
        lambda saved, g: (2 * g * saved[0], -2 * g * saved[1]),
    )


add(
    "variance_far_from_zero",
    HARD,
    "a variance of numbers far from zero",
    Moments.make,
    lambda rng: (normal(rng, (20,)) + 300,),
)

# -- claims ----------------------------------------------------------------------------------------

CLAIMS = "surrogates, zeros and state, as claimed"
add(
    "quantiser", CLAIMS, "a straight-through estimator", Quantiser.make, Quantiser.arguments,
    surrogate=("x",),
)  # fmt: skip
add(
    "quantiser_half", CLAIMS, "a straight-through estimator in bfloat16", Quantiser.make,
    of_dtype(Quantiser.arguments, jnp.bfloat16), surrogate=True, exact=(),
)  # fmt: skip


@right(CLAIMS, Dense.arguments, surrogate=("x",))
def feedback_alignment():
    """random feedback for the input, exact for the parameters"""
    feedback = np.random.default_rng(0).normal(size=(4, 4))

    def backward(saved, g):
        _, kernel_t, bias_t = Dense.backward(saved, g)
        return g @ jnp.asarray(feedback, g.dtype), kernel_t, bias_t

    return Dense.make(backward=backward)


@right(CLAIMS, drawn((5,)), surrogate=("x",))
def gradient_clipped():
    """an identity that clips gradients: a surrogate, and not linear"""
    return by_jax(lambda x: x, lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))


@right(CLAIMS, drawn((5,), ()), surrogate=("x",), zero=("strength",))
def gradient_reversed():
    """a gradient reversed, with a strength that does not learn"""
    return by_jax(
        lambda x, strength: x + 0 * strength,
        lambda x, strength: (x, strength),
        lambda strength, g: (-strength * g, jnp.zeros_like(strength)),
    )


@right(CLAIMS, drawn((4,), (4,)), zero=("target",))
def target_stopped():
    """a squared distance to a target that does not learn"""
    return by_jax(
        lambda x, target: ((x - target) ** 2).sum(),
        lambda x, target: (((x - target) ** 2).sum(), x - target),
        lambda difference, g: (2 * g * difference, jnp.zeros_like(difference)),
    )


def _with_scale(rng):
    return normal(rng, (3, 4)), normal(rng, (4, 2)), jnp.ones(1)


@right(CLAIMS, _with_scale, state=("scale",))
def scale_carried():
    """a scale whose new value travels in place of its gradient"""

    def forward(x, kernel, scale):
        return (x / scale) @ kernel * scale, (x, kernel)

    def backward(saved, g):
        x, kernel = saved
        return g @ kernel.T, x.T @ g, jnp.abs(x).max()[None]

    return by_jax(lambda x, kernel, scale: forward(x, kernel, scale)[0], forward, backward)


# -- trees, structures, JAX's own options ----------------------------------------------------------

OPTIONS = "trees, several outputs, options of `jax.custom_vjp`"


@right(OPTIONS, drawn((3, 2), (3, 2)))
def symbolic_zeros():
    """symbolic zeros"""

    def primal(x, y):
        return x * y, x.sum(0)

    def forward(x, y):
        return primal(x.value, y.value), (x.value, y.value)

    def backward(saved, g):
        x, y = saved
        product, total = (
            jnp.zeros(t.shape, t.dtype) if isinstance(t, jax.custom_derivatives.SymbolicZero) else t
            for t in g
        )
        return product * y + total, product * x

    function = jax.custom_vjp(primal)
    function.defvjp(forward, backward, symbolic_zeros=True)
    return function


@right(OPTIONS, lambda rng: (normal(rng, (3,)),))
def nondiff_argument():
    """a static exponent"""
    function = jax.custom_vjp(lambda x, n: x**n, nondiff_argnums=(1,))
    function.defvjp(lambda x, n: (x**n, x), lambda n, x, g: (n * x ** (n - 1) * g,))
    return lambda x: function(x, 3)


@right(OPTIONS, drawn((4,)))
def integer_output():
    """an output of integers beside one of floats"""
    return by_jax(
        lambda x: (jnp.argmax(x), x**2),
        lambda x: ((jnp.argmax(x), x**2), x),
        lambda x, g: (2 * x * g[1],),
    )


@right(OPTIONS, lambda rng: ([normal(rng, (2,)), (normal(rng, ()),)], {"none": None}))
def tree_with_none():
    """lists, tuples and `None` in trees"""

    def primal(parts, rest):
        return {"sum": parts[0] * parts[1][0]}

    return by_jax(
        primal,
        lambda parts, rest: (primal(parts, rest), parts),
        lambda parts, g: (
            [g["sum"] * parts[1][0], ((g["sum"] * parts[0]).sum(),)],
            {"none": None},
        ),
    )


@right(OPTIONS, lambda rng: (jnp.zeros((0, 3)), normal(rng, (3,))))
def no_elements():
    """an argument without elements"""
    return by_jax(
        lambda x, y: (x * y).sum(0) + 2 * y,
        lambda x, y: ((x * y).sum(0) + 2 * y, (x, y)),
        lambda s, g: (jnp.broadcast_to(g * s[1], s[0].shape), 2 * g + (g * s[0]).sum(0)),
    )


@right(OPTIONS, drawn((3, 4), (4, 4), (4,)))
def scanned():
    """a rule inside of a scan"""
    dense = Dense.make()

    def function(x, kernel, bias):
        return lax.scan(lambda h, _: (jnp.tanh(dense(h, kernel, bias)), None), x, None, 3)[0]

    return function


@right(OPTIONS, drawn((3, 4), (4, 4), (4,)))
def jitted():
    """a rule inside of jit"""
    return jax.jit(Dense.make())


@right(OPTIONS, drawn((5,)))
def on_the_host():
    """a backward rule that calls the host, which has no second order"""

    def backward(x, g):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        host = lambda x, g: np.asarray(g) * np.cos(np.asarray(x))  # noqa: E731
        return (jax.pure_callback(host, shape, x, g, vmap_method="sequential"),)

    return by_jax(jnp.sin, lambda x: (jnp.sin(x), x), backward)


# -- modules ---------------------------------------------------------------------------------------

MODULES = "modules: nested, shared, boxed, with batch norm and dropout"
add("batch_norm", MODULES, "batch norm by `vjpgen.custom_vjp`", Normed.make, Normed.arguments)


@right(MODULES, lambda rng: (nn.Dense(3), normal(rng, (2, 4))))
def linen_custom_vjp():
    """a layer by `flax.linen.custom_vjp`"""
    return nn.custom_vjp(
        lambda layer, x: layer(x),
        lambda layer, x: nn.vjp(lambda layer, x: layer(x), layer, x),
        lambda vjp_fn, g: vjp_fn(g),
    )


@right(MODULES, lambda rng: (nn.Dense(3, dtype=jnp.bfloat16), normal(rng, (2, 4))))
def layer_in_half_precision():
    """a layer that computes in bfloat16"""
    return vjpgen.custom_vjp(
        lambda layer, x: layer(x),
        lambda layer, x: vjpgen.vjp(lambda layer, x: layer(x), layer, x),
        lambda vjp_fn, g: vjp_fn(g),
    )


@functools.cache
def _annotated() -> ModuleType:
    source = importlib.import_module("tests.power.annotated")
    assert source.__file__ is not None
    return compiled(Path(source.__file__), "tests.power.annotated_vjp")


def _module(name: str) -> Arguments:
    return lambda rng: (getattr(_annotated(), name)(), normal(rng, (3, 4)))


GENERATED = "generated"
for name, claims in {
    "Block": {},
    "Stack": {},
    "Partly": {},
    "Signs": {"surrogate": ("params",)},
    "Noisy": {},
    "Around": {},
}.items():
    add(
        f"generated_{name.lower()}",
        GENERATED,
        f"the method of the annotated module {name}",
        lambda name=name: getattr(_annotated(), name).__call__,
        _module(name),
        **claims,
    )


@right(GENERATED, drawn((5,), ()))
def generated_swish():
    """an annotated function"""
    return _annotated().swish


@right(GENERATED, of_dtype(drawn((5,), ()), jnp.bfloat16))
def generated_swish_half():
    """an annotated function in bfloat16"""
    return _annotated().swish
