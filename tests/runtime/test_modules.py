"""Rules on modules wherever they stand: attributes, arguments, in trees, shared, boxed, bound."""

from __future__ import annotations

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import vjpgen
from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
KEY = jax.random.key(0)
STATE = ["stats"]


def _shared(m, holder):
    inner = m.Plain()
    return m.TwoParents(holder(m)(inner), holder(m)(inner))


def _deep(m):
    inner = m.Ruled()
    holds = m.Holds(inner)
    return m.TwoParents(m.Holds(holds), m.HoldsTree([inner, holds, {"again": inner}]))


NAMES = [
    "HoldsSetup",
    "HoldsForeign",
    "ScaledByOuter",
    "Arguments",
    "TwoWays",
    "ParentAndChild",
    "Variables",
    "Recursive",
    "Fields",
    "KeywordOnly",
    "EqualModules",
    "Copies",
    "Derived",
    "SharesScope",
    "SharedScopes",
    "NameScopes",
    "Marked",
    "Mapped",
    "UsesScope",
    "Applies",
    "ByHand",
    "BoundResiduals",
    "ForeignSnapshots",
]
CASES = {name: lambda m, name=name: getattr(m, name)() for name in NAMES} | {
    "a list and a dict as attribute": lambda m: m.HoldsTree(
        [m.Plain(), {"a": m.Ruled(), "b": (nn.Dense(3),)}]
    ),
    "adopted by two": lambda m: _shared(m, lambda m: m.Holds),
    "adopted by two, in a tree": lambda m: _shared(m, lambda m: lambda i: m.HoldsTree([i, i])),
    "adopted, deep": _deep,
    "a scope shared with an attribute": lambda m: m.SharesAttribute(nn.Dense(3)),
    "boxed": lambda m: m.Boxed(),
    "boxed, logical": lambda m: m.Boxed(nn.with_logical_partitioning),
    "boxed, own": lambda m: m.Boxed(m.own_box),
    "boxed stacks": lambda m: m.BoxedStacks(),
    "boxed stacks, logical": lambda m: m.BoxedStacks(nn.with_logical_partitioning),
    "boxed stacks, own": lambda m: m.BoxedStacks(m.own_box),
}


def derive(module, variables, x=X, wrap=lambda f: f, mutable=STATE, gradient=None):
    """Value, gradients and updates of a loss."""
    state = {name: tree for name, tree in variables.items() if name != "params"}

    def loss(params, x):
        y, updates = module.apply({**state, "params": params}, x, mutable=mutable)
        return (y**2).sum(), updates

    function = jax.value_and_grad(wrap(loss), (0, 1), has_aux=True)
    return (gradient or (lambda f: f))(function)(variables["params"], x)


@pytest.fixture(scope="module")
def modules(pair):
    return pair("modules")


@pytest.fixture(params=CASES)
def case(request, modules):
    make = CASES[request.param]
    plain, lifted = make(modules.plain), make(modules.lifted)
    return plain, lifted, plain.init(KEY, X)


def test_trees_and_values(case):
    plain, lifted, variables = case
    found = lifted.init(KEY, X)
    leaves = jax.tree.leaves(found), jax.tree.leaves(variables)
    assert [str(path) for path, _ in jax.tree_util.tree_leaves_with_path(found)] == [
        str(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)
    ]
    assert_same(*leaves)
    assert_same(lifted.apply(variables, X, mutable=STATE), plain.apply(variables, X, mutable=STATE))


def test_gradients(case):
    plain, lifted, variables = case
    assert_same(derive(lifted, variables), derive(plain, variables), rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["HoldsSetup", "TwoWays", "Variables", "SharedScopes", "NameScopes", "BoundResiduals"]
)
def test_gradients_of_jit(modules, name):
    """JAX traces the primal first, the forward rule later and apart."""
    plain, lifted = getattr(modules.plain, name)(), getattr(modules.lifted, name)()
    variables = plain.init(KEY, X)
    expected = derive(plain, variables, wrap=jax.jit)
    assert_same(derive(lifted, variables, wrap=jax.jit), expected, rtol=1e-5)


SOME = ["ParentAndChild", "Variables"]


def _mapped(function):
    return lambda params, x: jax.vmap(function, (None, 0))(params, jnp.stack([x, 2 * x]))


