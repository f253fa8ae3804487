"""Equal layers share a trace; whatever else a trace depends on, nothing is shared wrongly."""

from __future__ import annotations

import collections
import gc
import re
import threading
import weakref
from functools import partial
from types import SimpleNamespace
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpgen
from tests.runtime.compare import assert_same
from vjpgen.runtime import sharing

X = jax.random.normal(jax.random.key(1), (4, 3))
# their numbers compile fast
KEYS = [jax.random.key(seed, impl="unsafe_rbg") for seed in range(3)]
RNGS = dict(zip(("params", "dropout", "noise"), KEYS, strict=True))
JIT = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])


@pytest.fixture(autouse=True)
def fresh():
    """No test sees another's traces."""
    sharing.clear()
    yield
    sharing.clear()


@pytest.fixture
def modules(pair, monkeypatch):
    """The generated modules; what a test changes in them is put back."""
    lifted = pair("sharing").lifted
    for name in ("SCALE", "TABLE", "SEEN", "settings"):
        value = getattr(lifted, name)
        fresh = SimpleNamespace(**vars(value)) if name == "settings" else value
        monkeypatch.setattr(lifted, name, fresh.copy() if hasattr(fresh, "copy") else fresh)
    return lifted


def stack(modules, *layers):
    return modules.Stack(layers)


def step(model, variables, x=X, mutable=False, wrap=jax.jit, **options):
    """Value, updates and gradients of a loss; JAX traces it anew at each call."""
    params, rest = {"params": variables["params"]}, dict(variables)
    del rest["params"]

    def loss(params, x):
        found = model.apply({**params, **rest}, x, rngs=RNGS, mutable=mutable, **options)
        y, updates = found if mutable else (found, {})
        return jnp.sum(y**2), updates

    return wrap(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)


def agree(model, variables=None, times=2, rtol=None, **options):
    """Assert that steps with and without sharing agree; tell how many calls shared.

    Bit for bit where nothing is compiled around them; XLA may order a compiled program otherwise.
    """
    rtol = (1e-5 if options.get("wrap", jax.jit) is jax.jit else 0.0) if rtol is None else rtol
    variables = model.init(RNGS, X) if variables is None else variables
    with sharing.disabled():
        expected = step(model, variables, **options)
    before = sharing.info().hits
    for _ in range(times):
        assert_same(step(model, variables, **options), expected, rtol)
    return sharing.info().hits - before


# -- what shares --------------------------------------------------------------------------------


def test_equal_layers_are_traced_once(modules):
    model = stack(modules, *[modules.Dense] * 5)
    variables = model.init(RNGS, X)
    assert agree(model, variables, times=1) == 4
    assert sharing.info().misses == 1
    assert agree(model, variables, times=1) == 5
    assert sharing.info().size == 1


def test_eager_layers_share_from_the_second_on(modules):
    model = stack(modules, *[modules.Dense] * 5)
    assert agree(model, times=1, wrap=lambda f: f) == 3
    assert agree(model, times=1, wrap=lambda f: f) == 5


def test_an_equal_program_comes_of_it(modules):
    model = stack(modules, *[modules.Dense] * 3)
    variables = model.init(RNGS, X)

    def operations():
        lowered = jax.jit(jax.grad(lambda v: jnp.sum(model.apply(v, X)))).lower(variables)
        return collections.Counter(re.findall(r" ([a-z-]+)\(", lowered.compile().as_text()))

    with sharing.disabled():
        expected = operations()
    assert operations() == expected
    assert sharing.info().hits == 2


def test_two_models_of_a_class(modules):
    one, other = (stack(modules, *[partial(modules.Dense, n)] * 3) for n in (3, 5))
    for _ in range(2):
        agree(one)
        agree(other)


@JIT
def test_layers_keep_their_names_in_profiles(modules, wrap):
    model = stack(modules, *[modules.Dense] * 3)
    variables = model.init(RNGS, X)
    program = jax.jit(jax.grad(lambda v: jnp.sum(wrap(model.apply)(v, X)))).lower(variables)
    text = program.compile().as_text()
    assert sharing.info().hits == 2
    for index in range(3):
        assert f"layer_{index}" in text


