"""Rules that are wrong in one known way each."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import io_callback

import vjpgen
from tests.power.case import Arguments, Case, Function, Make, Real, mapped, normal, of_scale
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

WRONG: dict[str, Case] = {}
Changes = Mapping[int, Callable[[Any], Any]]


def wrong(
    kind: str,
    real: type[Real],
    *finds: str,
    arguments: Arguments | None = None,
    control: Make | None = None,
    **claims: Any,
) -> Callable[[Make], Make]:
    """Add what a function makes to the suite.

    Args:
        kind: the row of the table.
        real: the function that it is a wrong rule of.
        finds: the checks any of which may find it; by default the gradient's.
        arguments: what it is checked on; by default those of `real`.
        control: makes the same function with a right rule; by default that of `real`.
        claims: keywords of `check_rule`.
    """

    def add(make: Make) -> Make:
        assert make.__doc__ is not None
        assert make.__name__ not in WRONG
        WRONG[make.__name__] = Case(
            make.__name__,
            kind,
            f"{real.__doc__}: {make.__doc__}",
            make,
            arguments or real.arguments,
            claims,
            control or real.make,
            finds or ("gradient",),
        )
        return make

    return add


def changed(real: type[Real], changes: Changes) -> Function:
    """Make a function whose backward rule has some of its tangents changed."""

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        tangents = real.backward(saved, g)
        return tuple(changes[n](t) if n in changes else t for n, t in enumerate(tangents))

    return real.make(backward=backward)


# -- scaled ----------------------------------------------------------------------------------------

SCALED = "scaled by a constant"


@wrong(SCALED, Dense)
def dense_twice():
    """the kernel's tangent doubled"""
    return changed(Dense, {1: lambda t: 2 * t})


@wrong(SCALED, Attention)
def attention_without_root():
    """the scores are divided by the root of the width, their tangents are not"""
    root = np.sqrt(3).item()
    return changed(Attention, {0: lambda t: root * t, 1: lambda t: root * t})


@wrong(SCALED, Mlp)
def mlp_by_a_thousandth():
    """the input's tangent, off by 1e-3"""
    return changed(Mlp, {1: lambda t: t * (1 + 1e-3)})


@wrong(SCALED, LogSumExp)
def log_sum_exp_by_little():
    """off by 1e-4"""
    return changed(LogSumExp, {0: lambda t: t * (1 - 1e-4)})


@wrong(SCALED, LogDensity)
def covariance_without_half():
    """the covariance's tangent lacks its half"""
    return changed(LogDensity, {0: lambda t: 2 * t})


@wrong(SCALED, Metered)
def metered_by_a_tenth():
    """the kernel's tangent off by a tenth, beside an output in bfloat16"""
    return changed(Metered, {1: lambda t: 1.1 * t})


# -- sign ------------------------------------------------------------------------------------------

SIGN = "wrong sign"


@wrong(SIGN, Conv)
def conv_negated():
    """the input's tangent negated"""
    return changed(Conv, {0: lambda t: -t})


@wrong(SIGN, RmsNorm)
def rms_norm_adds():
    """the projection added where it is taken away"""

    def backward(saved, g):
        x, inverse, scale = saved
        normed, t = x * inverse, g * scale
        along = (t * normed).mean(-1, keepdims=True)
        return inverse * (t + normed * along), (g * normed).sum(0)

    return RmsNorm.make(backward=backward)


# -- transposed, permuted, swapped -----------------------------------------------------------------

MOVED = "transposed, permuted or swapped"


@wrong(MOVED, Dense)
def dense_transposed():
    """a square kernel's tangent transposed"""
    return changed(Dense, {1: lambda t: t.T})


@wrong(MOVED, Solve)
def solve_not_transposed():
    """solves with the matrix where its transpose belongs"""

    def backward(saved, g):
        a, y = saved
        b_t = jnp.linalg.solve(a, g)
        return -jnp.outer(b_t, y), b_t

    return Solve.make(backward=backward)


@wrong(MOVED, Conv)
def conv_not_flipped():
    """the kernel not flipped"""

    def backward(saved, g):
        x, kernel = saved
        return Conv.backward((x, kernel[::-1, ::-1]), g)

    return Conv.make(backward=backward)