def _scanned(function):
    def run(params, x):
        step = lambda carry, x: (carry, function(params, x))  # noqa: E731
        return jax.lax.scan(step, 0.0, jnp.stack([x, 2 * x]))[1]

    return run


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("gradient", [_mapped, _scanned], ids=["vmap", "scan"])
def test_gradients_in_loops(modules, name, gradient):
    plain, lifted = getattr(modules.plain, name)(), getattr(modules.lifted, name)()
    variables = plain.init(KEY, X)
    run = lambda module: derive(module, variables, gradient=gradient)  # noqa: E731
    assert_same(run(lifted), run(plain), rtol=1e-5)


@pytest.mark.parametrize("name", SOME)
def test_gradients_under_remat(modules, name):
    plain, lifted = getattr(modules.plain, name)(), getattr(modules.lifted, name)()
    variables = plain.init(KEY, X)
    expected = derive(plain, variables)
    assert_same(derive(lifted, variables, wrap=jax.checkpoint), expected, rtol=1e-5)
    remat = nn.remat(type(lifted))()
    assert_same(derive(remat, variables), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["Recursive", "TwoWays", "Boxed"])
def test_frozen_variables(modules, name):
    """All of them frozen, and frozen in part; read-only collections stay frozen in the pass."""
    plain, lifted = getattr(modules.plain, name)(), getattr(modules.lifted, name)()
    variables = plain.init(KEY, X)
    expected = derive(plain, variables)[1]
    first = next(iter(variables["params"]))
    params = variables["params"]
    if isinstance(params[first], dict):
        params = {**params, first: flax.core.freeze(params[first])}
    for frozen in (flax.core.freeze(variables["params"]), params):
        found = derive(lifted, {"params": frozen})[1]
        assert jax.tree.structure(found[0]) == jax.tree.structure(frozen)
        assert_same(jax.tree.leaves(found), jax.tree.leaves(expected), rtol=1e-5)
    frozen = flax.core.freeze(variables)
    assert_same(lifted.apply(frozen, X), plain.apply(frozen, X))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", ["Recursive", "TwoWays"])
def test_mutable_parameters_that_nothing_updates(modules, name, wrap):
    """Rules in rules, called twice: no gradient is lost on its way through unchanged variables."""
    plain, lifted = getattr(modules.plain, name)(), getattr(modules.lifted, name)()
    variables = plain.init(KEY, X)
    expected = derive(plain, variables, wrap=wrap, mutable=True)
    assert_same(derive(lifted, variables, wrap=wrap, mutable=True), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["Recursive", "Variables"])
def test_bound_modules(modules, name):
    plain, lifted = getattr(modules.plain, name)(), getattr(modules.lifted, name)()
    variables = plain.init(KEY, X)

    def run(module):
        bound = module.bind(variables, mutable=STATE)
        y = bound(X) + bound(X)
        apart, found = bound.unbind()
        x_t = jax.grad(lambda x: (apart.apply(found, x) ** 2).sum())(X)
        bare = module.bind(variables)
        return y, found, x_t, jax.grad(lambda x: bare(x).sum())(X)

    assert_same(run(lifted), run(plain), rtol=1e-5)


def test_free_functions(modules):
    """`nn.init`, `nn.apply`, `module_paths`, a method by name, by function, on a submodule."""
    plain, lifted = modules.plain.HoldsSetup(), modules.lifted.HoldsSetup()
    call = lambda module, x: module(x) + module.listed[0](x)  # noqa: E731
    variables = nn.init(call, plain)(KEY, X)
    assert_same(nn.init(call, lifted)(KEY, X), variables)

    def derived(module):
        run = lambda v, x: nn.apply(call, module)(v, x).sum()  # noqa: E731
        return jax.grad(run, (0, 1))(variables, X)

    assert_same(derived(lifted), derived(plain), rtol=1e-5)
    assert list(lifted.module_paths(KEY, X)) == list(plain.module_paths(KEY, X))
    plain, lifted = modules.plain.Marked(), modules.lifted.Marked()
    variables = plain.init(KEY, X)
    for name in ("hidden", "named"):
        expected = plain.apply(variables, X, method=name)
        assert_same(lifted.apply(variables, X, method=name), expected)
        assert_same(lifted.apply(variables, X, method=getattr(type(lifted), name)), expected)
        found = jax.grad(lambda v, n=name: lifted.apply(v, X, method=n).sum())(variables)
        wanted = jax.grad(lambda v, n=name: plain.apply(v, X, method=n).sum())(variables)
        assert_same(found, wanted, rtol=1e-5)