# -- what does not -------------------------------------------------------------------------------


@JIT
@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({"slope": 1.0}, {"slope": 2.0}),
        ({"slope": 1.0}, {"slope": 1}),
        ({"slope": np.float32(1)}, {"slope": np.float32(2)}),
        ({"act": jnp.tanh}, {"act": jax.nn.relu}),
        ({"act": lambda x: x}, {"act": lambda x: 2 * x}),
        ({"act": partial(jax.nn.leaky_relu, negative_slope=0.1)}, {"act": jax.nn.leaky_relu}),
        ({"dtype": jnp.bfloat16}, {"dtype": jnp.float16}),
        ({"precision": "highest"}, {"precision": None}),
    ],
    ids=lambda fields: ",".join(fields),
)
def test_layers_that_differ_in_a_field(modules, first, other, wrap):
    layers = [partial(modules.Dense, **fields) for fields in (first, other, first, other)]
    agree(stack(modules, *layers), wrap=wrap, times=3)
    keys = 0 if isinstance(first.get("slope"), np.generic) else 2
    assert sharing.info().size >= keys


@JIT
def test_callables_that_captured_different_values(modules, wrap):
    def power(n):
        return lambda x: x**n

    layers = [partial(modules.Dense, act=power(n)) for n in (2, 3, 2, 3)]
    assert agree(stack(modules, *layers), wrap=wrap, times=3) > 2
    assert sharing.info().size == 2


def test_inputs_of_another_type(modules):
    model = stack(modules, *[modules.Dense] * 2)
    variables = model.init(RNGS, X)
    for x in (X, X.astype(jnp.bfloat16), X[:2], jnp.ones((3, 4, 3)), np.asarray(X)):
        agree(model, variables, x=x)


@JIT
def test_train(modules, wrap):
    model = stack(modules, *[modules.Norm] * 3)
    variables = model.init(RNGS, X)
    for train in (True, False, True):
        options = {"train": train, "mutable": ["batch_stats"] if train else False}
        assert agree(model, variables, wrap=wrap, **options)


@JIT
@pytest.mark.parametrize("name", ["Dropping", "Drawing", "Around"])
def test_each_layer_draws_its_own_numbers(modules, name, wrap):
    model = stack(modules, modules.Dense, *[getattr(modules, name)] * 4)
    # where nothing is compiled around it, XLA has two ways of dividing by a constant
    assert agree(model, wrap=wrap, rtol=1e-5) > 3


def test_draws_through_a_transform_of_flax(modules):
    agree(stack(modules, *[modules.Remat] * 3), times=3)


def test_a_layer_called_twice_draws_anew(modules):
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = modules.Dropping()
            return layer(layer(x))

    agree(Twice(), times=3)


@JIT
def test_captured_values(modules, wrap):
    agree(modules.Closing((0.5, 2.0, 0.5)), wrap=wrap, times=3)
    agree(modules.Closing((3.0,)), wrap=wrap, times=3)


# -- Python state --------------------------------------------------------------------------------


def _rebind(modules):
    modules.SCALE = 7.0


def _change_item(modules):
    modules.TABLE["scale"] = 7.0


def _change_attribute(modules):
    modules.settings.scale = 7.0


@JIT
@pytest.mark.parametrize("change", [_rebind, _change_item, _change_attribute])
def test_a_global_changes_between_calls(modules, change, wrap):
    model = stack(modules, *[modules.Global] * 2)
    variables = model.init(RNGS, X)
    agree(model, variables, wrap=wrap)
    before = step(model, variables, wrap=wrap)
    change(modules)
    agree(model, variables, wrap=wrap)
    assert step(model, variables, wrap=wrap)[0] != before[0]


@JIT
def test_a_global_of_the_rule_changes_between_calls(modules, wrap):
    model = stack(modules, *[modules.RuleReads] * 2)
    variables = model.init(RNGS, X)
    agree(model, variables, wrap=wrap)
    modules.SCALE = 7.0
    agree(model, variables, wrap=wrap)


