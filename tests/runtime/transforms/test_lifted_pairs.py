"""Rules under pairs of Flax's transforms, and under JAX's around Flax's."""

from __future__ import annotations

import jax
import pytest

from tests.runtime.compare import assert_same
from tests.runtime.transforms import lifting, nesting

X = jax.random.normal(jax.random.key(1), (2, 3))
KEY = jax.random.key(2, impl="rbg")
RNGS = {"params": jax.random.key(3, impl="rbg"), "noise": KEY}
# The rule, and the plain module that it must be equal to.
KINDS = [("Exact", "Exact"), ("Surrogate", "ByHand")]
# The transforms that a pair is made of in both orders; the others stand around and inside two.
CORE = ["nn.jit", "nn.remat", "nn.vmap", "nn.scan", "nn.scan, shared", "nn.remat_scan"]
OTHERS = [name for name in lifting.TRANSFORMS if name not in CORE]
INNER = {outer: [*CORE] for outer in CORE} | {outer: ["nn.jit", "nn.scan"] for outer in OTHERS}
for place, other in enumerate(OTHERS):
    INNER[["nn.scan", "nn.jit"][place % 2]].append(other)


def _compare(source, cases):
    """Compare initial variables, outputs, updates and gradients of several nestings at once.

    Args:
        source: the plain and the lifted module of the source.
        cases: for each name a function from a module class to one, and JAX's transform of a step.
    """
    modules, steps = ({}, {}), ({}, {})
    for place, (name, (nest, around)) in enumerate(cases.items()):
        rule, oracle = KINDS[place % 2]
        classes = getattr(source.plain, oracle), getattr(source.lifted, rule)
        for side, cls in enumerate(classes):
            module = nest(cls)()
            modules[side][name] = module
            steps[side][name] = around(nesting.of_module(module))
    init = jax.jit(
        lambda modules: {name: module.init(RNGS, X) for name, module in modules().items()},
        static_argnums=0,
        compiler_options={"xla_backend_optimization_level": 0},
    )
    variables = init(lambda: modules[0])
    assert_same(init(lambda: modules[1]), variables)
    params = {name: tree["params"] for name, tree in variables.items()}
    stats = {name: tree["stats"] for name, tree in variables.items()}
    stats = jax.tree.map(lambda leaf: leaf + 0.1, stats)
    expected = nesting.derive(steps[0], KEY)(params, stats, X)
    assert_same(nesting.derive(steps[1], KEY)(params, stats, X), expected, rtol=1e-4)


@pytest.mark.parametrize("outer", list(INNER))
def test_pairs_of_flax_transforms(pair, outer):
    transforms = lifting.TRANSFORMS
    turn = list(INNER).index(outer) % 2
    inners = INNER[outer][turn:] + INNER[outer][:turn]
    cases = {
        f"{outer} of {inner}": (
            lambda cls, inner=inner: transforms[outer](transforms[inner](cls)),
            lambda step: step,
        )
        for inner in inners
    }
    _compare(pair("transforms"), cases)


@pytest.mark.parametrize("outer", ["vmap", "grad", "checkpoint", "scan", "shard_map"])
def test_jax_transforms_around_those_of_flax(pair, outer):
    turn = len(outer) % 2
    names = CORE[turn:] + CORE[:turn]
    cases = {
        f"{outer} of {inner}": (lifting.TRANSFORMS[inner], nesting.TRANSFORMS[outer])
        for inner in names
    }
    _compare(pair("transforms"), cases)