@wrong(MOVED, Attention)
def attention_swapped():
    """the tangents of queries and keys swapped"""

    def backward(saved, g):
        q, k, v = Attention.backward(saved, g)
        return k, q, v

    return Attention.make(backward=backward)


@wrong(MOVED, Sort)
def sort_scattered_wrongly():
    """gathers where it should scatter"""
    return Sort.make(backward=lambda order, g: (g[order],))


@wrong(MOVED, CumSum)
def cumsum_forward():
    """sums from the wrong end"""
    return CumSum.make(backward=lambda _, g: (jnp.cumsum(g),))


# -- one leaf, one component -----------------------------------------------------------------------

PART = "one leaf or one component"


@wrong(PART, Mlp)
def mlp_one_bias():
    """one bias of a tree of parameters"""

    def backward(saved, g):
        params_t, x_t = Mlp.backward(saved, g)
        hidden = {**params_t["hidden"], "bias": 1.5 * params_t["hidden"]["bias"]}
        return {**params_t, "hidden": hidden}, x_t

    return Mlp.make(backward=backward)


@wrong(PART, Dense)
def dense_one_component():
    """one component of sixteen, off by a tenth"""
    return changed(Dense, {1: lambda t: t.at[2, 1].multiply(1.1)})


def _long(rng):
    return (normal(rng, (1000,)),)


@wrong(PART, SoftPlus, arguments=_long)
def softplus_one_by_little():
    """one component of a thousand, off by a hundredth"""
    return changed(SoftPlus, {0: lambda t: t.at[617].multiply(1.01)})


@wrong(PART, Normed)
def module_one_leaf():
    """the second layer's bias"""

    def backward(vjp_fn, g):
        variables_t, x_t = vjp_fn(g)
        params_t = variables_t["params"]
        thrice = jax.tree.map(lambda t: 3 * t, params_t["Dense_1"])
        return {"params": {**params_t, "Dense_1": thrice}}, x_t

    return Normed.make(backward=backward)


@wrong(PART, UnitRows)
def unit_rows_without_projection():
    """all but the row of zeros, at which autodiff says nothing"""
    return UnitRows.make(
        backward=lambda saved, g: (jnp.where(saved[2], g / saved[1], jnp.zeros_like(g)),)
    )


# -- directions ------------------------------------------------------------------------------------

DIRECTION = "orthogonal to a fixed direction"


@wrong(DIRECTION, LayerNorm)
def layer_norm_without_mean():
    """what is lost is orthogonal to all that sums to nothing"""

    def backward(saved, g):
        normed, inverse, scale = saved
        t = g * scale
        along = (t * normed).mean(-1, keepdims=True)
        return inverse * (t - normed * along), (g * normed).sum(0), g.sum(0)

    return LayerNorm.make(backward=backward)


@wrong(DIRECTION, Tanh)
def tanh_off_ones():
    """an error that sums to nothing: invisible along all-ones"""

    def off(t):
        error = t * t.shape[-1] - t.sum(-1, keepdims=True)
        return t + error

    return changed(Tanh, {0: off})


def _off_fixed(real: type[Real], *shapes: tuple[int, ...]) -> Function:
    """Add an error that the direction of `jax.test_util` cannot see.

    Of any cotangent it is the component along one direction, turned so that it is orthogonal to the
    normal numbers of seed 0 which `jax.test_util` draws for the arguments.
    """
    rng = np.random.RandomState(0)
    seen = rng.randn(*shapes[0])
    other = np.random.RandomState(7).randn(*shapes[0])
    error = other - seen * (other * seen).sum() / (seen * seen).sum()

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        first, *rest = real.backward(saved, g)
        size = sum(t.sum() for t in jax.tree.leaves(g))
        return first + size * jnp.asarray(error, first.dtype), *rest

    return real.make(backward=backward)


@wrong(DIRECTION, SoftPlus)
def softplus_off_the_direction():
    """an error orthogonal to the direction of `jax.test_util`"""
    return _off_fixed(SoftPlus, (6,))


@wrong(DIRECTION, Dense)
def dense_off_the_direction():
    """an error in the input's tangent, orthogonal to the direction of `jax.test_util`"""
    return _off_fixed(Dense, (3, 4))


# -- reductions ------------------------------------------------------------------------------------

REDUCED = "sum for mean, mean for sum, a reduction forgotten"