@JIT
def test_a_class_attribute_changes_between_calls(modules, wrap, monkeypatch):
    model = stack(modules, *[modules.Attribute] * 2)
    variables = model.init(RNGS, X)
    agree(model, variables, wrap=wrap)
    monkeypatch.setattr(modules.Attribute, "scale", 7.0)
    agree(model, variables, wrap=wrap)


@JIT
def test_an_attribute_of_a_field_changes_between_calls(modules, wrap):
    options = SimpleNamespace(scale=2.0)
    model = stack(modules, *[partial(modules.Attribute, options)] * 3)
    variables = model.init(RNGS, X)
    assert agree(model, variables, wrap=wrap)
    options.scale = 7.0
    assert agree(model, variables, wrap=wrap)


@JIT
def test_a_name_or_path_that_code_reads(modules, wrap):
    model = modules.Stack([modules.Named] * 3)
    agree(model, wrap=wrap, times=3)


@JIT
def test_effects_of_a_trace(modules, wrap):
    model = stack(modules, *[modules.Recording] * 3)
    variables = model.init(RNGS, X)
    modules.SEEN.clear()
    with sharing.disabled():
        step(model, variables, wrap=wrap)
    expected = len(modules.SEEN)
    for turn in (2, 3, 4):
        step(model, variables, wrap=wrap)
        assert len(modules.SEEN) == turn * expected


@JIT
def test_state_that_comes_back(modules, wrap):
    model = stack(modules, *[modules.Toggling] * 3)
    variables = model.init(RNGS, X)
    modules.TABLE["scale"] = 2.0
    found = [step(model, variables, wrap=wrap)[0] for _ in range(4)]
    modules.TABLE["scale"] = 2.0
    with sharing.disabled():
        assert_same(found, [step(model, variables, wrap=wrap)[0] for _ in range(4)])


@JIT
def test_the_configuration_changes_between_calls(modules, wrap):
    model = stack(modules, modules.Dense, *[partial(modules.Drawing, 1)] * 2)
    variables = model.init(RNGS, X)
    agree(model, variables, wrap=wrap)
    with jax.default_matmul_precision("float32"):
        agree(model, variables, wrap=wrap)
    with jax.numpy_dtype_promotion("strict"):
        agree(model, variables, wrap=wrap)
    with flax.config.temp_flip_flag("fix_rng_separator", not flax.config.flax_fix_rng_separator):
        agree(model, variables, wrap=wrap)
    with jax.enable_x64(True):
        agree(model, variables, wrap=wrap)


def test_a_global_changes_between_the_passes(modules):
    model = stack(modules, modules.RuleReads)
    variables = model.init(RNGS, X)

    def backward(times):
        modules.SCALE = 2.0
        _, pullback = jax.vjp(lambda x: model.apply(variables, x), X)
        modules.SCALE = 7.0
        return [pullback(jnp.ones((4, 3))) for _ in range(times)]

    modules.SCALE = 2.0
    for _ in range(3):
        backward(2)
        agree(model, variables, wrap=lambda f: f)
        modules.SCALE = 2.0
        agree(model, variables, wrap=lambda f: f)


# -- what Python code can tell ---------------------------------------------------------------------

FIRST, SECOND = object(), object()


def reads(function):
    """A layer whose rule calls `function` with the module's `held` and what comes of it."""

    def layer(module, *args):
        return function(module, *args)

    def same(vjp_fn, y_t):
        return vjp_fn(y_t)

    class Layer(nn.Module):
        held: Any = None

        @nn.compact
        def __call__(self, *args):
            return vjpgen.custom_vjp(layer, partial(vjpgen.vjp, layer), same)(self, *args)

    return Layer


@JIT
def test_objects_that_are_equal_but_not_the_same(modules, wrap):
    layer = reads(lambda module, x: x * (2.0 if module.held is FIRST else 5.0))
    layers = [partial(layer, held) for held in (FIRST, SECOND) * 2]
    agree(stack(modules, modules.Dense, *layers), wrap=wrap, times=3)


