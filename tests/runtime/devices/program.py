"""Checks on eight devices of the host: `python -m tests.runtime.devices.program RESULTS.json`.

How many devices there are is settled when JAX starts, so they run in a process of their own. Each
check is named; the file that it leaves says of each what failed, or nothing.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import vjpgen
from tests.runtime.compare import assert_same
from tests.runtime.generate import load_pair

COUNT = 8
X = jax.random.normal(jax.random.key(1), (16, 8))
W = jax.random.normal(jax.random.key(2), (8, 8))
KEY = jax.random.key(0)
RNGS = {"params": KEY, "dropout": jax.random.key(3), "noise": jax.random.key(4)}
CHECKS: dict[str, Callable[[SimpleNamespace], None]] = {}


def check(*cases: Any) -> Callable[[Any], Any]:
    """Register a check; with cases, one for each, which is its second argument."""

    def register(function: Any) -> Any:
        name = function.__name__
        for case in cases:
            CHECKS[f"{name} {case}"] = functools.partial(function, case=case)
        if not cases:
            CHECKS[name] = function
        return function

    return register


@functools.cache
def line(kind: AxisType = AxisType.Auto) -> Mesh:
    """All devices in a line."""
    return jax.make_mesh((COUNT,), ("data",), axis_types=(kind,))


@functools.cache
def grid() -> Mesh:
    """Four by two devices."""
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def hand(primal: Any, forward: Any, backward: Any) -> Any:
    """Lift a function by hand."""
    function = jax.custom_vjp(primal)
    function.defvjp(forward, backward)
    return function


def total(tree: Any) -> Any:
    """Sum squares, each leaf with a weight of its own."""
    leaves = jax.tree.leaves(tree)
    return sum((n + 1) * (leaf**2).sum() for n, leaf in enumerate(leaves))


def local(tree: Any) -> Any:
    """Bring arrays to the host."""
    return jax.tree.map(np.asarray, tree)


def assert_sharded_alike(actual: Any, expected: Any) -> None:
    """Assert that arrays lie on the devices as others do."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    for (path, left), right in pairs:
        same = left.sharding.is_equivalent_to(right.sharding, left.ndim)
        assert same, f"{jax.tree_util.keystr(path)}: {left.sharding}, not {right.sharding}"


def collective_counts(compiled: Any) -> dict[str, int]:
    """Count the collectives of a compiled program."""
    kinds = ("all-reduce(", "all-gather(", "reduce-scatter(", "all-to-all(", "permute(")
    text = compiled.as_text()
    return {kind: text.count(kind) for kind in kinds}


def _gradient(module: Any, **options: Any) -> Any:
    def loss(params: Any, x: Any) -> Any:
        return total(module.apply({"params": params}, x, **options))

    return jax.grad(loss, (0, 1))


def _compare_step(modules: Any, params: Any, x: Any, expected: Any, **options: Any) -> None:
    """Compare the sharded gradients of both modules with those of one device."""
    plain = jax.jit(_gradient(modules[0], **options)).lower(params, x).compile()
    lifted = jax.jit(_gradient(modules[1], **options)).lower(params, x).compile()
    found = lifted(params, x)
    assert_same(local(found), local(expected), rtol=1e-4)
    assert_sharded_alike(found, plain(params, x))
    pairs = zip(jax.tree.leaves(found[0]), jax.tree.leaves(params), strict=True)
    split = [(t, p) for t, p in pairs if not p.sharding.is_fully_replicated]
    assert split
    assert_sharded_alike(*(list(part) for part in zip(*split, strict=True)))
    assert collective_counts(lifted) == collective_counts(plain)


# -- jit with sharded parameters and batch -----------------------------------------------------


@check()
def tensor_parallel(pair):
    modules = pair.plain.Mlp(), pair.lifted.Mlp()
    variables = modules[0].init(RNGS, X)
    expected = jax.jit(_gradient(modules[0]))(variables["params"], X)
    shardings = nn.get_sharding(jax.eval_shape(modules[1].init, RNGS, X), grid())
    params = jax.jit(modules[1].init, out_shardings=shardings)(RNGS, X)["params"]
    assert params["up"]["kernel"].names == (None, "model")
    assert params["up"]["kernel"].value.sharding.spec == P(None, "model")
    assert_same(local(params), local(variables["params"]), rtol=1e-6)
    x = jax.device_put(X, NamedSharding(grid(), P("data")))
    _compare_step(modules, params, x, expected)