@wrong(REDUCED, CrossEntropy)
def cross_entropy_sum():
    """the sum's gradient for the mean's"""
    return changed(CrossEntropy, {0: lambda t: 4 * t})


@wrong(REDUCED, Dense)
def bias_of_first_row():
    """the bias takes the tangent of the first row alone"""

    def backward(saved, g):
        x_t, kernel_t, _ = Dense.backward(saved, g)
        return x_t, kernel_t, g[0]

    return Dense.make(backward=backward)


@wrong(REDUCED, SegmentSum)
def segment_mean():
    """the mean's gradient for a segment sum"""

    def backward(segments, g):
        sizes = jnp.zeros(3, g.dtype).at[segments].add(1)
        return (g / sizes[:, None])[segments], None

    return SegmentSum.make(backward=backward)


@wrong(REDUCED, Embedding)
def embedding_last_wins():
    """of repeated ids the last one wins"""

    def backward(saved, g):
        ids, zeros = saved
        return zeros.at[ids].set(g), None

    return Embedding.make(backward=backward)


# -- what is lost ----------------------------------------------------------------------------------

LOST = "stopped or truncated"


@wrong(LOST, RmsNorm)
def scale_stopped():
    """the scale's tangent is zero"""
    return changed(RmsNorm, {1: jnp.zeros_like})


@wrong(LOST, Dense)
def dense_none():
    """`None`, which is zero, for the kernel"""

    def backward(saved, g):
        x_t, _, bias_t = Dense.backward(saved, g)
        return x_t, None, bias_t

    return Dense.make(backward=backward)


@wrong(LOST, FixedPoint)
def fixed_point_one_step():
    """the last step alone is differentiated"""

    def backward(saved, g):
        _, z = saved
        w = (1 - z**2) * g
        return jnp.outer(w, z), w

    return FixedPoint.make(backward=backward)


@wrong(LOST, Rnn)
def rnn_truncated():
    """no gradient through time"""

    def backward(saved, g):
        xs, states, w, u = saved
        t = jnp.asarray(g[1]).at[-1].add(g[0]) * (1 - states[1:] ** 2)
        return t @ u.T, (t @ w.T)[0], states[:-1].T @ t, xs.T @ t

    return Rnn.make(backward=backward)


# -- residuals -------------------------------------------------------------------------------------

RESIDUAL = "wrong, stale or dropped residual"


@wrong(RESIDUAL, Tanh)
def tanh_of_output():
    """the slope of the input's formula at the output"""
    return Tanh.make(backward=lambda y, g: (g * (1 - jnp.tanh(y) ** 2),))


@wrong(RESIDUAL, Recompute)
def recomputed_otherwise():
    """recomputes with the approximate GELU"""

    def backward(saved, g):
        block = lambda x, up, down: jax.nn.gelu(x @ up, approximate=True) @ down  # noqa: E731
        return jax.vjp(block, *saved)[1](g)

    return Recompute.make(backward=backward)


@wrong(RESIDUAL, Dropped)
def dropped_stopped():
    """no tangent for the kernel, where single precision draws another mask than double"""
    return changed(Dropped, {1: jnp.zeros_like})


@wrong(RESIDUAL, Tanh)
def tanh_kept_in_half():
    """the output kept in bfloat16, which the slope is not good enough with"""
    return Tanh.make(forward=lambda x: (jnp.tanh(x), jnp.tanh(x).astype(jnp.bfloat16)))


@wrong(RESIDUAL, RmsNorm, arguments=lambda rng: (normal(rng, (3, 5)), jnp.ones(5)))
def rms_norm_without_scale():
    """the scale forgotten, which is one in the example, as it is at first"""

    def backward(saved, g):
        x, inverse, scale = saved
        return RmsNorm.backward((x, inverse, jnp.ones_like(scale)), g)

    return RmsNorm.make(backward=backward)


@wrong(RESIDUAL, Dropout)
def dropout_with_another_mask():
    """draws another mask in the backward pass"""
    return Dropout.make(
        backward=lambda key, g: (Dropout.primal(g, jax.random.fold_in(key, 1)), None)
    )


@wrong(RESIDUAL, Dense, "gradient", "repeat", "leak", "jit", "vmap")
def dense_of_first_call():
    """keeps the input of the first call that it ever saw"""
    kept: list[Any] = []

    def forward(x, kernel, bias):
        if not kept and not isinstance(x, jax.core.Tracer):
            kept.append(x)
        first = jnp.asarray(kept[0], x.dtype) if kept else jnp.zeros_like(x)
        return x @ kernel + bias, (first, kernel)

    return Dense.make(forward=forward)