@JIT
def test_what_a_field_s_code_reads_of_the_module(modules, wrap):
    layer = reads(lambda module, x: module.held(module, x))
    hook = lambda module, x: x * float(module.path[-1][-1])  # noqa: E731
    agree(stack(modules, modules.Dense, *[partial(layer, hook)] * 3), wrap=wrap, times=3)


@JIT
def test_effects_on_a_field(modules, wrap):
    def count(module, x):
        module.held.calls += 1
        return 2 * x

    options = SimpleNamespace(calls=0)
    model = stack(modules, modules.Dense, partial(reads(count), options))
    variables = model.init(RNGS, X)

    def calls():
        options.calls = 0
        step(model, variables, wrap=wrap)
        return options.calls

    with sharing.disabled():
        expected = calls()
    assert [calls() for _ in range(4)] == [expected] * 4


def test_the_first_call_s_field_changes(modules):
    layer = reads(lambda module, x: module.held.scale * x)
    first, other = SimpleNamespace(scale=2.0), SimpleNamespace(scale=2.0)
    models = [stack(modules, modules.Dense, partial(layer, held)) for held in (first, other)]
    variables = models[0].init(RNGS, X)
    for _ in range(2):
        models[0].apply(variables, X, rngs=RNGS)
    first.scale = 7.0  # the forward rule has not been traced yet
    agree(models[1], variables, wrap=lambda f: f)


def test_the_backward_rule_reads_what_is_there_when_it_runs(modules):
    model = stack(modules, modules.RuleReads)
    variables = model.init(RNGS, X)

    def gradients():
        modules.SCALE = 2.0
        pullbacks = [jax.vjp(jax.jit(partial(model.apply, variables)), X)[1] for _ in range(2)]
        first = pullbacks[0](jnp.ones((4, 3)))
        modules.SCALE = 7.0
        return first, pullbacks[1](jnp.ones((4, 3)))

    with sharing.disabled():
        expected = gradients()
    for _ in range(3):
        assert_same(gradients(), expected, 1e-5)


def test_one_array_passed_twice(modules):
    layer = reads(lambda module, x, y: x * (2.0 if x is y else 1.0) + y)
    with sharing.disabled():
        expected = layer().apply({}, X, X)
    for _ in range(3):
        layer().apply({}, X, X + 0)
        assert_same(layer().apply({}, X, X), expected)


def test_code_that_catches_what_tracing_raises(modules):
    def peak(module, x):
        try:
            return x * float(jnp.max(x))
        except jax.errors.ConcretizationTypeError:
            return x

    layer = reads(peak)
    with sharing.disabled():
        expected = layer().apply({}, X)
    for _ in range(3):
        assert_same(layer().apply({}, X), expected)


@JIT
def test_a_tree_whose_equality_does_not_tell_all(wrap):
    layer = reads(lambda module, tree: tree.array * tree.options.scale)

    def found():
        trees = [Tree(X, Options("same", scale)) for scale in (1.0, 2.0, 1.0, 2.0)]
        return [wrap(lambda x, tree=t: layer().apply({}, Tree(x, tree.options)))(X) for t in trees]

    with sharing.disabled():
        expected = found()
    for _ in range(2):
        assert_same(found(), expected)


class Options:
    def __init__(self, name, scale):
        self.name, self.scale = name, scale

    def __eq__(self, other):
        return self.name == other.name

    def __hash__(self):
        return hash(self.name)


@jax.tree_util.register_pytree_node_class
class Tree:
    def __init__(self, array, options):
        self.array, self.options = array, options

    def tree_flatten(self):
        return (self.array,), self.options

    @classmethod
    def tree_unflatten(cls, options, children):
        return cls(children[0], options)


@JIT
def test_a_variable_with_its_box_or_without(modules, wrap):
    def scaled(variable, x):
        value = variable.value
        return x * (value if isinstance(value, jax.Array) else 5.0 * value.value)

    class Layer(nn.Module):
        unbox: bool

        @nn.compact
        def __call__(self, x):
            box = nn.Partitioned(jnp.full(3, 2.0), ("a",))
            variable = self.variable("params", "scale", lambda: box, unbox=self.unbox)
            same = lambda vjp_fn, y_t: vjp_fn(y_t)  # noqa: E731
            return vjpgen.custom_vjp(scaled, partial(vjpgen.vjp, scaled), same)(variable, x)

    layers = [partial(Layer, unbox) for unbox in (True, False) * 2]
    agree(stack(modules, *layers), wrap=wrap)


