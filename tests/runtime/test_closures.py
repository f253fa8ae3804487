"""Captured values, by the primal, `fwd` and `bwd`: found, passed, given their gradients."""

from __future__ import annotations

import contextlib
import re
import threading
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpgen
from tests.runtime.compare import assert_same
from tests.runtime.generate import load
from tests.runtime.sources.closures import kinds as plain_kinds
from tests.runtime.sources.closures import modules as plain_modules

X = jnp.array([0.5, -1.0, 2.0])
W = jnp.float32(0.7)
KEY = jax.random.key(0)
# What these keep in a trace holds the values that they captured, by JAX's own design.
KEEPING = {"custom_jvp", "custom_vjp"}


@pytest.fixture(scope="module")
def kinds(pair):
    return pair("closures/kinds")


@pytest.fixture(scope="module")
def values(pair):
    return pair("closures/values")


@pytest.fixture(scope="module")
def modules(pair):
    return pair("closures/modules")


@pytest.mark.parametrize("kind", plain_kinds.KINDS)
def test_kinds_of_values_that_hold_others(kinds, kind):
    def run(m):
        def loss(x, w):
            y = m.by_forward(kind, x, w)
            # JAX takes no custom rule of its own around what it differentiates
            z = 0 if kind in KEEPING else m.by_primal(kind, x, w)
            return (y**2 + z**2).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))

    def backward(x, w):
        return jax.grad(lambda x: (kinds.lifted.by_backward(kind, x, w) ** 2).sum())(x)

    def expected(x, w):
        y, pullback = jax.vjp(lambda x: jnp.cos(x) * x, x)
        return pullback(kinds.plain.KINDS[kind](jnp.sin(w))(2 * y))[0]

    with contextlib.nullcontext() if kind in KEEPING else jax.checking_leaks():
        found, back = run(kinds.lifted)(X, W), jax.jit(backward)(X, W)
    assert_same(found, run(kinds.plain)(X, W), rtol=1e-5)
    assert_same(back, expected(X, W), rtol=1e-5)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_decorated_lifted_function(values, wrap):
    grad = lambda m: wrap(jax.grad(lambda x, w: m.decorated(x, w).sum(), (0, 1)))(X, W)  # noqa: E731
    assert_same(grad(values.lifted), grad(values.plain), rtol=1e-6)


@pytest.mark.parametrize("kind", ["cell", "local class", "struct with a function aside", "jit"])
def test_without_an_outer_trace(kinds, kind):
    assert_same(kinds.lifted.by_primal(kind, X, W), kinds.plain.by_primal(kind, X, W))
    grad = lambda m: jax.grad(lambda x, w: m.by_primal(kind, x, w).sum(), (0, 1))(X, W)  # noqa: E731
    assert_same(grad(kinds.lifted), grad(kinds.plain), rtol=1e-5)


def test_generated_modules_without_named_captures(kinds, tmp_path):
    """What was generated before captured values were named works as it did."""
    text = re.sub(r",\s+captured=\{.*?\}", "", kinds.text.decode(), flags=re.DOTALL)
    assert "captured=" in kinds.text.decode()
    assert "captured=" not in text
    path = tmp_path / "older.py"
    path.write_text(text)
    older = load(path, "vjpgen_older")
    run = lambda m: jax.jit(jax.grad(lambda x: m.by_backward("cell", x, W).sum()))(X)  # noqa: E731
    assert_same(run(older), run(kinds.lifted))


def test_values_that_python_uses(values):
    """Numbers, strings, NumPy arrays and arrays that are not traced: a rule may branch on them."""
    table, flag = np.arange(3.0, dtype=np.float32), jnp.array(True)

    def run(m, mode):
        return jax.jit(jax.grad(lambda x: m.python_values(x, 2, True, mode, table, flag).sum()))(X)

    assert_same(run(values.lifted, "double"), 4 * run(values.plain, "single"), rtol=1e-6)
    call = jax.jit(lambda m: m.python_values(X, 3, False, "", table, flag), static_argnums=0)
    assert_same(call(values.lifted), call(values.plain))


@pytest.mark.parametrize("key", [jax.random.key(3), jax.random.PRNGKey(3)], ids=["typed", "old"])
def test_keys(values, key):
    def run(m):
        grad = jax.grad(lambda x, key: m.keys(x, key).sum())
        return jax.jit(grad)(X, key), jax.vmap(grad, (None, 0))(X, jax.random.split(key, 2))

    assert_same(run(values.lifted), run(values.plain))