# -- nondeterminism --------------------------------------------------------------------------------

NONDETERMINISTIC = "nondeterministic"


@wrong(NONDETERMINISTIC, SoftPlus, "repeat", "gradient", "linear")
def softplus_noisy():
    """noise from Python's generator"""
    return changed(SoftPlus, {0: lambda t: t * (1 + 0.1 * random.random())})


@wrong(NONDETERMINISTIC, Moments, "repeat", "gradient", "linear", "effects")
def moments_every_other_call():
    """wrong in every other call"""
    calls = itertools.count()
    return changed(Moments, {0: lambda t: t * (1 + next(calls) % 2)})


@wrong(NONDETERMINISTIC, CumSum, "repeat", "forward", "primal", "gradient")
def cumsum_forward_noisy():
    """a forward rule that adds noise of the host"""

    def forward(x):
        noise = jax.pure_callback(
            lambda: np.asarray(1e-2 * random.random(), x.dtype), jax.ShapeDtypeStruct((), x.dtype)
        )
        return jnp.cumsum(x) + noise, None

    return CumSum.make(forward=forward)


@wrong(NONDETERMINISTIC, Tanh, "repeat", "gradient", "linear")
def tanh_noisy_vjpgen():
    """noise from numpy's generator, in a rule of `vjpgen.custom_vjp`"""

    def backward(y, g):
        return (g * (1 - y**2) * (1 + 0.05 * np.random.rand()),)

    return Tanh.make(backward=backward, by=vjpgen.custom_vjp)


# -- the forward pass ------------------------------------------------------------------------------

FORWARD = "forward rule that is not the primal"


@wrong(FORWARD, LayerNorm, "forward")
def layer_norm_other_epsilon():
    """another epsilon in the forward rule"""

    def forward(x, scale, bias):
        out, saved = LayerNorm.forward(x, scale, bias)
        normed, inverse, _ = saved
        return out - 1e-4 * normed * inverse**2, saved

    return LayerNorm.make(forward=forward)


@wrong(FORWARD, Rnn, "forward")
def rnn_second_output():
    """the second output alone, by a thousandth"""

    def forward(xs, start, w, u):
        (last, states), saved = Rnn.forward(xs, start, w, u)
        return (last, states * (1 + 1e-3)), saved

    return Rnn.make(forward=forward)


@wrong(FORWARD, Embedding, "forward")
def embedding_clips_ids():
    """looks up other ids where they are large"""

    def forward(table, ids):
        _, saved = Embedding.forward(table, ids)
        return table[jnp.minimum(ids, 3)], saved

    return Embedding.make(forward=forward)


@wrong(FORWARD, Normed, "forward")
def module_updates_twice():
    """a batch norm that is called twice in the forward rule: other statistics"""

    def forward(net, x):
        net(x)
        return vjpgen.vjp(Normed.primal, net, x)

    return Normed.make(forward=forward)


@wrong(FORWARD, Halved, "forward")
def halved_by_a_quarter():
    """the output in bfloat16, off by a quarter"""

    def forward(x, kernel):
        return 1.25 * Halved.primal(x, kernel), (x, kernel)

    return Halved.make(forward=forward)


@wrong(FORWARD, LogSumExp, "precision", arguments=lambda rng: (normal(rng, (3, 4)) + 100,))
def log_sum_exp_that_overflows():
    """sums the exponentials as they are, which is too much in single precision alone"""

    def forward(x):
        _, saved = LogSumExp.forward(x)
        return jnp.log(jnp.exp(x).sum(-1)), saved

    return LogSumExp.make(forward=forward)


# -- linearity -------------------------------------------------------------------------------------

NONLINEAR = "not linear in the output's tangent"


@wrong(NONLINEAR, Conv, "linear", "gradient")
def conv_clipped():
    """tangents clipped"""
    return changed(Conv, {1: lambda t: jnp.clip(t, -1, 1)})


@wrong(NONLINEAR, Solve, "linear", "gradient")
def solve_normalised():
    """a tangent of length one"""
    return changed(Solve, {1: lambda t: t / jnp.linalg.norm(t)})


