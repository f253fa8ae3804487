"""Rules for many devices: sharded parameters, constraints and collectives inside the rules."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


def kernel(*names):
    return nn.with_partitioning(nn.initializers.lecun_normal(), names)


def logical(*names):
    return nn.with_logical_partitioning(nn.initializers.lecun_normal(), names)


class Mlp(nn.Module):
    """Tensor parallel: the first kernel split by columns, the second by rows."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        h = jnp.tanh(nn.Dense(16, kernel_init=kernel(None, "model"), name="up")(x))
        return nn.Dense(x.shape[-1], kernel_init=kernel("model", None), name="down")(h)


class Attention(nn.Module):
    """Heads split over the mesh by logical names, dropout in the weights."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        x = nn.with_logical_constraint(x, ("batch", None, None))
        layer = nn.MultiHeadDotProductAttention(
            num_heads=2,
            dropout_rate=0.5,
            deterministic=False,
            kernel_init=logical("embed", "heads"),
            out_kernel_init=logical("heads", "embed"),
        )
        return x + layer(x)


def constrained_fwd(mdl, x):
    y, vjp_fn = nn.vjp(lambda m, x: m(x), mdl, x)
    return lax.with_sharding_constraint(y, mdl.sharding), (vjp_fn, x.sum(axis=0))


def constrained_bwd(residuals, y_t):
    vjp_fn, total = residuals
    y_t = lax.with_sharding_constraint(y_t, P("data", None))
    params_t, x_t = vjp_fn(y_t)
    params_t = jax.tree.map(lambda t: lax.with_sharding_constraint(3 * t, P()), params_t)
    return params_t, lax.with_sharding_constraint(x_t + 0 * total, P("data", None))


class Constrained(nn.Module):
    """A constraint in the primal, in the forward and in the backward rule."""

    sharding: Any

    # custom-vjp: fwd=constrained_fwd, bwd=constrained_bwd
    @nn.compact
    def __call__(self, x):
        x = lax.with_sharding_constraint(x, self.sharding)
        return jnp.sin(nn.Dense(x.shape[-1])(x))


class Block(nn.Module):
    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x, _):
        return x + jnp.tanh(nn.Dense(8, kernel_init=kernel(None, "model"))(x)), None


class Layers(nn.Module):
    """Blocks under `nn.scan`, their kernels stacked on an axis of its own."""

    @nn.compact
    def __call__(self, x):
        layers = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
            metadata_params={nn.PARTITION_NAME: None},
        )
        return layers()(x, None)[0]


class Norm(nn.Module):
    """Statistics over the whole batch, through a mean over the mesh."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        return nn.BatchNorm(use_running_average=False, momentum=0.9, axis_name="data")(x)


class Dropped(nn.Module):
    """One key a shard."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        key = jax.random.fold_in(self.make_rng("noise"), lax.axis_index("data"))
        return nn.Dense(8)(x) * jax.random.bernoulli(key, 0.5, (*x.shape[:-1], 8))


# custom-vjp: bwd=identity
def collectives(w, x):
    """Each kind of collective, of something differentiated."""
    y = jnp.tanh(x @ w)
    size = lax.psum(1, "data")
    y = y + lax.ppermute(y, "data", [(n, (n + 1) % size) for n in range(size)])
    every = lax.all_gather(y, "data", axis=0, tiled=True)
    part = lax.psum_scatter(jnp.sin(every), "data", scatter_dimension=0, tiled=True)
    return part * lax.pmean(y, "data") + lax.all_to_all(y, "data", 1, 1, tiled=True)


def row_fwd(w, x):
    """`x` split by columns, `w` by rows: each shard has a part of the sum."""
    return lax.psum(x @ w, "data"), (w, x)


def row_bwd(residuals, y_t):
    w, x = residuals
    return x.T @ y_t, y_t @ w.T


# custom-vjp: fwd=row_fwd, bwd=row_bwd
def row_parallel(w, x):
    return lax.psum(x @ w, "data")


def gathered_fwd(w, x):
    """FSDP by hand: the kernel is gathered where it is used, and scattered on the way back."""
    whole = lax.all_gather(w, "data", axis=0, tiled=True)
    return jnp.sin(x @ whole), (w, x)


def gathered_bwd(residuals, y_t):
    w, x = residuals
    whole = lax.all_gather(w, "data", axis=0, tiled=True)
    inner = y_t * jnp.cos(x @ whole)
    return lax.psum_scatter(x.T @ inner, "data", scatter_dimension=0, tiled=True), inner @ whole.T


# custom-vjp: fwd=gathered_fwd, bwd=gathered_bwd
def gathered(w, x):
    return jnp.sin(x @ lax.all_gather(w, "data", axis=0, tiled=True))


def replicated_fwd(w, x):
    return x @ w, (w, x)


def replicated_bwd(residuals, y_t):
    w, x = residuals
    return lax.psum(x.T @ y_t, "data"), y_t @ w.T


# custom-vjp: fwd=replicated_fwd, bwd=replicated_bwd
def replicated(w, x):
    return x @ w


def unsummed_bwd(residuals, y_t):
    _, x = residuals
    return x.T @ y_t, jnp.zeros(x.shape)


# custom-vjp: fwd=replicated_fwd, bwd=unsummed_bwd
def unsummed(w, x):
    return x @ w


def resharded_bwd(residuals, y_t):
    w, x = residuals
    return jnp.zeros_like(w), jax.sharding.reshard(jnp.zeros_like(x), P())


# custom-vjp: fwd=replicated_fwd, bwd=resharded_bwd
def resharded(w, x):
    return x @ w


def inside_fwd(mesh, w, x):
    return inside(mesh, w, x), (w, x)


def inside_bwd(mesh, residuals, y_t):
    """A `shard_map` in the backward rule, with a sum over the mesh."""

    def tangents(w, x, y_t):
        return lax.psum(x.T @ y_t, "data"), y_t @ w.T

    specs = (P(), P("data"), P("data"))
    mapped = jax.shard_map(tangents, mesh=mesh, in_specs=specs, out_specs=(P(), P("data")))
    return mapped(*residuals, y_t)


# custom-vjp: fwd=inside_fwd, bwd=inside_bwd, nondiff_argnames=mesh
def inside(mesh, w, x):
    """A `shard_map` inside the function that has the rule."""
    specs = (P(), P("data"))
    return jax.shard_map(lambda w, x: x @ w, mesh=mesh, in_specs=specs, out_specs=P("data"))(w, x)


def scaled(gain, stop):
    """A function whose rule has no slot for what it captured."""

    # custom-vjp: bwd=identity, missing=autodiff
    def filled(w, x):
        y = x @ w
        return gain * jnp.tanh(y), jnp.sin(y)

    # custom-vjp: bwd=identity
    def strict(w, x):
        y = x @ w
        return lax.stop_gradient(gain) * jnp.tanh(y), jnp.sin(y)

    return strict if stop else filled


def half_given(vjp_fn, y_t):
    """Cotangents that are no arrays: None, and a Python number."""
    w_t, x_t, _ = vjp_fn({"y": y_t["y"], "mean": None, "sum": 1.0})
    return w_t, x_t, 2.0


# custom-vjp: bwd=half_given
def several(w, x, gain):
    y = x @ w
    return {"y": jnp.tanh(y) * gain, "mean": y.mean(), "sum": y.sum()}


# custom-vjp: bwd=identity
def mapped(w, x):
    """Under `vmap` with `spmd_axis_name` the mapped axis is a mesh axis."""
    return lax.with_sharding_constraint(jnp.tanh(x @ w), P(None))
