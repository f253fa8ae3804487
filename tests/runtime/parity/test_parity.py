"""Every public layer of `flax.linen` with a rule whose `bwd` is the vjp function, beside itself.

`table.py` constructs the layers; `sources/hosts.py` has the ways that a rule is put on one. Without
vjpgen each host is the plain layer, which is the reference.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpgen
from tests.runtime.compare import assert_same
from tests.runtime.parity.table import ABSTRACT, CASES, Case

# Flax's own words about layers that it will drop one day.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")

RNGS = {name: jax.random.key(n) for n, name in enumerate(("params", "dropout"))}
# Compiling takes most of the time here, and nothing that is compiled runs long.
QUICK = {"xla_backend_optimization_level": 0}


def test_every_public_layer_is_in_the_table():
    known = {case.layer for case in CASES.values()}
    absent = {name for name, layer in _public_layers().items() if layer not in known}
    absent -= set(ABSTRACT)
    assert not absent, (
        f"flax.linen exports layers without a construction: {', '.join(sorted(absent))}; add each "
        "to CASES in tests/runtime/parity/table.py, or with a reason to ABSTRACT"
    )


def test_the_table_names_nothing_else():
    public = _public_layers()
    assert {case.layer for case in CASES.values()} <= set(public.values())
    assert set(ABSTRACT) <= set(public)


def _public_layers() -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(nn).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and not name.startswith("_")
    }


class DropIn(nn.Module):
    """The layer is the argument of a function with `vjpgen.custom_vjp`, as Flax documents it."""

    make: Callable[[], Any]

    @nn.compact
    def __call__(self, *args, **kwargs):
        def call(mdl, *args):
            return mdl(*args, **kwargs)

        def forward(mdl, *args):
            return nn.vjp(call, mdl, *args)

        def backward(vjp_fn, y_t):
            return vjp_fn(y_t)

        lifted = vjpgen.custom_vjp(call, forward_fn=forward, backward_fn=backward)
        return lifted(self.make(), *args), self.make_rng("dropout")


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to put a rule on a layer.

    Args:
        host: the module that makes and calls the layer.
        plain: the same without a rule.
        change: changes the layer's class.
        unchanged: the same without a rule.
        full: whether the rule covers all collections and what is updated.
        nn_vjp: whether its forward rule uses `flax.linen.vjp`.
    """

    host: Any
    plain: Any
    change: Callable[[Any], Any] = lambda layer: layer
    unchanged: Callable[[Any], Any] = lambda layer: layer
    full: bool = False
    nn_vjp: bool = False

    def pair(self, case: Case) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """Return what makes the host with a rule, and the plain one."""
        make, plain = case.make(self.change), case.make(self.unchanged)
        return (
            lambda name=None: self.host(make, name=name),
            lambda name=None: self.plain(plain, name=name),
        )


@pytest.fixture(scope="module")
def ways(pair):
    hosts = pair("hosts")
    plain, lifted = hosts.plain, hosts.lifted
    return {
        "function": Way(lifted.Function, plain.Function),
        "nested": Way(lifted.Nested, plain.Nested, full=True),
        "method": Way(lifted.Method, plain.Method, full=True),
        "subclass": Way(lifted.Plain, plain.Plain, lifted.subclass, plain.subclass),
        "drop-in": Way(DropIn, plain.Plain, nn_vjp=True),
    }


def _suited(ways: dict[str, Way], case: Case) -> dict[str, Way]:
    return {title: way for title, way in ways.items() if case.nn_vjp or not way.nn_vjp}


@pytest.fixture(scope="module")
def initialized(pair):
    """Give the plain layer's output and variables of a case."""
    known: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in known:
            case = CASES[name]
            plain = pair("hosts").plain.Plain(case.make())
            known[name] = plain.init_with_output(RNGS, *case.args, **case.kwargs)
        return known[name]

    return get


@pytest.mark.parametrize("name", CASES)
def test_init(name, ways, initialized):
    case = CASES[name]
    for way in ways.values():
        lifted, _ = way.pair(case)
        found = lifted().init_with_output(RNGS, *case.args, **case.kwargs)
        assert_same(found, initialized(name))


