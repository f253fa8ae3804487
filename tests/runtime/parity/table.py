"""The table of constructions: at least one for every public layer of `flax.linen`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

Change = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One construction of a layer and one call of it.

    Args:
        layer: the layer's class.
        fields: the constructor's arguments.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        inner: builds a layer that the constructor takes first.
        state: collections that the call updates.
        nn_vjp: whether `flax.linen.vjp` takes the layer and its arguments: it refuses modules that
            hold others, and strings.
    """

    layer: Any
    fields: Mapping[str, Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inner: tuple[Callable[[], Any], ...] = ()
    state: tuple[str, ...] = ()
    nn_vjp: bool = True

    def make(self, change: Change = lambda layer: layer) -> Callable[[], Any]:
        """Return what constructs the layer, its class changed by `change`."""
        return partial(_construct, change(self.layer), self.inner, tuple(self.fields.items()))


def _construct(layer: Any, inner: Any, fields: Any) -> Any:
    # Layers inside are left to the outer one to bind.
    return layer(*(make() for make in inner), **dict(fields))


def _array(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _loose(layer: Any, *args: Any, **fields: Any) -> Callable[[], Any]:
    return partial(layer, *args, parent=None, **fields)


VECTORS = _array(3, 4)
SEQUENCE = _array(2, 3, 4)
IMAGE = _array(1, 4, 4, 2)
TOKENS = np.array([[0, 2], [1, 1]], np.int32)
MASK = np.array([[True, True, False, True], [True, False, True, True], [True, True, True, False]])
CARRY = _array(3, 3, seed=2)
CARRIES = (CARRY, _array(3, 3, seed=3))
MAPS = (_array(1, 4, 4, 2, seed=2), _array(1, 4, 4, 2, seed=3))
KERNEL = _array(4, 3, seed=4)
CAUSAL = np.tril(np.ones((1, 1, 3, 3), bool))
LENGTHS = np.array([2, 3], np.int32)
CONTRACT = (((1,), (0,)), ((), ()))
HEADS: dict[str, Any] = {"num_heads": 2, "qkv_features": 4}
FP8: dict[str, Any] = {"amax_history_length": 2}


def _activate(x: Any) -> Any:
    return nn.tanh(x)


CASES: dict[str, Case] = {
    # linear
    "Dense": Case(nn.Dense, {"features": 3}, (VECTORS,)),
    "Dense, bfloat16": Case(nn.Dense, {"features": 3, "dtype": jnp.bfloat16}, (VECTORS,)),
    "Dense, partitioned": Case(
        nn.Dense,
        {
            "features": 3,
            "kernel_init": nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model")),
        },
        (VECTORS,),
    ),
    "Dense, fp8": Case(
        nn.Dense,
        {"features": 3, "dot_general_cls": partial(nn.Fp8DirectDotGeneralOp, **FP8)},
        (VECTORS,),
    ),
    "DenseGeneral": Case(
        nn.DenseGeneral, {"features": (3, 2), "axis": (1, -1), "batch_dims": (0,)}, (SEQUENCE,)
    ),
    "Einsum": Case(nn.Einsum, {"shape": (4, 3), "einsum_str": "bi,io->bo"}, (VECTORS,)),
    "Einsum, of the call": Case(
        nn.Einsum, {"shape": (4, 3)}, (VECTORS,), {"einsum_str": "bi,io->bo"}
    ),
    "Conv": Case(nn.Conv, {"features": 2, "kernel_size": (3, 3), "strides": 2}, (IMAGE,)),
    "Conv, masked": Case(
        nn.Conv,
        {"features": 2, "kernel_size": (2, 2), "mask": np.tril(np.ones((2, 2, 2, 2), bool))},
        (IMAGE,),
    ),
    "ConvLocal": Case(nn.ConvLocal, {"features": 2, "kernel_size": (2, 2)}, (IMAGE,)),
    "ConvTranspose": Case(
        nn.ConvTranspose, {"features": 2, "kernel_size": (2, 2), "strides": (2, 2)}, (IMAGE,)
    ),
    "Embed": Case(nn.Embed, {"num_embeddings": 3, "features": 2}, (TOKENS,)),
    # attention
    "MultiHeadDotProductAttention": Case(
        nn.MultiHeadDotProductAttention,
        {**HEADS, "dropout_rate": 0.4, "deterministic": False},
        (SEQUENCE, 2 * SEQUENCE),
        {"mask": CAUSAL, "sow_weights": True},
        state=("intermediates",),
    ),
    "MultiHeadDotProductAttention, decoding": Case(
        nn.MultiHeadDotProductAttention,
        {**HEADS, "decode": True},
        (SEQUENCE[:, :1],),
        state=("cache",),
    ),
    "MultiHeadAttention": Case(
        nn.MultiHeadAttention, {**HEADS, "normalize_qk": True}, (SEQUENCE,), {"mask": CAUSAL}
    ),
    "SelfAttention": Case(
        nn.SelfAttention, {**HEADS, "dropout_rate": 0.3}, (SEQUENCE,), {"deterministic": False}
    ),
    # normalization
    "BatchNorm": Case(nn.BatchNorm, {"momentum": 0.9}, (VECTORS, False), state=("batch_stats",)),
    "BatchNorm, masked": Case(
        nn.BatchNorm,
        {"use_running_average": False, "use_scale": False},
        (VECTORS,),
        {"mask": MASK},
        state=("batch_stats",),
    ),
    "BatchNorm, evaluating": Case(nn.BatchNorm, {"use_running_average": True}, (VECTORS,)),
    "LayerNorm": Case(nn.LayerNorm, {}, (VECTORS,), {"mask": MASK}),
    "RMSNorm": Case(nn.RMSNorm, {}, (VECTORS,)),
    "GroupNorm": Case(nn.GroupNorm, {"num_groups": 2}, (VECTORS,)),
    "InstanceNorm": Case(nn.InstanceNorm, {}, (IMAGE,)),
    "SpectralNorm": Case(
        nn.SpectralNorm,
        {},
        (VECTORS,),
        {"update_stats": True},
        inner=(_loose(nn.Dense, 3),),
        state=("batch_stats",),
        nn_vjp=False,
    ),
    "WeightNorm": Case(nn.WeightNorm, {}, (VECTORS,), inner=(_loose(nn.Dense, 3),), nn_vjp=False),
    # chance, activation, combination
    "Dropout": Case(nn.Dropout, {"rate": 0.4}, (VECTORS,), {"deterministic": False}),
    "PReLU": Case(nn.PReLU, {}, (VECTORS,)),
    "Sequential": Case(
        nn.Sequential,
        {"layers": (nn.Dense(3, parent=None), _activate, nn.Dropout(0.5, deterministic=False))},
        (VECTORS,),
        nn_vjp=False,
    ),
    # recurrence
    "SimpleCell": Case(nn.SimpleCell, {"features": 3}, (CARRY, VECTORS)),
    "LSTMCell": Case(nn.LSTMCell, {"features": 3}, (CARRIES, VECTORS)),
    "OptimizedLSTMCell": Case(nn.OptimizedLSTMCell, {"features": 3}, (CARRIES, VECTORS)),
    "GRUCell": Case(nn.GRUCell, {"features": 3}, (CARRY, VECTORS)),
    "MGUCell": Case(nn.MGUCell, {"features": 3}, (CARRY, VECTORS)),
    "ConvLSTMCell": Case(nn.ConvLSTMCell, {"features": 2, "kernel_size": (2, 2)}, (MAPS, IMAGE)),
    "RNN": Case(
        nn.RNN,
        {"return_carry": True},
        (SEQUENCE,),
        {"seq_lengths": LENGTHS},
        inner=(_loose(nn.OptimizedLSTMCell, 3),),
        nn_vjp=False,
    ),
    "Bidirectional": Case(
        nn.Bidirectional,
        {},
        (SEQUENCE,),
        inner=(
            _loose(nn.RNN, nn.GRUCell(3, parent=None)),
            _loose(nn.RNN, nn.SimpleCell(3, parent=None)),
        ),
        nn_vjp=False,
    ),
    # 8-bit floats: the collection's gradient is its new state
    "Fp8DotGeneralOp": Case(nn.Fp8DotGeneralOp, FP8, (VECTORS, KERNEL, CONTRACT)),
    "Fp8DotGeneral": Case(nn.Fp8DotGeneral, FP8, (VECTORS, KERNEL, CONTRACT)),
    "Fp8DirectDotGeneralOp": Case(nn.Fp8DirectDotGeneralOp, FP8, (VECTORS, KERNEL, CONTRACT)),
    "NANOOFp8DotGeneralOp": Case(nn.NANOOFp8DotGeneralOp, FP8, (VECTORS, KERNEL, CONTRACT)),
    "Fp8Einsum": Case(nn.Fp8Einsum, FP8, ("bi,io->bo", VECTORS, KERNEL), nn_vjp=False),
}

# Public, but nothing to call.
ABSTRACT = {
    "Module": "the base of all layers",
    "RNNCellBase": "the base of all cells; it has no `__call__`",
}