# -- errors, warnings, what watches ---------------------------------------------------------------


def test_a_branch_on_a_value(modules):
    model = stack(modules, *[modules.Branching] * 3)
    variables = model.init(RNGS, X)
    agree(model, variables, wrap=lambda f: f, times=3)
    with pytest.raises(jax.errors.TracerBoolConversionError):
        step(model, variables)


def test_an_error_names_the_layer_that_fails(modules):
    model = stack(modules, *[modules.Dense] * 3)
    variables = model.init(RNGS, X)
    step(model, variables)
    variables["params"]["layer_2"]["Dense_0"]["kernel"] = jnp.ones((2, 3))
    with pytest.raises(flax.errors.ScopeParamShapeError, match="layer_2"):
        step(model, variables)


@JIT
@pytest.mark.parametrize("missing", [None, "error"])
def test_what_a_rule_drops_is_said_at_each_call(missing, wrap):
    def layer(module, x):
        return nn.Dense(3)(x) * module.get_variable("extra", "scale")

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.variable("extra", "scale", lambda: jnp.ones(3))
            forward = partial(vjpgen.vjp, layer)
            lifted = vjpgen.custom_vjp(layer, forward, lambda vjp_fn, t: vjp_fn(t), missing=missing)
            return lifted(self, x)

    variables = Layer().init(RNGS, X)

    def gradient():
        loss = wrap(lambda v: jnp.sum(Layer().apply(v, X)))
        return jax.grad(loss)(variables)

    for _ in range(4):
        if missing is None:
            with pytest.warns(vjpgen.DroppedTangentWarning, match="extra"):
                gradient()
        else:
            with pytest.raises(vjpgen.TangentError, match="extra"):
                gradient()


def test_forward_mode_is_refused_alike(modules):
    model = stack(modules, *[modules.Dense] * 2)
    variables = model.init(RNGS, X)
    step(model, variables)
    with pytest.raises(TypeError, match=r"Dense\.__call__"):
        jax.jvp(partial(model.apply, variables), (X,), (X,))


def test_interceptors_see_every_layer(modules):
    model = stack(modules, *[modules.Dense] * 3)
    variables = model.init(RNGS, X)
    step(model, variables)
    seen = []

    def watch(call, args, kwargs, context):
        seen.append("/".join(context.module.path))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        model.apply(variables, X)
    assert [path for path in seen if path.endswith("Dense_0")] == [
        f"layer_{index}/Dense_0" for index in range(3)
    ]


def test_captures_and_tables_see_every_layer(modules):
    model = stack(modules, *[modules.Dense] * 3)
    variables = model.init(RNGS, X)
    step(model, variables)
    _, state = jax.jit(partial(model.apply, capture_intermediates=True))(variables, X)
    found = state["intermediates"]
    assert all("Dense_0" in found[f"layer_{index}"] for index in range(3))
    text = model.tabulate(RNGS, X, console_kwargs={"width": 200})
    assert all(f"layer_{index}/Dense_0" in text for index in range(3))


# -- turning it off --------------------------------------------------------------------------------


def test_an_environment_variable_turns_it_off(modules, monkeypatch):
    model = stack(modules, *[modules.Dense] * 3)
    monkeypatch.setenv("VJPGEN_SHARE_TRACES", "0")
    assert agree(model) == 0
    assert sharing.info() == (0, 0, 0)


def test_an_argument_turns_it_off(modules):
    same = modules.same

    def layer(module, x):
        return nn.Dense(3)(x)

    class Layer(nn.Module):
        share: bool

        @nn.compact
        def __call__(self, x):
            forward = partial(vjpgen.vjp, layer)
            rule = partial(vjpgen.custom_vjp, layer, forward, same)
            return rule(share_traces=self.share)(self, x)

    for share in (False, True):
        assert bool(agree(stack(modules, *[partial(Layer, share)] * 3))) is share