@wrong(NONLINEAR, LogDensity, "linear", "gradient")
def log_density_decay():
    """adds weight decay, whatever the cotangent"""

    def backward(saved, g):
        covariance_t, y_t = LogDensity.backward(saved, g)
        return covariance_t, y_t + 0.01 * saved[1]

    return LogDensity.make(backward=backward)


@wrong(NONLINEAR, CrossEntropy, "linear", "gradient")
def cross_entropy_of_one():
    """takes the output's tangent for one: right for a loss that stands alone"""

    def backward(saved, g):
        return CrossEntropy.backward(saved, jnp.ones_like(g))

    return CrossEntropy.make(backward=backward)


# -- several outputs -------------------------------------------------------------------------------

OUTPUTS = "wrong at one of several outputs"


@wrong(OUTPUTS, Moments, "gradient", "linear")
def moments_one_ignored():
    """ignores the tangent of the second output"""

    def backward(centred, g):
        return Moments.backward(centred, (g[0], jnp.zeros_like(g[1])))

    return Moments.make(backward=backward)


# -- structure -------------------------------------------------------------------------------------

STRUCTURE = "wrong dtype, shape or structure"


@wrong(STRUCTURE, Dense, "structure")
def dense_half():
    """a tangent in bfloat16"""
    return changed(Dense, {1: lambda t: t.astype(jnp.bfloat16)})


@wrong(STRUCTURE, Conv, "structure")
def conv_shape():
    """a kernel's tangent with a further axis"""
    return changed(Conv, {1: lambda t: t[None]})


@wrong(STRUCTURE, Mlp, "structure")
def mlp_leaf_missing():
    """a tree without one of its leaves"""

    def backward(saved, g):
        params_t, x_t = Mlp.backward(saved, g)
        return {"hidden": params_t["hidden"], "out": {"kernel": params_t["out"]["kernel"]}}, x_t

    return Mlp.make(backward=backward)


@wrong(STRUCTURE, Normed, "structure")
def module_leaf_missing():
    """a module's tangents without one of its layers, under the strict policy"""

    def backward(vjp_fn, g):
        variables_t, x_t = vjp_fn(g)
        params_t = {n: t for n, t in variables_t["params"].items() if n != "Dense_1"}
        return {"params": params_t}, x_t

    return Normed.make(backward=backward)


# -- transforms ------------------------------------------------------------------------------------

TRANSFORMS = "wrong under a transformation alone"


@wrong(TRANSFORMS, Tanh, "jit", "gradient", "vmap", "scan", "checkpoint")
def tanh_traced():
    """a shortcut where it is traced"""

    def backward(y, g):
        slope = 1 - y if isinstance(g, jax.core.Tracer) else 1 - y**2
        return (g * slope,)

    return Tanh.make(backward=backward)


def _softplus_on_host(norm: Callable[[Any], int]) -> Function:
    def host(x: Any, g: Any) -> Any:
        x, g = np.asarray(x), np.asarray(g)
        return g / (1 + np.exp(-x)) / norm(x)

    def backward(x: Any, g: Any) -> tuple[Any, ...]:
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return (jax.pure_callback(host, shape, x, g, vmap_method="broadcast_all"),)

    return SoftPlus.make(backward=backward)


@wrong(TRANSFORMS, SoftPlus, "vmap", control=lambda: _softplus_on_host(lambda x: 1))
def softplus_batched_kernel():
    """a kernel of the host that averages over the whole batch"""
    return _softplus_on_host(lambda x: 1 if x.ndim == 1 else x.shape[0])


def _rms_norm_batched(over_batch: Callable[[Any], Any]) -> Function:
    @jax.custom_batching.custom_vmap
    def reduced(t: Any) -> Any:
        return t.sum(0)

    @reduced.def_vmap
    def batched(size: int, _: Any, t: Any) -> tuple[Any, bool]:
        return jnp.broadcast_to(over_batch(t.sum(1)), (size, t.shape[-1])), True

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        x, inverse, _ = saved
        return RmsNorm.backward(saved, g)[0], reduced(g * x * inverse)

    return RmsNorm.make(backward=backward)


@wrong(TRANSFORMS, RmsNorm, "vmap", control=lambda: _rms_norm_batched(lambda t: t))
def rms_norm_batch_mean():
    """a batching rule that averages the scale's tangent over the batch"""
    return _rms_norm_batched(lambda t: t.mean(0))


