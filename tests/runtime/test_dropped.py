"""What rules drop: every cell of the table of policies, no false alarm, no silent drop."""

from __future__ import annotations

import os
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import vjpgen
from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
W = jax.random.normal(jax.random.key(2), (4, 3))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def dropped(pair):
    return pair("dropped")


def complaints(function, *args):
    """Run a function; return what it returned and the messages of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*args)
    assert {warning.category for warning in caught} <= {vjpgen.DroppedTangentWarning}
    return result, [str(warning.message) for warning in caught]


def energy(tree, power=2):
    return sum((jnp.abs(leaf) ** power).sum() for leaf in jax.tree.leaves(tree))


# -- the table ---------------------------------------------------------------------------------


def cell_loss(module, through):
    """The loss of a `Cell` over all that can be differentiated."""

    def loss(params, stats, x, knob, memory):
        variables = {"params": params, "stats": stats, "memory": memory}
        y, updates = module.apply(variables, x, {"a": knob}, mutable=["memory"])
        return (y * W).sum() + (energy(updates, 3) if through else 0.0)

    return loss


@pytest.fixture(scope="module")
def cell(dropped):
    """The arguments of `Cell` and its plain gradients, through the output and the update."""
    module = dropped.plain.Cell("strict")
    variables = jax.tree.map(lambda a: 0.5 * a, module.init(KEY, X, {"a": 1.5}))
    args = (*(variables[k] for k in ("params", "stats")), X, jnp.float32(1.5), variables["memory"])
    every = tuple(range(5))
    output = jax.jit(jax.grad(cell_loss(module, False), every))(*args)
    both = jax.jit(jax.grad(cell_loss(module, True), every))(*args)
    return args, output, jax.tree.map(jnp.subtract, both, output)


@pytest.mark.parametrize("full", [True, False], ids=["full", "leaf missing"])
@pytest.mark.parametrize("policy", ["strict", "zero", "autodiff"])
def test_the_value_of_every_gradient(dropped, cell, policy, full):
    args, output, update = cell
    run = jax.grad(cell_loss(dropped.lifted.Cell(policy, full), True), tuple(range(5)))
    if policy == "strict" and not full:
        with pytest.raises(vjpgen.TangentError, match=r"mdl: params\.bias: expected"):
            complaints(run, *args)
        return
    found, said = complaints(run, *args)
    zeros = jax.tree.map(jnp.zeros_like, args)
    params = output[0]["Inner_0"]
    kernel = 2 * params["kernel"]  # what the rule is there for
    if policy == "autodiff":
        expected = jax.tree.map(jnp.add, output, update)
        expected[0]["Inner_0"]["kernel"] = kernel + update[0]["Inner_0"]["kernel"]
        assert not said
    else:
        bias = params["bias"] if full else zeros[0]["Inner_0"]["bias"]
        inner = {"kernel": kernel, "bias": bias}
        expected = ({"gain": zeros[0]["gain"], "Inner_0": inner}, zeros[1], output[2], *zeros[3:])
    assert_same(found, expected, rtol=1e-5)
    if policy == "strict":
        for name in ("'gain'", "stats.scale", "knob.a", "memory.last: its updated value"):
            assert any(name in message for message in said), name
        assert len(said) == 2


CELLS = {
    "leaf": (0, "mdl: params.bias: expected float32[3], but it is missing"),
    "captured": (0, "drops the gradient of captured value 'gain': differentiated"),
    "collection": (1, "drops the gradient of stats.scale: differentiated"),
    "nondiff": (3, "drops the gradient of knob.a: differentiated"),
    "update": (2, "drops the gradient of memory.last: its updated value is differentiated"),
}


@pytest.mark.parametrize("what", CELLS)
@pytest.mark.parametrize("policy", ["strict", "error", "zero", "autodiff"])
def test_what_each_cell_says(dropped, cell, policy, what):
    args, *_ = cell
    place, message = CELLS[what]
    full = what != "leaf"
    loss = cell_loss(dropped.lifted.Cell(policy, full), what == "update")

    def of_one(part):
        changed = list(args)
        if what == "leaf":
            part = {**args[0], "Inner_0": part}
        elif what == "captured":
            part = {**args[0], "gain": part}
        changed[place] = part
        return loss(*changed)

    point = {"leaf": args[0]["Inner_0"], "captured": args[0]["gain"]}.get(what, args[place])
    # abstract: what is said is said while tracing
    run = lambda: jax.eval_shape(jax.grad(of_one), point)  # noqa: E731
    if policy == "error" or (policy == "strict" and what == "leaf"):
        with pytest.raises(vjpgen.TangentError) as caught:
            run()
        said = [str(caught.value)]
    else:
        _, said = complaints(run)
        assert len(said) == (policy == "strict")
    for text in said:
        assert message in text
        assert "Cell.__call__.<locals>.f (dropped.py:" in text
        assert "PyTreeDef" not in text


# -- transforms --------------------------------------------------------------------------------


def state_loss(module, collection="memory", through=True):
    def loss(params, state, x):
        variables = {"params": params, collection: state}
        y, updates = module.apply(variables, x, mutable=[collection])
        return energy(y) + (energy(updates, 3) if through else 0.0)

    return loss


def scanned(module):
    def loss(params, state, x):
        def body(carry, _):
            state, x = carry
            y, updates = module.apply({"params": params, "memory": state}, x, mutable=["memory"])
            return (updates["memory"], y), None

        (_, y), _ = jax.lax.scan(body, (state, x), None, length=3)
        return energy(y)

    return loss


def mapped(module):
    def loss(params, state, x):
        one = lambda x: state_loss(module, through=False)(params, state, x[None])  # noqa: E731
        return jax.vmap(one)(x).sum()

    return loss


def chosen(module):
    def loss(params, state, x):
        inner = state_loss(module, through=False)
        return jax.lax.cond(x.sum() > -1e3, lambda p: inner(p, state, x), lambda p: 0.0, params)

    return loss


def sharded(module):
    mesh = Mesh(np.array(jax.devices()[:1]), ("i",))
    whole, rows = PartitionSpec(), PartitionSpec("i")

    def loss(params, state, x):
        def body(params, state, x):
            return module.apply({"params": params, "memory": state}, x, mutable=["memory"])[0]

        specs = {"in_specs": (whole, whole, rows), "out_specs": rows}
        return energy(jax.shard_map(body, mesh=mesh, **specs)(params, state, x))

    return loss


def plain_loss(module):
    return state_loss(module, through=False)


def twice(derive):
    """The gradient of a function of the gradient."""

    def outer(loss, argnums):
        return derive(lambda *args: energy(jax.grad(loss, argnums)(*args)), argnums)

    return outer


TRANSFORMS = {
    "eager": (plain_loss, jax.grad),
    "jit of grad": (plain_loss, lambda f, n: jax.jit(jax.grad(f, n))),
    "grad of jit": (plain_loss, lambda f, n: jax.grad(jax.jit(f), n)),
    "remat": (plain_loss, lambda f, n: jax.jit(jax.grad(jax.checkpoint(f), n))),
    "grad of grad": (plain_loss, lambda f, n: jax.jit(twice(jax.grad)(f, n))),
    "scan": (scanned, lambda f, n: jax.jit(jax.grad(f, n))),
    "remat of scan": (scanned, lambda f, n: jax.jit(jax.grad(jax.checkpoint(f), n))),
    "vmap": (mapped, lambda f, n: jax.jit(jax.grad(f, n))),
    "cond": (chosen, lambda f, n: jax.jit(jax.grad(f, n))),
    "shard_map": (sharded, lambda f, n: jax.jit(jax.grad(f, n))),
}


# jax before 0.11 has no symbolic zeros in the remat of its new rule machinery
NEW_MACHINERY = os.environ.get("JAX_CUSTOM_VJP3", "0") not in ("", "0")
REMAT = jax.__version_info__ >= (0, 11) or not NEW_MACHINERY
if not REMAT:
    TRANSFORMS = {name: parts for name, parts in TRANSFORMS.items() if "remat" not in name}


def variables_of(module, collection="memory"):
    variables = jax.tree.map(lambda a: a + 0.1, module.init(KEY, X))
    return variables["params"], variables[collection], X


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_alarm_where_state_depends_on_nothing_differentiated(dropped, name):
    """A second call uses what the first has updated, as does the next step of a scan."""
    make, derive = TRANSFORMS[name]
    args = variables_of(dropped.plain.Remembered())
    expected = derive(make(dropped.plain.Remembered()), (0, 2))(*args)
    for policy in ["strict", "custom"] if name in ("eager", "scan") else ["strict"]:
        # warnings are errors here
        found = derive(make(dropped.lifted.Remembered(policy)), (0, 2))(*args)
        assert_same(found, expected, rtol=1e-4)


@pytest.mark.parametrize("policy", ["error", "autodiff", "zero"])
def test_no_alarm_under_other_policies(dropped, policy):
    args = variables_of(dropped.plain.Remembered())
    expected = jax.grad(scanned(dropped.plain.Remembered()), (0, 2))(*args)
    found = jax.grad(scanned(dropped.lifted.Remembered(policy)), (0, 2))(*args)
    assert_same(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_autodiff_through_state_equals_plain_autodiff(dropped, name):
    make, derive = TRANSFORMS[name]
    args = variables_of(dropped.plain.Recurrent())
    expected = derive(make(dropped.plain.Recurrent()), (0, 1, 2))(*args)
    found = derive(make(dropped.lifted.Recurrent("autodiff")), (0, 1, 2))(*args)
    assert_same(found, expected, rtol=1e-4)


@pytest.mark.parametrize("policy", ["autodiff", "custom", "remat"])
def test_autodiff_through_a_loss_on_the_update(dropped, policy):
    """The default forward rule, one of its own, and with `optimize_remat`."""
    args = variables_of(dropped.plain.Recurrent())
    expected = jax.grad(state_loss(dropped.plain.Recurrent()), (0, 1, 2))(*args)
    for wrap in (lambda f: f, *([jax.checkpoint] if REMAT else [])):
        found = jax.grad(wrap(state_loss(dropped.lifted.Recurrent(policy))), (0, 1, 2))(*args)
        assert_same(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_nothing_is_dropped_silently(dropped, name):
    make, derive = TRANSFORMS[name]
    args = variables_of(dropped.plain.Recurrent())
    strict, error = (dropped.lifted.Recurrent(policy) for policy in ("strict", "error"))
    _, said = complaints(lambda: jax.eval_shape(derive(make(strict), 0), *args))
    assert said
    assert all("Recurrent.strict (dropped.py:" in message for message in said)
    assert all("drops the gradient of memory.state" in message for message in said)
    with pytest.raises(vjpgen.TangentError, match=r"memory\.state: differentiated"):
        jax.eval_shape(derive(make(error), 0), *args)


@pytest.mark.parametrize("kind", ["scan", "jit", "vmap", *(["remat"] if REMAT else [])])
def test_transforms_of_flax(dropped, kind):
    def build(module):
        if kind in ("remat", "jit"):
            return getattr(nn, kind)(module)
        axes = {"variable_axes": {"params": 0, "memory": 0}, "split_rngs": {"params": True}}
        if kind == "vmap":
            return nn.vmap(module, **axes)

        class Body(nn.Module):
            policy: str

            @nn.compact
            def __call__(self, x, _):
                return module(self.policy)(x), None

        return nn.scan(Body, **axes, length=2)

    args = {"scan": (X, None), "vmap": (jnp.stack([X, X + 1]),)}.get(kind, (X,))
    for name, policy in (("Remembered", "strict"), ("Recurrent", "autodiff")):
        plain, lifted = (build(getattr(m, name))(policy) for m in (dropped.plain, dropped.lifted))
        variables = plain.init(KEY, *args)

        def loss(params, module, variables=variables, through=policy == "autodiff"):
            y, updates = module.apply({**variables, "params": params}, *args, mutable=["memory"])
            return energy(y) + (energy(updates) if through else 0.0)

        derive = jax.jit(jax.grad(loss), static_argnums=1)
        expected = derive(variables["params"], plain)
        assert_same(derive(variables["params"], lifted), expected, rtol=1e-4)


# -- rules beside and inside rules ---------------------------------------------------------------


def test_state_that_another_module_reads(dropped):
    args = variables_of(dropped.plain.Reader())
    expected = jax.grad(plain_loss(dropped.plain.Reader()), (0, 1, 2))(*args)
    found = jax.grad(plain_loss(dropped.lifted.Reader()), (0, 1, 2))(*args)
    assert_same(found, expected, rtol=1e-4)
    _, said = complaints(
        lambda: jax.eval_shape(jax.grad(plain_loss(dropped.lifted.Reader("strict"))), *args)
    )
    assert any("memory.state" in message for message in said)


def test_a_rule_inside_a_rule(dropped):
    """Only what is differentiated outside is said, by whichever rule drops it."""
    args = variables_of(dropped.plain.Nested())
    expected = jax.grad(plain_loss(dropped.plain.Nested()), (0, 2))(*args)
    for outer, title in (("strict", "Nested.strict"), ("autodiff", "Recurrent.strict")):
        module = dropped.lifted.Nested(outer)
        for wrap in (lambda f: f, jax.jit):  # the state is not differentiated: no alarm
            found = jax.grad(wrap(plain_loss(module)), (0, 2))(*args)
            assert_same(found, expected, rtol=1e-4)
        for loss, argnum in ((plain_loss(module), 1), (state_loss(module), 0)):
            _, said = complaints(lambda f, n: jax.eval_shape(jax.grad(f, n), *args), loss, argnum)
            assert [title in message for message in said] == [True]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_rule_around_one_without_a_slot(dropped, wrap):
    """The input of a first layer is no alarm, though the rule around differentiates it."""
    module = dropped.lifted.Capturing()
    variables = dropped.plain.Capturing().init(KEY, X)
    apply = wrap(module.apply)
    found = jax.grad(lambda v: (apply(v, X) * W).sum())(variables)  # warnings are errors
    assert_same(found, {"params": {"scale": (X * W).sum(0)}}, rtol=1e-5)
    _, said = complaints(jax.grad(lambda v, x: apply(v, x).sum(), (0, 1)), variables, X)
    assert ["captured value 'x'" in message for message in said] == [True]


@pytest.mark.parametrize("policy", ["strict", "error"])
def test_no_alarm_where_operations_are_counted(dropped, policy):
    """`tabulate` differentiates every output, updated variables too."""
    module = dropped.lifted.Remembered(policy)
    assert "vjp_flops" in module.tabulate(KEY, X, compute_vjp_flops=True)  # warnings are errors


@pytest.mark.parametrize("custom", [False, True], ids=["default", "own forward rule"])
def test_batch_statistics(dropped, custom):
    args = variables_of(dropped.plain.Normed(), "batch_stats")
    for train in (True, False):
        loss = state_loss(dropped.lifted.Normed(custom, train), "batch_stats", False)
        jax.eval_shape(jax.jit(jax.grad(loss)), *args)  # warnings are errors
        _, said = complaints(lambda f: jax.eval_shape(jax.grad(f, 1), *args), loss)
        assert len(said) == (0 if train else 2)  # training, the output does not depend on them
        assert all("batch_stats.norm.mean, batch_stats.norm.var" in message for message in said)


@pytest.mark.parametrize("kind", ["callback", "while"])
def test_primals_without_a_derivative(dropped, kind):
    module = dropped.lifted.Shielded(kind)
    params, state, x = variables_of(dropped.plain.Shielded(kind))
    loss = plain_loss(module)
    assert jax.eval_shape(jax.grad(loss, 2), params, state, x).shape == X.shape  # no alarm
    _, said = complaints(lambda: jax.eval_shape(jax.jit(jax.grad(loss, 1)), params, state, x))
    assert ["memory.decayed" in message for message in said] == [True, True]  # two calls


# -- kinds ---------------------------------------------------------------------------------------


def kinds_loss(module):
    def loss(params, gains, perturbations, phase, twins, x):
        state = {"count": jnp.int32(1), "key": KEY, "phase": phase, **twins}
        variables = {"params": params, "perturbations": perturbations, "state": state}
        module_of_gains = module.clone(gains=gains)
        y, updates = module_of_gains.apply(variables, x, mutable=["losses", "state"])
        twins = 2 * updates["state"]["twin"] + 5 * updates["state"]["other"]
        return (
            energy(y) + energy(updates["losses"]) + energy(updates["state"]["phase"]) + twins.sum()
        )

    return loss


def kinds_args():
    shared = jnp.ones(3)  # one array in many places
    params = {"kernel": shared}
    twins = {"twin": shared, "other": shared}
    return params, {"a": 2 * shared}, {"inner": 0 * X}, jnp.full(3, 2j), twins, X


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_kinds_of_state(dropped, wrap):
    """Integers, keys, complex numbers, one array in two variables, sown values, perturbations."""
    args, every = kinds_args(), tuple(range(6))
    expected = jax.grad(kinds_loss(dropped.plain.Kinds()), every)(*args)
    found = jax.grad(wrap(kinds_loss(dropped.lifted.Kinds("autodiff"))), every)(*args)
    assert_same(found, expected, rtol=1e-4)
    found, said = complaints(jax.grad(wrap(kinds_loss(dropped.lifted.Kinds())), every), *args)
    for name in ("attributes of Kinds.gains.a", "perturbations.inner", "losses.aux[0]", "phase"):
        assert any(name in message for message in said), name
    assert not any(name in message for message in said for name in ("twin", "other", "count"))
    assert_same(found[4], expected[4])  # what comes through as it was keeps its tangent
    with pytest.raises(vjpgen.TangentError, match=r"losses\.aux\[0\]"):
        jax.eval_shape(jax.grad(wrap(kinds_loss(dropped.lifted.Kinds("error")))), *args)
    found = jax.grad(wrap(kinds_loss(dropped.lifted.Kinds("zero"))), every)(*args)
    assert_same(found[1:4], jax.tree.map(jnp.zeros_like, args[1:4]))


@pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["eager", "jit", "remat"]
)
@pytest.mark.parametrize("policy", ["strict", "error", "zero", "autodiff", "symbolic"])
def test_options_of_jax(dropped, policy, wrap):
    """`optimize_remat`, where JAX does not tell what is differentiated, and `symbolic_zeros`."""

    def loss(scale, x):
        return dropped.lifted.scaled(scale, policy)(x).sum()

    if policy == "symbolic" and wrap is jax.checkpoint and not REMAT:
        wrap = jax.jit
    assert_same(jax.grad(wrap(loss), 1)(2.0, X), 2 * jnp.cos(X), rtol=1e-5)
    if policy == "error":
        for _ in range(2):  # a trace that JAX has kept raises again
            with pytest.raises(vjpgen.TangentError, match="captured value 'scale'"):
                jax.grad(wrap(loss))(2.0, X)
        return
    found, said = complaints(jax.grad(wrap(loss)), 2.0, X)
    assert_same(found, jnp.sin(X).sum() if policy == "autodiff" else jnp.zeros(()), rtol=1e-5)
    assert ["captured value 'scale'" in m for m in said] == [True] * (
        policy in ("strict", "symbolic")
    )


def test_a_loss_on_an_update_with_optimize_remat(dropped):
    args = variables_of(dropped.plain.Recurrent())
    loss = state_loss(dropped.lifted.Recurrent("opaque"))
    _, said = complaints(lambda: jax.eval_shape(jax.grad(loss), *args))
    assert said
    assert all("Recurrent.opaque" in message and "memory.state" in message for message in said)


# -- how it is said ------------------------------------------------------------------------------


def test_a_warning_made_an_error_leaves_nothing_broken(dropped):
    args = variables_of(dropped.plain.Recurrent())
    step = jax.jit(plain_loss(dropped.lifted.Recurrent("strict")))
    remat = [jax.grad(jax.checkpoint(step))] if REMAT else []
    for derive in (jax.grad(step), jax.jit(jax.grad(step)), *remat):
        for _ in range(2):
            with pytest.raises(vjpgen.DroppedTangentWarning):  # as pytest is configured
                derive(*args)
    assert jnp.isfinite(step(*args))
    _, said = complaints(jax.grad(step), *args)
    assert said
    dropped.lifted.Remembered().init(KEY, X)


def test_a_warning_points_at_the_users_line(dropped):
    args = variables_of(dropped.plain.Recurrent())
    step = jax.jit(plain_loss(dropped.lifted.Recurrent("strict")))
    with pytest.warns(vjpgen.DroppedTangentWarning) as caught:
        jax.grad(step)(*args)
    assert caught[0].filename == __file__
    with pytest.warns(vjpgen.DroppedTangentWarning) as caught:
        jax.grad(plain_loss(dropped.lifted.Recurrent("strict")))(*args)
    assert caught[0].filename == dropped.lifted.__file__  # the method that calls the rule