def test_a_variable_is_read_at_the_call(values):
    def run(m):
        return jax.jit(jax.grad(lambda x, w: m.late(x, [w, 3 * w]).sum(), (0, 1)))(X, W)

    x_t, w_t = run(values.plain)
    scales = jnp.stack([2 * W, 6 * W])
    assert_same(run(values.lifted), (jnp.full(3, (scales**2).sum()), w_t), rtol=1e-5)
    assert_same(x_t, jnp.full(3, scales.sum()), rtol=1e-5)


def test_policies(values):
    """Section 4: a captured value has no slot, so its gradient is dropped, or autodiff's."""

    def grad(f, wrap=lambda f: f):
        return wrap(jax.grad(lambda x, w: f(x, w).sum(), (0, 1)))(X, W)

    expected = grad(values.plain.erring)
    dropped = (expected[0], jnp.float32(0))
    for wrap in (lambda f: f, jax.jit):
        with pytest.warns(vjpgen.DroppedTangentWarning) as caught:
            found = grad(values.lifted.strict, wrap)
        assert "captured value 'params.gain', captured value 'params.bias[0]'" in str(
            caught[0].message
        )
        assert_same(found, dropped, rtol=1e-6)
        assert_same(grad(values.lifted.zeroed, wrap), dropped, rtol=1e-6)
        with pytest.raises(vjpgen.TangentError, match=r"erring.*captured value 'gain'"):
            grad(values.lifted.erring, wrap)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.grad(lambda x: values.lifted.strict(x, W).sum())(X)
        jax.jit(jax.grad(lambda x, w: values.lifted.strict(x, w).sum()))(X, W)


def by_hand(x, w):
    """`values.filled`, lifted by hand: every value is an argument."""

    def primal(x, gain, offset, w):
        return jnp.tanh(x * gain + offset * w)

    def forward(*operands):
        y, pullback = jax.vjp(primal, *operands)
        return y, (pullback, *operands[1:3])

    def backward(residuals, y_t):
        pullback, gain, offset = residuals
        return (pullback(y_t * gain * offset)[0], *pullback(y_t)[1:])

    f = jax.custom_vjp(primal)
    f.defvjp(forward, backward)
    gain = jnp.sin(w)
    return f(x, gain, jnp.cos(w) * gain, w)


@pytest.mark.parametrize("wrap", ["jit", "vmap", "scan", "checkpoint"])
def test_against_a_rule_lifted_by_hand(values, wrap):
    def run(f):
        def loss(x, w):
            if wrap == "vmap":
                return jax.vmap(lambda x, w: (f(x, w) ** 2).sum())(
                    x, jnp.stack([w, 2 * w, w])
                ).sum()
            if wrap == "scan":
                return jax.lax.scan(lambda c, w: (f(c, w), c.sum()), x, w * jnp.arange(1.0, 3))[
                    0
                ].sum()
            inner = jax.checkpoint(f) if wrap == "checkpoint" else f
            return (inner(x, w) ** 2).sum()

        with jax.checking_leaks():
            return jax.jit(jax.value_and_grad(loss, (0, 1)))(X, W)

    assert_same(run(values.lifted.filled), run(by_hand), rtol=1e-5)


def test_tracers_of_transforms_around_the_rule(values):
    """Captured by `bwd` alone: of jit, scan, vmap, grad, each inside another."""
    f = values.lifted.clipped
    limits = jnp.array([0.1, 0.2])
    wanted = 3 * limits[:, None] * jnp.ones(3)

    def one(limit):
        return jax.grad(lambda x: f(x, limit).sum())(X)

    with jax.checking_leaks():
        assert_same(jax.jit(jax.vmap(one))(limits), wanted, rtol=1e-6)
        assert_same(jax.vmap(jax.jit(one))(limits), wanted, rtol=1e-6)
        assert_same(jax.lax.scan(lambda c, limit: (c, one(limit)), 0, limits)[1], wanted, rtol=1e-6)
        assert_same(jax.lax.map(one, limits), wanted, rtol=1e-6)
        # the limit is differentiated: by the gradient of the gradient
        second = jax.jit(jax.grad(lambda limit: one(limit).sum()))(limits[0])
    assert_same(second, jnp.float32(9.0), rtol=1e-6)