@check()
def logical_names(pair):
    modules = pair.plain.Attention(), pair.lifted.Attention()
    rules = (("batch", "data"), ("embed", None), ("heads", "model"))
    x = X.reshape(4, 4, 8)
    variables = modules[0].init(RNGS, x)
    expected = jax.jit(_gradient(modules[0], rngs=RNGS))(variables["params"], x)
    with jax.set_mesh(grid()), nn.logical_axis_rules(rules):
        specs = nn.get_partition_spec(jax.eval_shape(modules[1].init, RNGS, x))
        shardings = nn.logical_to_mesh_sharding(specs, grid(), rules)
        params = jax.jit(modules[1].init, out_shardings=shardings)(RNGS, x)["params"]
        heads = params["MultiHeadDotProductAttention_0"]["query"]["kernel"]
        assert heads.value.sharding.spec == P(None, "model")
        x = jax.device_put(x, NamedSharding(grid(), P("data")))
        _compare_step(modules, params, x, expected, rngs=RNGS)


def _fully_sharded(params: Any, mesh: Mesh) -> Any:
    """Shard each leaf on its first axis, where it can be."""

    def place(leaf: Any) -> Any:
        spec = P("data") if leaf.shape[0] % mesh.shape["data"] == 0 else P()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, params)


@check()
def fully_sharded(pair):
    modules = pair.plain.Mlp(), pair.lifted.Mlp()
    params = nn.unbox(modules[0].init(RNGS, X)["params"])
    expected = jax.jit(_gradient(modules[0]))(params, X)
    params = _fully_sharded(params, line())
    x = jax.device_put(X, NamedSharding(line(), P("data")))

    def sharded(gradient: Any) -> Any:
        like = jax.tree.map(lambda leaf: leaf.sharding, (params, x))
        return jax.jit(gradient, out_shardings=like).lower(params, x).compile()

    plain, lifted = (sharded(_gradient(module)) for module in modules)
    assert_same(local(lifted(params, x)), local(expected), rtol=1e-4)
    assert collective_counts(lifted) == collective_counts(plain)


@check()
def eager(pair):
    modules = pair.plain.Mlp(), pair.lifted.Mlp()
    params = nn.unbox(modules[0].init(RNGS, X)["params"])
    params = _fully_sharded(params, line())
    x = jax.device_put(X, NamedSharding(line(), P("data")))
    plain, lifted = (_gradient(module)(params, x) for module in modules)
    assert_same(local(lifted), local(plain), rtol=1e-5)
    assert_sharded_alike(lifted, plain)


@check()
def constraints_in_the_rules(pair):
    sharding = NamedSharding(grid(), P("data", None))
    module = pair.lifted.Constrained(sharding)
    params = nn.unbox(pair.plain.Constrained(sharding).init(RNGS, X)["params"])
    params_t, x_t = jax.jit(_gradient(pair.plain.Constrained(sharding)))(params, X)
    expected = local((jax.tree.map(lambda t: 3 * t, params_t), x_t))
    with jax.set_mesh(grid()):
        found = jax.jit(_gradient(module))(params, X)
    assert_same(local(found), expected, rtol=1e-4)
    assert_sharded_alike([found[1]], [jax.device_put(X, sharding)])


@check()
def layers_under_scan(pair):
    modules = pair.plain.Layers(), pair.lifted.Layers()
    variables = modules[0].init(RNGS, X)
    expected = jax.jit(_gradient(modules[0]))(variables["params"], X)
    shardings = nn.get_sharding(jax.eval_shape(modules[1].init, RNGS, X), grid())
    params = jax.jit(modules[1].init, out_shardings=shardings)(RNGS, X)["params"]
    (kernel,) = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3]
    assert kernel.sharding.spec == P(None, None, "model")
    x = jax.device_put(X, NamedSharding(grid(), P("data")))
    _compare_step(modules, params, x, expected)


