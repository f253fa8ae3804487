"""Attention block by block, on one device and on a ring of them, against the naive formula."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runtime.compare import assert_same, double

ROOT = Path(__file__).parents[3]


@pytest.fixture
def attention(pair, x64):
    return pair("patterns/attention")


def naive(q, k, v, mask):
    scores = jnp.where(mask, q @ k.T / jnp.sqrt(q.shape[-1]), -1e30)
    weights = jnp.where(mask, jax.nn.softmax(scores, -1), 0)
    return weights @ v


def inputs(rows=6, keys=8, width=4):
    keys_of = jax.random.split(jax.random.key(0), 4)
    shapes = (rows, width), (keys, width), (keys, width + 1)
    q, k, v = (jax.random.normal(key, s) for key, s in zip(keys_of, shapes, strict=False))
    mask = jax.random.bernoulli(keys_of[3], 0.6, (rows, keys)).at[1].set(False)  # one sees nothing
    return q, k, v, mask


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "remat"])
def test_flash_attention(attention, wrap):
    q, k, v, mask = inputs()

    def loss(function):
        return lambda q, k, v: (function(q, k, v, mask) ** 2).sum()

    assert_same(attention.lifted.flash_attention(q, k, v, mask), naive(q, k, v, mask), rtol=1e-12)
    expected = jax.jit(jax.grad(loss(naive), (0, 1, 2)))(q, k, v)
    found = jax.jit(jax.grad(wrap(loss(attention.lifted.flash_attention)), (0, 1, 2)))(q, k, v)
    assert_same(found, expected, rtol=1e-12)


def test_the_residuals_hold_no_scores(attention):
    """Autodiff keeps the weights of all blocks; the rule its inputs, the output, one sum a row."""
    q, k, v, mask = inputs(rows=5)

    def bytes_kept(function):
        _, vjp_fn = jax.vjp(lambda q, k, v: function(q, k, v, mask, block=2), q, k, v)
        kept = {id(x): x for x in jax.tree.leaves(vjp_fn) if hasattr(x, "nbytes")}
        return sorted((x.shape, str(x.dtype)) for x in kept.values())

    kept = bytes_kept(attention.lifted.flash_attention)
    rows = [((5,), "float64"), ((5, 4), "float64"), ((5, 5), "float64")]
    assert kept == [*rows, ((5, 8), "bool"), ((8, 4), "float64"), ((8, 5), "float64")]
    assert ((4, 5, 2), "float64") in bytes_kept(attention.plain.flash_attention)


def test_flash_attention_in_flax_s_multi_head_attention(attention):
    """Over heads and batch by vmap; the mask is shared by the heads."""
    x = jax.random.normal(jax.random.key(1), (2, 8, 6))
    mask = nn.make_causal_mask(jnp.ones((2, 8)), dtype=bool)

    def layer(**options):
        return nn.MultiHeadDotProductAttention(2, deterministic=True, **options)

    params = double(layer().init(jax.random.key(0), x))

    def loss(module):
        return lambda p, x: (module.apply(p, x, mask=mask) ** 2).sum()

    expected = jax.jit(jax.grad(loss(layer()), (0, 1)))(params, x)
    flash = layer(attention_fn=attention.lifted.attention_fn)
    assert_same(jax.jit(jax.grad(loss(flash), (0, 1)))(params, x), expected, rtol=1e-9)


RING = """
import jax, jax.numpy as jnp, numpy as np, re, sys
from pathlib import Path
import vjpgen

source, generated = (Path(path) for path in sys.argv[1:])
sys.path[:0] = [str(source.parent), str(generated.parent)]
import ring_attention, ring_attention_vjp
from ring_attention_vjp import sharded

jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((4,), ("ring",), axis_types=(jax.sharding.AxisType.Auto,))
q, k, v = (jax.random.normal(key, (8, 3)) for key in jax.random.split(jax.random.key(0), 3))

def full(q, k, v):
    scores = jnp.where(jnp.tri(8, dtype=bool), q @ k.T / jnp.sqrt(3), -jnp.inf)
    return jax.nn.softmax(scores, -1) @ v

def gradient(f):
    return jax.value_and_grad(lambda q, k, v: (jnp.sin(f(q, k, v)) ** 2).sum(), (0, 1, 2))

expected = gradient(full)(q, k, v)
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("ring"))
placed = jax.device_put((q, k, v), place)
for function in (ring_attention_vjp.ring_attention, ring_attention.ring_attention):
    compiled = jax.jit(gradient(sharded(mesh, function))).lower(*placed).compile()
    found = compiled(*placed)
    jax.tree.map(close, found, expected)
for x in found[1]:
    assert x.sharding.is_equivalent_to(place, 2), x.sharding
# over a batch, and recomputed
each = jax.vmap(jax.checkpoint(sharded(mesh)))
batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), (q, k, v))
found, expected = (jax.jit(gradient(f))(*batch) for f in (each, jax.vmap(full)))
jax.tree.map(close, found, expected)
print("the same")
"""


def test_ring_attention_on_four_devices(pair):
    """The gradients travel round the ring; they are those of full attention on one device."""
    found = pair("patterns/ring_attention")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    ran = subprocess.run(
        [sys.executable, "-c", RING, found.plain.__file__, found.lifted.__file__],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "the same\n", ran.stderr
    np.testing.assert_equal(ran.returncode, 0)