@wrong(TRANSFORMS, CumSum, "jit", "leak", "scan", "checkpoint", "gradient", "repeat", "effects")
def cumsum_leaks():
    """hands the output's length to the backward rule around JAX: a leaked tracer"""
    kept: list[Any] = []

    def forward(x):
        kept[:] = [jnp.ones_like(x).sum() * (1 + 0 * x[0])]
        return jnp.cumsum(x), None

    def backward(_, g):
        return (jnp.cumsum(g[::-1])[::-1] * kept[0] / len(g),)

    return CumSum.make(forward=forward, backward=backward)


# -- effects ---------------------------------------------------------------------------------------

EFFECTS = "side effect in the backward pass"


@wrong(EFFECTS, Dense, "effects")
def dense_records():
    """appends the tangent's norm to a list"""
    norms: list[Any] = []

    def backward(saved, g):
        norms.append(jnp.linalg.norm(g))
        return Dense.backward(saved, g)

    return Dense.make(backward=backward)


@wrong(EFFECTS, RmsNorm, "effects")
def rms_norm_writes():
    """writes to the host"""
    seen: list[Any] = []

    def backward(saved, g):
        io_callback(lambda t: seen.append(t), None, lax.stop_gradient(g))
        return RmsNorm.backward(saved, g)

    return RmsNorm.make(backward=backward)


# -- complex ---------------------------------------------------------------------------------------

CONJUGATE = "a conjugate missing or too many"


@wrong(CONJUGATE, Power)
def power_without_conjugate():
    """a conjugate missing"""
    return Power.make(backward=lambda spectrum, g: (jnp.fft.fft(2 * g * spectrum),))


@wrong(CONJUGATE, Spectral)
def spectral_conjugated():
    """the adjoint where JAX expects the transpose"""

    def backward(saved, g):
        spectrum, weights = saved
        t = jnp.fft.ifft(g)
        return jnp.fft.fft(weights.conj() * t), spectrum * t

    return Spectral.make(backward=backward)


@wrong(CONJUGATE, Power)
def power_real_part():
    """the real part alone"""
    return changed(Power, {0: lambda t: t.real.astype(t.dtype)})


# -- only at some inputs ---------------------------------------------------------------------------

REGION = "wrong at some inputs alone"


@wrong(REGION, LogSumExp, "gradient", "precision", arguments=of_scale(LogSumExp.arguments, 300.0))
def log_sum_exp_overflows():
    """overflows at large inputs"""

    def forward(x):
        return LogSumExp.forward(x)[0], x

    def backward(x, g):
        e = jnp.exp(x)
        return (g[:, None] * e / e.sum(-1, keepdims=True),)

    return LogSumExp.make(forward=forward, backward=backward)


@wrong(REGION, LeakyRelu)
def leaky_relu_below():
    """the slope below zero forgotten"""
    return LeakyRelu.make(backward=lambda positive, g: (jnp.where(positive, g, jnp.zeros_like(g)),))


def _large_and_small(rng):
    x = normal(rng, (2, 4))
    return (x * jnp.array([1.0, 1.0, 1e-6, 1e-6]),)


@wrong(REGION, Tanh, arguments=_large_and_small)
def tanh_small():
    """a cutoff that takes small outputs for zero"""
    return Tanh.make(
        backward=lambda y, g: (jnp.where(jnp.abs(y) < 1e-4, jnp.zeros_like(g), g * (1 - y**2)),)
    )


@wrong(REGION, RmsNorm, arguments=of_scale(RmsNorm.arguments, 1e-4, 1.0))
def rms_norm_epsilon():
    """another epsilon in the backward pass, which small inputs feel"""

    def forward(x, scale):
        out, _ = RmsNorm.forward(x, scale)
        inverse = lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-8)
        return out, (x, inverse, scale)

    return RmsNorm.make(forward=forward)


# -- claims ----------------------------------------------------------------------------------------

CLAIM = "a claim that does not hold, or is stale"


@wrong(CLAIM, Quantiser, "claim", "gradient", control=lambda: Quantiser.primal)
def quantiser_exact():
    """a straight-through estimator that is claimed exact"""
    return Quantiser.make()


@wrong(CLAIM, Dense, "claim", surrogate=("kernel",))
def dense_surrogate_is_exact():
    """a surrogate that is exact"""
    return Dense.make()