@check()
def donated(pair):
    modules = pair.plain.Mlp(), pair.lifted.Mlp()
    params = nn.unbox(modules[0].init(RNGS, X)["params"])

    def train(module: Any, params: Any, x: Any, **options: Any) -> Any:
        @functools.partial(jax.jit, **options)
        def step(params: Any, x: Any) -> Any:
            tangents, _ = _gradient(module)(params, x)
            return jax.tree.map(lambda p, t: p - 0.01 * t, params, tangents)

        before = params
        for _ in range(3):
            params = step(params, x)
        return before, params

    _, expected = train(modules[0], params, X)
    x = jax.device_put(X, NamedSharding(line(), P("data")))
    sharded = _fully_sharded(jax.tree.map(jnp.copy, params), line())
    like = jax.tree.map(lambda leaf: leaf.sharding, sharded)
    before, found = train(modules[1], sharded, x, donate_argnums=0, out_shardings=like)
    assert_same(local(found), local(expected), rtol=1e-4)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))


@check()
def mapped_over_a_mesh_axis(pair):
    many = jnp.stack([X, 2 * X, 3 * X, 4 * X])

    def derive(function: Any) -> Any:
        def loss(w: Any, x: Any) -> Any:
            return (function(w, x) ** 2).sum()

        gradient = jax.vmap(jax.grad(loss, (0, 1)), (None, 0), spmd_axis_name="data")
        with jax.set_mesh(grid()):
            return jax.jit(gradient)(W, many)

    plain, lifted = derive(pair.plain.mapped), derive(pair.lifted.mapped)
    assert_same(local(lifted), local(plain), rtol=1e-5)
    assert_sharded_alike(lifted, plain)


@check()
def modules_mapped_over_a_mesh_axis(pair):
    many = jnp.stack([X, 2 * X, 3 * X, 4 * X])

    def derive(cls: Any) -> Any:
        module = nn.vmap(
            cls,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            spmd_axis_name="data",
            metadata_params={nn.PARTITION_NAME: None},
        )()
        variables = nn.unbox(module.init(RNGS, many))
        with jax.set_mesh(grid()):
            return jax.jit(_gradient(module))(variables["params"], many)

    assert_same(local(derive(pair.lifted.Mlp)), local(derive(pair.plain.Mlp)), rtol=1e-5)


# -- shard_map ---------------------------------------------------------------------------------


def shard_map(function: Any, specs: Any, out: Any, vma: bool) -> Any:
    return jax.shard_map(function, mesh=line(), in_specs=specs, out_specs=out, check_vma=vma)


VMA = ("checked", "unchecked")
HAND = {  # specs of w and x, of the output
    "row_parallel": ((P("data"), P(None, "data")), P()),
    "gathered": ((P("data"), P("data")), P("data")),
    "replicated": ((P(), P("data")), P("data")),
}
WHOLE = {
    "row_parallel": lambda w, x: x @ w,
    "gathered": lambda w, x: jnp.sin(x @ w),
    "replicated": lambda w, x: x @ w,
}


def _outside(function: Any, specs: Any, out: Any, vma: bool) -> Any:
    mapped = shard_map(function, specs, out, vma)
    return jax.jit(jax.grad(lambda *a: total(mapped(*a)), (0, 1)))(W, X)


def _inside(function: Any, specs: Any, vma: bool) -> Any:
    def body(w: Any, x: Any) -> Any:
        tangents = jax.grad(lambda w, x: total(function(w, x)), (0, 1))(w, x)
        # what is the same on all devices need not be known to be, where that is not checked
        return tangents if vma else jax.tree.map(lambda t: t[None], tangents)

    return jax.jit(shard_map(body, specs, specs if vma else (P("data"),) * 2, vma))(W, X)


@check(*[f"{name} {vma}" for name in HAND for vma in VMA])
def rules_with_collectives(pair, case):
    """Against the same rule lifted by hand, and the function on one device."""
    name, vma = case.split()
    specs, out = HAND[name]
    checked = vma == "checked"
    stem = name.partition("_")[0]
    rule = [getattr(pair.plain, f"{stem}_{part}") for part in ("fwd", "bwd")]
    by_hand = hand(getattr(pair.plain, name), *rule)
    lifted = getattr(pair.lifted, name)
    found = _outside(lifted, specs, out, checked)
    expected = _outside(by_hand, specs, out, checked)
    assert_same(local(found), local(expected))
    assert_sharded_alike(found, expected)
    assert_same(local(_inside(lifted, specs, checked)), local(_inside(by_hand, specs, checked)))
    if checked:
        one = jax.grad(lambda *a: total(WHOLE[name](*a)), (0, 1))(W, X)
        assert_same(local(found), local(one), rtol=1e-4)