def _shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def test_each_tangent_has_its_place(modules):
    lifted = modules.lifted.Places()
    variables = lifted.init(KEY, X)
    jax.grad(lambda v: lifted.apply({**variables, "params": v}, X).sum())(variables["params"])
    dense = {"bias": (3,), "kernel": (3, 3)}
    first, pair, v, seen = modules.lifted.SEEN[-1]
    assert _shapes(first) == {
        "params": {
            "Dense_0": dense,
            "inner_0": dense,
            "inner_1_k": {"Dense_0": dense, "scale": (3,)},
            "inner_2": dense,
        }
    }
    assert _shapes(pair) == {"a": {"params": dense}, "b": ({"params": {"inner": dense}},)}
    assert _shapes(v) == {"params": {"v": (3,)}}
    assert seen == {}
    # what two ways lead to has its tangent at the first of them
    assert jnp.any(first["params"]["inner_0"]["kernel"] != 0)
    assert not jnp.any(pair["a"]["params"]["kernel"] != 0)
    assert not jnp.any(v["params"]["v"] != 0)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("other", ["apart", "shared"])
def test_rules_by_the_name_of_a_module(modules, other, wrap):
    plain, lifted = modules.plain.ByName(other), modules.lifted.ByName(other)
    variables = plain.init(KEY, X)
    value, (params, x_t) = derive(plain, variables)
    # the shared module's tangent has one place, at the holder: twice what autodiff says
    expected = {
        "Dense_0": jax.tree.map(lambda t: 2 * t, params["Dense_0"]),
        "Holds_0": jax.tree.map(jnp.zeros_like, params["Holds_0"]),
    }
    if other == "apart":
        expected["Dense_1"] = params["Dense_1"]
    assert_same(derive(lifted, variables, wrap=wrap), (value, (expected, x_t)), rtol=1e-5)


def _tripled(next_fun, args, kwargs, context):
    # of `ByHand` itself: its rule stays inside of what intercepts it
    wanted = type(context.module).__name__ == "ByHand" or (
        isinstance(context.module, nn.Dense) and context.module.name != "dense"
    )
    y = next_fun(*args, **kwargs)
    return 3 * y if wanted and context.method_name == "__call__" else y


@pytest.mark.parametrize("name", ["Ruled", "HoldsSetup", "ByHand"])
@pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["eager", "jit", "remat"]
)
def test_interceptors(modules, name, wrap):
    """Methods are intercepted in the rule as in the primal, also where JAX traces it afterwards."""
    plain, lifted = getattr(modules.plain, name)(), getattr(modules.lifted, name)()
    variables = plain.init(KEY, X)

    def run(module):
        def loss(params, x):
            with nn.intercept_methods(_tripled):
                return (module.apply({"params": params}, x) ** 2).sum()

        return jax.value_and_grad(wrap(loss), (0, 1))(variables["params"], X)

    assert_same(run(lifted), run(plain), rtol=1e-5)


def test_an_interceptor_sees_the_same_calls(modules):
    """It may keep the modules that it sees in a list of its own."""

    def calls(module, variables):
        seen, kept = [], []

        def record(next_fun, args, kwargs, context):
            kept.append(context.module)
            seen.append((type(context.module).__name__, context.method_name, context.module.path))
            return next_fun(*args, **kwargs)

        with nn.intercept_methods(record):
            module.apply(variables, X)
        assert len(kept) == len(seen)
        return seen

    plain, lifted = modules.plain.Recursive(), modules.lifted.Recursive()
    variables = plain.init(KEY, X)
    assert calls(lifted, variables) == calls(plain, variables)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_what_an_interceptor_has_captured(modules, wrap):
    """A traced value in it does not leak; its gradient has no slot, and that is said."""
    lifted = modules.lifted.Ruled()
    variables = lifted.init(KEY, X)

    def loss(x, scale):
        def scaled(next_fun, args, kwargs, context):
            y = next_fun(*args, **kwargs)
            return scale * y if isinstance(context.module, nn.Dense) else y

        with nn.intercept_methods(scaled):
            return lifted.apply(variables, x).sum()

    dense = lambda x: nn.Dense(3).apply({"params": variables["params"]["Dense_0"]}, x)  # noqa: E731
    expected = jax.grad(lambda x: jnp.tanh(5 * dense(x)).sum())(X)
    assert_same(jax.grad(wrap(loss))(X, jnp.float32(5)), expected, rtol=1e-5)
    with pytest.warns(vjpgen.DroppedTangentWarning, match="captured value 'scale'"):
        assert jax.grad(wrap(loss), 1)(X, jnp.float32(5)) == 0
