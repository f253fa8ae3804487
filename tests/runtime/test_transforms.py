"""Rules under Flax's lifted transforms, beside the plain module under the same."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
RNGS = {name: jax.random.key(n) for n, name in enumerate(("params", "dropout", "noise"))}
STATE = ["batch_stats", "counter", "intermediates"]


def scanned(cls):
    class Body(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + cls()(x).sum(axis=-1, keepdims=True), x.sum()

    return nn.scan(
        Body,
        variable_axes={"params": 0, "intermediates": 0, "counter": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True, "noise": True},
        length=3,
    )


def stack(cls):
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = x + cls()(x).sum(axis=-1, keepdims=True)
            return x

    return Stack


TRANSFORMS = {
    "jit": lambda cls: nn.jit(cls),
    "jit of a stack": lambda cls: nn.jit(stack(nn.jit(cls))),
    "remat": lambda cls: nn.remat(cls),
    "vmap": lambda cls: nn.vmap(
        cls,
        variable_axes={"params": None, "batch_stats": None, "counter": None, "intermediates": 0},
        split_rngs={"params": False, "dropout": True, "noise": True},
    ),
    "scan": scanned,
    "scan of remat": lambda cls: scanned(nn.remat(cls)),
    "remat of scan": lambda cls: nn.remat(scanned(cls)),
    "map_variables": lambda cls: nn.map_variables(cls, "params", init=True, mutable=True),
}
MODULES = ["Setup", "Noisy", "NestedFunction", "OnSelf", "Shared", "Decorated"]
# Every module under the transforms that trace apart, one that draws and captures under them all.
CASES = [(layer, name) for layer in MODULES for name in ("jit", "scan of remat")]
CASES += [("Noisy", name) for name in TRANSFORMS if name not in ("jit", "scan of remat")]


def _call(module, name, variables, x, **options):
    x = jnp.stack([x, 2 * x]) if name == "vmap" else x
    extra = (jnp.zeros(3),) if "scan" in name else ()
    return module.apply(variables, x, *extra, rngs=RNGS, **options)


def _init(module, name):
    x = jnp.stack([X, 2 * X]) if name == "vmap" else X
    extra = (jnp.zeros(3),) if "scan" in name else ()
    return module.init(RNGS, x, *extra)


@pytest.mark.parametrize(("layer", "name"), CASES)
def test_flax_transforms(pair, layer, name):
    layers = pair("layers")
    plain = TRANSFORMS[name](getattr(layers.plain, layer))()
    lifted = TRANSFORMS[name](getattr(layers.lifted, layer))()
    variables = _init(plain, name)
    assert_same(_init(lifted, name), variables)
    assert_same(_call(lifted, name, variables, X), _call(plain, name, variables, X), rtol=1e-6)

    def derive(module):
        def loss(variables, x):
            out = _call(module, name, variables, x)
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(out))

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, X)

    assert_same(derive(lifted), derive(plain), rtol=2e-5)


@pytest.mark.parametrize("name", ["jit", "remat", "scan"])
def test_state_under_flax_transforms(pair, name):
    layers = pair("layers")

    def run(source):
        class Model(nn.Module):
            @nn.compact
            def __call__(self, x, *rest):
                transform = TRANSFORMS[name]

                class Train(nn.Module):
                    @nn.compact
                    def __call__(self, x):
                        return source.Stateful()(x, train=True)

                return transform(Train)()(x, *rest)

        module = Model()
        variables = _init(module, name)

        def loss(params):
            state = {k: v for k, v in variables.items() if k != "params"}
            y, updates = _call(module, name, {"params": params, **state}, X, mutable=STATE)
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(y)), updates

        return variables, jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    assert_same(run(layers.lifted), run(layers.plain), rtol=2e-5)


def test_forward_mode_and_linearize(pair):
    """Reverse mode alone has a rule; `jax.linearize` of a gradient still works."""
    layers = pair("layers")
    module, plain = layers.lifted.Compact(), layers.plain.Compact()
    variables = plain.init(RNGS, X)

    def loss(module):
        return lambda x: (module.apply(variables, x) ** 3).sum()

    _, ours = jax.vjp(loss(module), X)
    _, theirs = jax.vjp(loss(plain), X)
    assert_same(ours(1.0), theirs(1.0), rtol=1e-6)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(loss(module), (X,), (X,))