def test_callables_that_cannot_be_opened(values):
    """The compiler has named what they capture: it is exchanged where it stands."""

    def grad(f):
        return jax.jit(jax.grad(lambda x, w: (f(x, w) ** 2).sum(), (0, 1)))(X, W)

    for name in ("hidden_primal", "nested_rules"):
        assert_same(
            grad(getattr(values.lifted, name)), grad(getattr(values.plain, name)), rtol=1e-5
        )
    gain = jnp.sin(W)
    x_t, w_t = grad(values.lifted.hidden)
    plain = grad(values.plain.hidden)
    assert_same((x_t, w_t), (plain[0] * gain**2, plain[1]), rtol=1e-5)


def test_what_was_exchanged_is_put_back(values):
    gain = {}

    class Hiding(values.lifted.Hiding):
        def __call__(self, *args):
            gain["seen"] = super().__call__(*args)
            raise RuntimeError("inside")

    @jax.jit
    def step(x, w):
        scale = jnp.sin(w)
        hidden = Hiding(lambda z: z * scale)
        # with no generated code there is nobody to name `scale`; the class alone is exchanged
        f = vjpgen.custom_vjp(lambda x: hidden(x) * scale, lambda x: (x, None), lambda _, t: (t,))
        with pytest.raises(RuntimeError, match="inside"):
            f(x)
        return x * scale

    assert_same(step(X, W), X * jnp.sin(W), rtol=1e-6)
    assert gain


def test_nonlocal_writes_that_would_be_lost():
    """A function with a value of a trace is copied; its write would stay in the copy."""

    def make(write):
        last = jnp.sin(write)

        def f(x):
            nonlocal last
            last = x * last
            return last

        g = vjpgen.custom_vjp(f, lambda x: (f(x), None), lambda _, t: (t,))
        return g, lambda: last

    with pytest.raises(TypeError, match=r"make\.<locals>\.f binds 'last' .*would be lost"):
        jax.jit(lambda w: make(w)[0](X))(W)
    g, last = make(W)  # not traced: the very variable is written
    assert_same(g(X), last())


def test_nonlocal_writes_to_other_variables():
    def make(scale):
        calls = 0

        def f(x):
            nonlocal calls
            calls += 1
            return x * scale

        return vjpgen.custom_vjp(f, lambda x: (f(x), None), lambda _, t: (t,)), lambda: calls

    counted = []

    @jax.jit
    def step(scale):
        f, calls = make(scale)
        y = f(X)
        counted.append(calls())
        return y

    assert_same(step(W), X * W)
    assert counted == [1]


def test_lists_without_traced_values_are_the_very_same():
    """What a rule appends to a captured list stays there."""
    seen: list[str] = []

    def f(x):
        seen.append("primal")
        return x * W

    jax.jit(vjpgen.custom_vjp(f, lambda x: (f(x), None), lambda _, t: (t,)))(X)
    assert seen == ["primal"]


def test_deep_object_graphs():
    """A chain of a few thousand objects is followed without recursion."""

    class Link:
        def __init__(self, before):
            self.before = before

    chain = None
    for _ in range(5000):
        chain = Link(chain)

    @jax.jit
    def step(w):
        return vjpgen.custom_vjp(
            lambda x: x * w if chain else x, lambda x: (x, None), lambda _, t: (t,)
        )(X)

    assert_same(step(W), X * W)


def test_two_threads(kinds):
    """Classes made in functions belong to one call each: threads do not meet."""
    found = {}

    def run(number):
        loss = jax.jit(lambda x, w: kinds.lifted.by_primal("local class", x, w).sum())
        found[number] = jax.grad(loss)(X, jnp.float32(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (1, 2):
        scale = kinds.plain.KINDS["cell"](jnp.sin(jnp.float32(number)))(1.0)
        assert_same(found[number], jnp.full(3, 3 * scale), rtol=1e-5)


M = jax.random.normal(jax.random.key(1), (4, 3))


def with_updates(module, variables):
    state = {name: tree for name, tree in variables.items() if name == "stats"}

    def loss(params, x):
        y, updates = module.apply(
            {"params": params, **state}, x, mutable=["stats", "intermediates"]
        )
        return (y**2).sum() + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates)), updates

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables["params"], M)


MODULES = {
    **{way: lambda m, way=way: m.Capturing(way) for way in plain_modules.WAYS},
    "a field that is a function": lambda m: m.Outer(),
    "a class made in a method": lambda m: m.LocalClass(),
}


@pytest.mark.parametrize("way", MODULES)
def test_captured_modules(modules, way):
    plain, lifted = MODULES[way](modules.plain), MODULES[way](modules.lifted)
    variables = plain.init(KEY, M)
    assert_same(lifted.init(KEY, M), variables)
    with jax.checking_leaks():
        found = with_updates(lifted, {"params": {}, **variables})
    assert_same(found, with_updates(plain, {"params": {}, **variables}), rtol=1e-5)