@wrong(CLAIM, RmsNorm, "claim", zero=("scale",))
def scale_not_zero():
    """claimed zero, and is not"""
    return RmsNorm.make()


@wrong(CLAIM, Attention, "claim", state=("v",))
def values_not_state():
    """state that is a gradient"""
    return Attention.make()


@wrong(CLAIM, LayerNorm, "claim", "gradient", surrogate=("bias",))
def surrogate_not_claimed():
    """one slot is a surrogate as claimed, another one too, which is not claimed"""
    return changed(LayerNorm, {1: lambda t: 0.5 * t, 2: lambda t: 0.5 * t})


# -- precision -------------------------------------------------------------------------------------

PRECISION = "in low precision alone"


class ScaledMean(Real):
    """a mean with a learnt scale"""

    @staticmethod
    def arguments(rng):
        return jnp.asarray(rng.uniform(0.5, 1.5, 2000), jnp.bfloat16), jnp.bfloat16(1.0)

    @staticmethod
    def primal(x, factor):
        return factor * x.mean()

    @staticmethod
    def forward(x, factor):
        return factor * x.mean(), (x, factor)

    @staticmethod
    def backward(saved, g):
        x, factor = saved
        return jnp.full_like(x, g * factor / x.size), g * x.mean()


@wrong(PRECISION, ScaledMean, "precision")
def mean_accumulates():
    """a sum of 2000 numbers, accumulated in bfloat16"""

    def backward(saved, g):
        x, factor = saved
        start = jnp.zeros((), x.dtype)
        total, _ = lax.scan(lambda total, each: (total + each, None), start, x)
        return jnp.full_like(x, g * factor / x.size), g * total / x.size

    return ScaledMean.make(backward=backward)


def _halved(x):
    return lax.reduce_precision(x, exponent_bits=5, mantissa_bits=10)


@wrong(PRECISION, Dense)
def dense_through_half():
    """a residual kept in half precision, whatever comes"""

    def backward(saved, g):
        return Dense.backward(jax.tree.map(_halved, saved), g)

    return Dense.make(backward=backward)


@wrong(
    PRECISION,
    SoftPlus,
    "precision",
    arguments=mapped(lambda rng: (normal(rng, (6,), 3.0),), lambda x: x.astype(jnp.float16)),
)
def softplus_overflows_half():
    """a slope by way of a power that overflows in float16"""

    def backward(x, g):
        big = jnp.exp(x + 10)
        return (g * big / (big + np.exp(10).astype(x.dtype)),)

    return SoftPlus.make(backward=backward)


# -- order 2 ---------------------------------------------------------------------------------------

ORDER_2 = "wrong at second order alone"


@wrong(ORDER_2, Tanh, "order2")
def tanh_stopped_residual():
    """a residual that stops gradients"""
    return Tanh.make(backward=lambda y, g: (g * (1 - lax.stop_gradient(y) ** 2),))


@wrong(ORDER_2, LogSumExp, "order2")
def log_sum_exp_stopped():
    """a softmax that counts as constant"""

    def backward(saved, g):
        return LogSumExp.backward(jax.tree.map(lax.stop_gradient, saved), g)

    return LogSumExp.make(backward=backward)


# -- Linen -----------------------------------------------------------------------------------------

LINEN = "in a module, by `flax.linen.custom_vjp`"


class LinenDense(Real):
    """a Linen layer"""

    @staticmethod
    def arguments(rng):
        return nn.Dense(3), normal(rng, (2, 4))

    @staticmethod
    def primal(layer, x):
        return layer(x)

    @staticmethod
    def forward(layer, x):
        return nn.vjp(LinenDense.primal, layer, x)

    @staticmethod
    def backward(vjp_fn, g):
        return vjp_fn(g)

    @classmethod
    def make(cls, *, primal=None, forward=None, backward=None, by=nn.custom_vjp):
        return super().make(primal=primal, forward=forward, backward=backward, by=by)


@wrong(LINEN, LinenDense, "gradient")
def linen_params_halved():
    """the parameters' tangents halved"""

    def backward(vjp_fn, g):
        params_t, x_t = vjp_fn(g)
        return jax.tree.map(lambda t: t / 2, params_t), x_t

    return LinenDense.make(backward=backward)