@pytest.mark.parametrize("name", CASES)
def test_apply(name, ways, initialized):
    """Outputs, updates, what is sown and captured, and the state of the rng streams."""
    case = CASES[name]
    _, variables = initialized(name)
    for way in ways.values():
        lifted, plain = (_apply(make(), case, variables) for make in way.pair(case))
        assert_same(lifted, plain)


def _apply(module: Any, case: Case, variables: Any) -> Any:
    return module.apply(
        variables,
        *case.args,
        **case.kwargs,
        rngs=RNGS,
        mutable=[*case.state, "intermediates"],
        capture_intermediates=lambda _, method: method != "setup",
    )


@pytest.mark.parametrize("name", CASES)
def test_gradient(name, ways, initialized):
    """Gradients of variables and inputs, with output, draws and updates beside them."""
    case = CASES[name]
    _, variables = initialized(name)

    def derive(way, make):
        def apply(variables, args):
            return make().apply(variables, *args, **case.kwargs, **_options(case))

        return _gradient(apply, variables, case.args, way.full)

    for title, way in _suited(ways, case).items():
        lifted, plain = (derive(way, make) for make in way.pair(case))
        # Where autodiff fills in, it sums a tangent from two pullbacks.
        _assert_equal(title, lifted, plain, 2e-5 if way.full else 0)


def _options(case: Case) -> dict[str, Any]:
    return {"rngs": RNGS, "mutable": [*case.state, "intermediates"]}


def _assert_equal(title: str, lifted: Any, plain: Any, rtol: float, of_values: float = 0) -> None:
    """Compare values and gradients; tolerances of 0 mean bit for bit."""
    (_, values), tangents = lifted
    (_, expected), autodiff = plain
    assert_same({title: values}, {title: expected}, of_values)
    assert_same({title: tangents}, {title: autodiff}, rtol)


def _gradient(apply: Callable[..., Any], variables: Any, args: Any, full: bool) -> Any:
    """Differentiate a sum over what `apply` returns; return that and the tangents.

    Args:
        apply: takes variables and arguments, returns the output and the updates.
        variables: its variables.
        args: its arguments.
        full: differentiate all collections, and what is updated, instead of `params` and outputs.
    """
    leaves, structure = jax.tree.flatten(args)
    inputs = {n: jnp.asarray(x) for n, x in enumerate(leaves) if _is_float(x)}
    rest = {} if full else {k: v for k, v in variables.items() if k != "params"}
    chosen = {k: v for k, v in variables.items() if k not in rest}
    floats = {n: x for n, x in enumerate(jax.tree.leaves(chosen)) if _is_float(x)}

    def loss(floats, inputs):
        parts, treedef = jax.tree.flatten(chosen)
        parts = [floats.get(n, x) for n, x in enumerate(parts)]
        given = [inputs.get(n, x) for n, x in enumerate(leaves)]
        result = apply(
            {**rest, **jax.tree.unflatten(treedef, parts)}, jax.tree.unflatten(structure, given)
        )
        return _weighted(result if full else result[0]), result

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(floats, inputs)


def _is_float(value: Any) -> bool:
    kind = getattr(value, "dtype", None)
    return kind is not None and jnp.issubdtype(kind, jnp.floating)


def _weighted(tree: Any) -> Any:
    """Sum all floats, each element with another weight."""
    total = jnp.float32(0)
    for n, leaf in enumerate(jax.tree.leaves(tree)):
        if _is_float(leaf):
            weights = jnp.cos(n + jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape)
            total += (weights * leaf.astype(jnp.float32)).sum()
    return total


# Each takes a module class, the collections that it updates, and options of `apply`; it returns a
# function of variables and inputs. With "vmap" and "scan" in its name, inputs come in twos.
def _nn_jit(closed, updated, options):
    return lambda variables, *inputs: nn.jit(closed)().apply(variables, *inputs, **options)


def _nn_remat(closed, updated, options):
    return lambda variables, *inputs: nn.remat(closed)().apply(variables, *inputs, **options)


def _nn_vmap(closed, updated, options):
    axes = {updated: 0, nn.DenyList(updated): None}
    module = nn.vmap(closed, variable_axes=axes, split_rngs={"dropout": True})

    def run(variables, *inputs):
        variables = {
            name: jax.tree.map(lambda x: jnp.stack([x, x]), tree) if name in updated else tree
            for name, tree in variables.items()
        }
        return module().apply(variables, *inputs, **options)

    return run