def test_disabled_jit_turns_it_off(modules):
    model = stack(modules, *[modules.Dense] * 3)
    variables = model.init(RNGS, X)
    with jax.disable_jit():
        assert agree(model, variables, wrap=lambda f: f, times=3) == 0


# -- transforms -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.vmap(f, in_axes=(None, 0)),
        lambda f: jax.jit(jax.vmap(f, in_axes=(None, 0))),
        lambda f: jax.jit(lambda p, x: jax.lax.map(partial(f, p), x)),
        lambda f: jax.jit(lambda p, x: jax.vmap(jax.checkpoint(partial(f, p)))(x)),
        lambda f: jax.jit(lambda p, x: jax.vmap(jax.jit(partial(f, p)))(x)),
    ],
    ids=["vmap", "jit of vmap", "map", "checkpoint", "nested jit"],
)
def test_transforms(modules, transform):
    model = stack(modules, *[modules.Dropping, modules.Dense] * 2)
    variables = model.init(RNGS, X)

    def loss(params, x):
        return jnp.sum(model.apply(params, x, rngs=RNGS) ** 2)

    def gradients():
        first = transform(jax.grad(loss, (0, 1)))(variables, jnp.stack([X, 2 * X]))
        second = jax.jit(jax.grad(lambda p: jnp.sum(jax.grad(loss, 1)(p, X) ** 2)))(variables)
        return first, second

    with sharing.disabled():
        expected = gradients()
    for _ in range(2):
        assert_same(gradients(), expected, rtol=1e-4)
    assert sharing.info().hits


def test_donated_and_exported(modules):
    model = stack(modules, *[modules.Dense] * 3)
    variables = model.init(RNGS, X)
    train = jax.jit(
        lambda v, x: jax.tree.map(
            lambda p, t: p - 0.1 * t, v, jax.grad(lambda v: jnp.sum(model.apply(v, x) ** 2))(v)
        ),
        donate_argnums=0,
    )
    exported = jax.export.deserialize(jax.export.export(train)(variables, X).serialize())
    expected = exported.call(variables, X)
    assert_same(train(variables, X), expected, rtol=1e-6)


# -- memory and threads ---------------------------------------------------------------------------


def _gradient_of_new_model(modules, layer, variables):
    model = stack(modules, *[layer] * 2)
    jax.make_jaxpr(jax.grad(lambda x: jnp.sum(model.apply(variables, x))))(X)


def test_a_thousand_models_of_a_class_leave_nothing(modules):
    variables = stack(modules, *[modules.Dense] * 2).init(RNGS, X)
    counts = []
    for _ in range(3):
        for _ in range(340):
            _gradient_of_new_model(modules, modules.Dense, variables)
        gc.collect()
        counts.append(len(gc.get_objects()))
    assert sharing.info().size == 1
    assert counts[2] - counts[1] < 100


def test_classes_that_come_and_go_are_let_go(modules):
    refs = []

    def once():
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                body = lambda module, x: 2 * x  # noqa: E731
                forward = lambda module, x: (2 * x, None)  # noqa: E731
                backward = lambda _, t: ({}, 2 * t)  # noqa: E731
                return vjpgen.custom_vjp(body, forward, backward)(self, x)

        refs.append(weakref.ref(Layer))
        _gradient_of_new_model(modules, Layer, {})

    for _ in range(sharing.SIZE + 20):
        once()
    assert sharing.info().size == sharing.SIZE
    sharing.clear()
    sharing.info()
    jax.clear_caches()
    gc.collect()
    assert sum(ref() is not None for ref in refs) < 64


def test_threads_trace_at_once(modules):
    models = [stack(modules, *[partial(modules.Dense, slope=s)] * 4) for s in (1.0, 2.0)]
    variables = models[0].init(RNGS, X)
    with sharing.disabled():
        expected = [step(model, variables) for model in models]
    errors = []

    def work(index):
        try:
            for _ in range(3):
                assert_same(step(models[index % 2], variables), expected[index % 2])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