def test_a_module_that_a_forward_rule_captures(modules):
    module = modules.lifted.ByForward()
    variables = module.init(KEY, M)
    y = modules.plain.ByForward().apply(variables, M)
    params = variables["params"]
    gate = M @ params["gate"]["kernel"] + params["gate"]["bias"]
    found = jax.jit(jax.grad(lambda x: (module.apply(variables, x) ** 2).sum()))(M)
    assert_same(found, (2 * y * jnp.sign(gate)) @ params["inner"]["kernel"].T, rtol=1e-5)


def test_a_module_that_is_captured_for_its_fields_is_not_lifted(modules):
    module = modules.lifted.FieldsOnly()
    variables = module.init(KEY, M)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jaxpr = jax.make_jaxpr(lambda v: module.apply(v, M))(variables)
        found = jax.jit(jax.grad(lambda v: module.apply(v, M).sum()))(variables)
    (call,) = [eqn for eqn in jaxpr.eqns if "custom_vjp" in eqn.primitive.name]
    assert len(call.invars) == 2
    assert_same(found["params"]["kernel"], 3 * 0.5 * M.sum(0)[:, None] * jnp.ones(3), rtol=1e-6)


def test_a_module_that_a_backward_rule_has_captured_is_read_only_there(modules):
    module = modules.lifted.Hidden()
    variables = module.init(KEY, M)
    layer = variables["params"]["Dense_0"]
    found = jax.jit(jax.grad(lambda v: module.apply(v, M).sum()))(variables)
    y_t = 2 * (jnp.ones(3) @ layer["kernel"] + layer["bias"]) * jnp.ones((len(M), 1))
    assert_same(found["params"]["Dense_0"], {"bias": y_t.sum(0), "kernel": M.T @ y_t}, rtol=1e-6)


@pytest.mark.parametrize("way", ["helper", "method", "getattr", "isinstance"])
def test_a_backward_rule_uses_a_module_around_it_without_its_variables(modules, way):
    gradients = []
    for custom_vjp in (nn.custom_vjp, vjpgen.custom_vjp):
        module = modules.plain.Helped(custom_vjp, way)
        variables = module.init(KEY, M)
        loss = jax.grad(lambda v, module=module: module.apply(v, M).sum())
        gradients.append((loss(variables), jax.jit(loss)(variables)))
    assert_same(*gradients)


def test_the_gradient_of_a_captured_module_is_not_dropped_silently(modules):
    module = modules.lifted.Dropped()
    variables = module.init(KEY, M)
    with pytest.warns(vjpgen.DroppedTangentWarning, match=r"params\.bias, .*params\.kernel"):
        found = jax.grad(lambda v: module.apply(v, M).sum())(variables)
    assert_same(found, jax.tree.map(jnp.zeros_like, variables))


def at_the_call(x):
    """The gradients of `sources/closures/rebound.py`, by hand."""
    cos, sin = jnp.cos(x), jnp.sin(x)
    return {
        # the later factor is differentiated, too: it stands outside of the rule
        "number": 2 * 2 * cos * 3 * x.sum() + 3 * (2 * sin).sum(),
        "array": 2 * 2 * cos * 3,
        "several": 2 * cos,
        "helper": 2 * 2 * cos,
        "unrolled": cos * (2 * sin + 1),
    }


WRAPS = {
    "eager": lambda f: jax.grad(f),
    "jit of grad": lambda f: jax.jit(jax.grad(f)),
    "grad of jit": lambda f: jax.grad(jax.jit(f)),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_variable_is_what_it_was_at_the_call(pair, wrap):
    x = jnp.array([0.3, 0.7])
    source = pair("closures/rebound").lifted
    found = {name: WRAPS[wrap](getattr(source, name))(x) for name in at_the_call(x)}
    assert_same(found, at_the_call(x), rtol=1e-6)


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_variable_of_a_module_is_what_it_was_at_the_call(pair, wrap):
    x = jnp.ones((1, 3))
    source = pair("closures/rebound")
    module = source.lifted.Layers()
    variables = module.init(jax.random.key(0), x)
    found = WRAPS[wrap](lambda v: module.apply(v, x).sum())(variables)["params"]
    plain = jax.grad(lambda v: source.plain.Layers().apply(v, x).sum())(variables)["params"]
    assert_same(found, jax.tree.map(lambda t: 4 * t, plain), rtol=1e-5)