@check(*VMA)
def every_collective(pair, case):
    specs = (P(), P("data"))
    vma = case == "checked"
    for derive in (functools.partial(_outside, out=P("data")), _inside):
        plain = derive(pair.plain.collectives, specs=specs, vma=vma)
        lifted = derive(pair.lifted.collectives, specs=specs, vma=vma)
        assert_same(local(lifted), local(plain), rtol=1e-5)
        assert_sharded_alike(lifted, plain)


def _module_in_shards(module: Any, variables: Any, vma: bool) -> Any:
    def body(variables: Any, x: Any) -> Any:
        def loss(params: Any, x: Any) -> Any:
            y, updates = module.apply(
                {**variables, "params": params}, x, rngs=RNGS, mutable=["batch_stats"]
            )
            return jax.lax.pmean(total(y), "data"), updates

        tangents, updates = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)
        if not vma:
            tangents = jax.tree.map(lambda t: t[None], tangents)
        return tangents, updates

    out = ((P(), P("data")), P()) if vma else ((P("data"),) * 2, P())
    return jax.jit(shard_map(body, (P(), P("data")), out, vma))(variables, X)


@check(*[f"{name} {vma}" for name in ("Norm", "Dropped") for vma in VMA])
def modules_in_shards(pair, case):
    """Statistics over the mesh; a key a shard."""
    name, vma = case.split()
    plain, lifted = getattr(pair.plain, name)(), getattr(pair.lifted, name)()
    init = shard_map(lambda x: plain.init(RNGS, x), P("data"), P(), False)
    variables = jax.jit(init)(X)
    found = _module_in_shards(lifted, variables, vma == "checked")
    expected = _module_in_shards(plain, variables, vma == "checked")
    assert_same(local(found), local(expected), rtol=1e-5)