def _nn_scan(closed, updated, options):
    class Step(nn.Module):
        @nn.compact
        def __call__(self, carry, *inputs):
            y = closed(parent=self.scope)(*inputs)
            return carry + _weighted(y), y

    module = nn.scan(
        Step,
        variable_broadcast=nn.DenyList(updated),
        variable_carry=tuple(name for name in updated if name != "intermediates"),
        variable_axes={"intermediates": 0},
        split_rngs={"dropout": True},
    )
    return lambda variables, *inputs: module().apply(variables, jnp.float32(0), *inputs, **options)


def _jax_vmap(closed, updated, options):
    def run(variables, *inputs):
        return jax.vmap(lambda *one: closed().apply(variables, *one, **options))(*inputs)

    return run


def _jax_scan(closed, updated, options):
    def run(variables, *inputs):
        def step(carry, one):
            result = closed().apply(variables, *one, **options)
            return carry + _weighted(result[0]), result

        total, (y, updates) = jax.lax.scan(step, jnp.float32(0), inputs, length=2)
        return (total, y), updates

    return run


def _jax_checkpoint(closed, updated, options):
    return jax.checkpoint(lambda variables, *inputs: closed().apply(variables, *inputs, **options))


TRANSFORMS = [
    _nn_jit, _nn_vmap, _nn_scan, _nn_remat, _jax_vmap, _jax_scan, _jax_checkpoint,
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_transforms(name, ways, initialized):
    """Gradients under Flax's and JAX's transforms; the ways take turns, in one compiled program."""
    case = CASES[name]
    _, variables = initialized(name)
    variables = {collection: {"host": tree} for collection, tree in variables.items()}
    suited = list(_suited(ways, case).values())
    start = list(CASES).index(name)
    turns = [
        _turn(suited, start + n, full=bool(case.state) and transform is _nn_scan)
        for n, transform in enumerate(TRANSFORMS)
    ]

    def derive(transform, way, host):
        updated = (*case.state, "intermediates")
        apply = transform(_closed(host, case), tuple(dict.fromkeys(updated)), _options(case))
        inputs = [jnp.asarray(x) for x in jax.tree.leaves(case.args) if isinstance(x, np.ndarray)]
        if "vmap" in transform.__name__ or "scan" in transform.__name__:
            inputs = [jnp.stack([x, x[::-1]]) for x in inputs]
        return _gradient(
            lambda variables, args: apply(variables, *args), variables, inputs, way.full
        )

    def every(number):
        return {
            f"{transform.__name__} {number}": derive(transform, way, way.pair(case)[number])
            for transform, way in zip(TRANSFORMS, turns, strict=True)
        }

    found = jax.jit(lambda: (every(0), every(1)), compiler_options=QUICK)()
    lifted, plain = (list(part.values()) for part in found)
    for transform, ours, theirs in zip(TRANSFORMS, lifted, plain, strict=True):
        # In one program with its plain twin a rule may be fused otherwise.
        rtol = 2e-2 if "bfloat16" in name else 2e-5
        _assert_equal(transform.__name__, ours, theirs, rtol, rtol)


def _turn(ways: list[Way], number: int, full: bool) -> Way:
    """Choose the way whose turn it is.

    Args:
        ways: all that suit.
        number: counts turns.
        full: only ways whose rule covers updates: a scan that carries them hands cotangents of
            them, which may be zero, to every step.
    """
    suited = [way for way in ways if way.full or not full]
    return suited[number % len(suited)]


def _closed(host: Callable[..., Any], case: Case) -> Any:
    """Make a module class whose call takes nothing but the arrays among a case's arguments."""

    class Closed(nn.Module):
        @nn.compact
        def __call__(self, *inputs):
            leaves, structure = jax.tree.flatten(case.args)
            given = iter(inputs)
            leaves = [next(given) if isinstance(x, np.ndarray) else x for x in leaves]
            return host(name="host")(*jax.tree.unflatten(structure, leaves), **case.kwargs)

    return Closed