@check()
def statistics_are_those_of_one_device(pair):
    module = pair.lifted.Norm()
    init = shard_map(lambda x: module.init(RNGS, x), P("data"), P(), False)
    variables = jax.jit(init)(X)
    _, updates = _module_in_shards(module, variables, True)
    dense = variables["params"]["Dense_0"]
    y = X @ dense["kernel"] + dense["bias"]
    found = updates["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], 0.1 * y.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * y.var(axis=0), rtol=1e-4, atol=1e-5)


@check()
def shard_map_inside_the_rule(pair):
    def derive(function: Any, x: Any) -> Any:
        return jax.jit(jax.grad(lambda w, x: total(function(w, x)), (0, 1)))(W, x)

    expected = derive(lambda w, x: x @ w, X)
    x = jax.device_put(X, NamedSharding(line(), P("data")))
    found = derive(lambda w, x: pair.lifted.inside(line(), w, x), x)
    assert_same(local(found), local(expected), rtol=1e-4)
    assert_sharded_alike([found[1]], [x])


@check()
def tangents_that_vary_otherwise(pair):
    """JAX would name `output[0]`."""
    try:
        _outside(pair.lifted.unsummed, (P(), P("data")), P("data"), True)
    except vjpgen.TangentError as error:
        text = str(error).replace("{data}", "{V:data}")  # as jax before 0.9 writes it
    else:
        raise AssertionError("no error")
    assert "unsummed (devices.py:" in text, text
    assert "w: expected float32[8,8], not float32[8,8]{V:data}; sum it over the mesh" in text, text
    assert "jax.lax.psum(tangent, ('data',))" in text, text
    assert "x: expected float32[2,8]{V:data}, not float32[2,8]; make it vary" in text, text


def _scaled(pair: Any, gain: Any, w: Any, x: Any, stop: bool) -> Any:
    """Differentiate one output of two; the other's cotangent is a symbolic zero."""

    def loss(gain: Any, w: Any, x: Any) -> Any:
        return pair.scaled(gain, stop)(w, x)[0].sum()

    return jax.grad(loss, (0, 1, 2))(gain, w, x)


@check(*[f"{stop} {vma}" for stop in ("filled", "strict") for vma in VMA])
def captured_values(pair, case):
    """Autodiff fills in what has no slot; no alarm where the gradient is zero anyway."""
    kind, vma = case.split()
    stop, checked = kind == "strict", vma == "checked"

    def derive(module: Any) -> Any:
        def body(gain: Any, w: Any, x: Any) -> Any:
            tangents = _scaled(module, gain[0], w, x, stop)
            return (
                jax.tree.map(lambda t: t[None], tangents)
                if not checked
                else (
                    tangents[0][None],
                    *tangents[1:],
                )
            )

        specs = (P("data"), P(), P("data"))
        out = specs if checked else (P("data"),) * 3
        return jax.jit(shard_map(body, specs, out, checked))(jnp.arange(8.0), W, X)

    assert_same(local(derive(pair.lifted)), local(derive(pair.plain)), rtol=1e-5)


@check(*VMA)
def cotangents_that_are_no_arrays(pair, case):
    """None and numbers vary over the mesh as what they stand for does."""
    checked = case == "checked"

    def loss(function: Any) -> Any:
        def value(gain: Any, w: Any, x: Any) -> Any:
            out = function(w, x, gain)
            return out["y"].sum() + out["sum"]

        return value

    def derive(function: Any) -> Any:
        def body(gain: Any, w: Any, x: Any) -> Any:
            gain_t, w_t, x_t = jax.grad(loss(function), (0, 1, 2))(gain[0], w, x)
            return gain_t[None], w_t if checked else w_t[None], x_t

        specs = (P("data"), P(), P("data"))
        out = specs if checked else (P("data"),) * 3
        return jax.jit(shard_map(body, specs, out, checked))(jnp.arange(8.0), W, X)

    found, expected = derive(pair.lifted.several), derive(pair.plain.several)
    assert_same(local(found[1:]), local(expected[1:]), rtol=1e-5)
    np.testing.assert_array_equal(found[0], np.full(8, 2.0, np.float32))


# -- meshes of explicit axes -------------------------------------------------------------------


def _explicit(tree: Any, *specs: P) -> list[Any]:
    mesh = line(AxisType.Explicit)
    return [
        jax.device_put(leaf, NamedSharding(mesh, spec))
        for leaf, spec in zip(tree, specs, strict=True)
    ]


@check("eager", "jit")
def explicit_axes(pair, case):
    wrap = jax.jit if case == "jit" else lambda f: f
    with jax.set_mesh(line(AxisType.Explicit)):
        gain, w, x = _explicit((jnp.float32(2), W, X), P(), P(), P("data"))
        for stop in (False, True):
            plain, lifted = (
                wrap(functools.partial(_scaled, module, stop=stop))(gain, w, x)
                for module in (pair.plain, pair.lifted)
            )
            assert_same(local(lifted), local(plain), rtol=1e-5)
            assert jax.tree.map(jax.typeof, lifted) == jax.tree.map(jax.typeof, plain)
            assert_sharded_alike([lifted[2]], [x])


@check()
def modules_on_explicit_axes(pair):
    modules = pair.plain.Layers(), pair.lifted.Layers()
    params = nn.unbox(modules[0].init(RNGS, X)["params"])
    expected = jax.jit(_gradient(modules[0]))(params, X)
    with jax.set_mesh(line(AxisType.Explicit)):
        (x,) = _explicit((X,), P("data"))
        params = jax.device_put(params, NamedSharding(line(AxisType.Explicit), P()))
        plain, lifted = (jax.jit(_gradient(module))(params, x) for module in modules)
    assert_same(local(lifted), local(expected), rtol=1e-4)
    assert jax.tree.map(jax.typeof, lifted) == jax.tree.map(jax.typeof, plain)


@check()
def tangents_that_are_sharded_otherwise(pair):
    with jax.set_mesh(line(AxisType.Explicit)):
        w, x = _explicit((W, X), P(), P("data"))
        try:
            jax.jit(jax.grad(lambda w, x: pair.lifted.resharded(w, x).sum(), (0, 1)))(w, x)
        except vjpgen.TangentError as error:
            text = str(error)
        else:
            raise AssertionError("no error")
    assert "x: expected float32[16@data,8], not float32[16,8]; shard it as its primal" in text, text
    assert "w:" not in text, text


def main(path: str, *only: str) -> None:
    """Run the checks, all or some, and write what failed."""
    warnings.simplefilter("error")
    assert jax.device_count() == COUNT
    results: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        pair = load_pair("devices", Path(folder))
        for name, function in CHECKS.items():
            if only and name not in only:
                continue
            try:
                function(pair)
                results[name] = None
            except Exception:
                results[name] = traceback.format_exc()
            jax.clear_caches()  # compiled programs on eight devices take memory
    Path(path).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
