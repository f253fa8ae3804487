"""The tangent merge: right tangents come through as they are, wrong ones are named."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.custom_derivatives import SymbolicZero

import vjpgen
from tests.runtime.compare import assert_same
from vjpgen.runtime.tangents import Handle, Slot, Variables, merge, missing_error

RULE: Any = SimpleNamespace(title="Net.f (model.py:3)")
FLOAT0 = jax.dtypes.float0


class Point(NamedTuple):
    x: Any
    y: Any


class Box(flax.struct.PyTreeNode):
    inner: Any


# -- random trees --------------------------------------------------------------------------------


@dataclasses.dataclass
class Grown:
    """A random slot beside the tangent that fits it, and the path of each leaf as it is written."""

    expected: Any
    given: Any
    paths: dict[int, str]


DTYPES = st.sampled_from([np.float32, np.float16, np.complex64])
SHAPES = st.sampled_from([(), (1,), (2, 3), (0,), (4,)])
NAMES = st.lists(st.sampled_from("abcde"), min_size=1, max_size=3, unique=True)


def grow(draw, primals, path, depth, kinds) -> Grown:
    kind = draw(st.sampled_from(kinds)) if depth else "leaf"
    if kind == "leaf":
        # arrays of numpy: nothing is compiled
        array = np.full(draw(SHAPES), len(primals), draw(DTYPES))
        primals.append(jax.core.ShapedArray(array.shape, array.dtype))
        index = len(primals) - 1
        return Grown(Handle(index), array, {index: path})
    if kind == "dict":
        names = draw(NAMES)
        parts = {n: grow(draw, primals, f"{path}.{n}", depth - 1, kinds) for n in names}
        frozen = draw(st.booleans())
        inner = {n: part.given for n, part in parts.items()}
        tangent = nn.FrozenDict(inner) if frozen else inner
        return Grown(
            {n: part.expected for n, part in parts.items()}, tangent, _paths(parts.values())
        )
    fields = {"point": [".x", ".y"], "box": [".inner"]}
    ends = fields.get(kind) or [f"[{n}]" for n in range(draw(st.integers(1, 3)))]
    parts = [grow(draw, primals, path + end, depth - 1, kinds) for end in ends]
    make = {"tuple": lambda *a: a, "list": lambda *a: [*a], "point": Point, "box": Box}[kind]
    return Grown(make(*(p.expected for p in parts)), make(*(p.given for p in parts)), _paths(parts))


def _paths(parts):
    return {index: path for part in parts for index, path in part.paths.items()}


KINDS = ["leaf", "dict", "tuple", "list", "point", "box"]


@st.composite
def slots(draw):
    """A module's slot and one of an argument, with primals and tangents that fit."""
    primals: list[Any] = []
    params = grow(draw, primals, "mdl: params", 3, ["dict"])
    argument = grow(draw, primals, "x", 3, KINDS)
    expected = [Slot("mdl", Variables({"params": params.expected})), Slot("x", argument.expected)]
    given_ = ({"params": params.given}, argument.given)
    return expected, given_, primals, _paths([params, argument])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(slots())
def test_a_right_tangent_comes_through_as_it_is(case):
    expected, tangents, primals, paths = case
    merged = merge(RULE, expected, tangents, primals)
    assert not merged.missing
    assert set(merged.tangents) == set(paths) == set(range(len(primals)))
    for index, primal in enumerate(primals):
        found = merged.tangents[index]
        assert (found.shape, found.dtype) == (primal.shape, primal.dtype)
        assert np.all(np.asarray(found) == index)
    none = merge(RULE, expected, (None, None), primals)
    assert not none.missing
    assert none.tangents == dict.fromkeys(range(len(primals)))


def without(tree, array):
    """Drop the leaf `array` from the dict that holds it; None where none does."""
    if isinstance(tree, (dict, nn.FrozenDict)):
        kept = {k: v for k, v in tree.items() if v is not array}
        return {k: without(v, array) for k, v in kept.items()}
    return tree


MUTATIONS = {
    "shape": lambda a: np.zeros((*a.shape, 7), a.dtype),
    "dtype": lambda a: np.zeros(a.shape, np.int8),
    "tuple": lambda a: (a,),
    "dict": lambda a: {"q": a},
    "words": lambda a: "text",
    "number": lambda a: 1j if a.shape == () and a.dtype.kind == "f" else 1.5,
    "float0": lambda a: np.zeros((*a.shape, 7), FLOAT0),
    "symbolic": lambda a: SymbolicZero(jax.core.ShapedArray(a.shape, np.int16)),
}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(slots(), st.data())
def test_a_wrong_leaf_is_named(case, data):
    expected, tangents, primals, paths = case
    index = data.draw(st.sampled_from(sorted(paths)))
    kind = data.draw(st.sampled_from(sorted(MUTATIONS)))
    if kind == "number" and primals[index].shape == () and primals[index].dtype.kind == "c":
        kind = "shape"  # a number is a tangent of a complex scalar
    leaves = jax.tree.leaves(tangents)
    (target,) = [leaf for leaf in leaves if leaf is by_index(tangents, expected, index)]
    wrong = jax.tree.map(lambda leaf: MUTATIONS[kind](leaf) if leaf is target else leaf, tangents)
    with pytest.raises(vjpgen.TangentError) as caught:
        merge(RULE, expected, wrong, primals)
    text = str(caught.value)
    title, *lines = text.splitlines()
    assert "Net.f (model.py:3)" in title
    assert len(lines) == 1
    kind_of = f"{primals[index].dtype}[{','.join(map(str, primals[index].shape))}]"
    assert lines[0].startswith(f"  {paths[index]}: expected {kind_of}, not ")
    assert "PyTreeDef" not in text


def by_index(tangents, expected, index):
    """The tangent's leaf that stands where the handle of `index` does."""
    flat = []

    def walk(handle, tangent):
        if isinstance(handle, Handle):
            flat.append((handle.operand, tangent))
        elif isinstance(handle, Variables):
            walk(handle.collections, tangent)
        elif isinstance(handle, dict):
            for key, part in handle.items():
                walk(part, tangent[key])
        elif isinstance(handle, Box):
            walk(handle.inner, tangent.inner)
        else:
            for part, below in zip(handle, tangent, strict=True):
                walk(part, below)

    for slot, tangent in zip(expected, tangents, strict=True):
        walk(slot.expected, tangent)
    return dict(flat)[index]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(slots(), st.data())
def test_a_leaf_that_lacks_or_is_unknown_is_named(case, data):
    expected, tangents, primals, paths = case
    inside = [index for index, path in paths.items() if path.startswith("mdl: ")]
    index = data.draw(st.sampled_from(inside))
    target = by_index(tangents, expected, index)
    merged = merge(RULE, expected, (without(tangents[0], target), tangents[1]), primals)
    assert merged.missing == {index: paths[index]}
    text = str(missing_error(RULE, merged.missing, primals))
    assert f"\n  {paths[index]}: expected " in text
    assert "but it is missing" in text
    more = {"params": {**tangents[0]["params"], "zz": np.ones(2)}, "extra": np.ones(3)}
    with pytest.raises(vjpgen.TangentError) as caught:
        merge(RULE, expected, (more, tangents[1]), primals)
    assert "mdl: params.zz: unknown; expected " in str(caught.value)
    assert "mdl: extra: unknown; expected params" in str(caught.value)


# -- through a call ------------------------------------------------------------------------------


def rule_with(function, bwd, **options):
    return vjpgen.custom_vjp(function, lambda *a, **k: (function(*a, **k), None), bwd, **options)


def total(tree):
    return sum(leaf.sum() for leaf in jax.tree.leaves(tree))


X = jnp.arange(3.0)
POINT = Point(X, {"deep": [X, X]})
GOOD = Point(7 * X, {"deep": [8 * X, None]})
ARGUMENTS = {
    "named tuple": (Point(X, X), (X, X), "x: expected a Point of 2, not a tuple of 2"),
    "dataclass": (Box(X), {"inner": X}, "x: expected a Box, not a dict with inner"),
    "list": ([X, X], (X, X), "x: expected a list of 2, not a tuple of 2"),
    "length": ([X, X], [X], "x: expected a list of 2, not a list of 1"),
    "deep": (
        POINT,
        Point(X, {"deep": [X, X[:2]]}),
        "x.y.deep[1]: expected float32[3], not float32[2]",
    ),
    "key": (POINT, Point(X, {"sheep": [X, X]}), "x.y.sheep: unknown; expected deep"),
    "none inside": (Point(X, None), Point(X, X), "x.y: expected a NoneType, not float32[3]"),
    "zero size": (X[:0], X[:0].astype(jnp.bfloat16), "x: expected float32[0], not bfloat16[0]"),
    "scalar": (X[0], X[:1], "x: expected float32[], not float32[1]"),
    "float0": (X, np.zeros(2, FLOAT0), "x: expected float32[3], not float0[2]"),
    "numpy": (X, np.zeros(3, np.float16), "x: expected float32[3], not float16[3]"),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_arguments_of_every_kind(kind):
    x, wrong, message = ARGUMENTS[kind]

    def f(x):
        return jnp.float32(total(x))

    def grad(tangent):
        return jax.eval_shape(jax.grad(rule_with(f, lambda _, t: (tangent,))), x)

    with pytest.raises(vjpgen.TangentError) as caught:
        grad(wrong)
    assert message in str(caught.value)
    assert "PyTreeDef" not in str(caught.value)
    assert "test_merge.py:" in str(caught.value)
    assert jax.tree.structure(grad(x)) == jax.tree.structure(x)
    assert jax.tree.structure(grad(None)) == jax.tree.structure(x)


def test_values_come_to_their_places():
    def f(x, *args, scale, **kwargs):
        return total((x, args, kwargs)) * scale

    def bwd(_, t):
        return GOOD, X, None, np.float32(5.0), {"b": 2 * X}

    run = rule_with(f, bwd)
    derive = lambda x, a, b, scale, k: run(x, a, b, scale=scale, **k)  # noqa: E731
    args = (POINT, X, X, jnp.float32(1.0), {"b": X})
    for wrap in (lambda f: f, jax.jit):
        found = jax.grad(wrap(derive), tuple(range(5)))(*args)
        zeros = jnp.zeros(3)
        expected = (Point(7 * X, {"deep": [8 * X, zeros]}), X, zeros, jnp.float32(5), {"b": 2 * X})
        assert_same(found, expected)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    for wrong, message in (
        ((GOOD, X, None, None, {}), "kwargs.b: expected float32[3], but it is missing"),
        ((GOOD, X, X[0], None, None), "args[1]: expected float32[3], not float32[]"),
        ((GOOD, X), "tuple of 5 tangents, one for each of: x, args[0], args[1], scale, kwargs"),
        (None, "it returned None"),
    ):
        bad = rule_with(f, lambda _, t, wrong=wrong: wrong)
        with pytest.raises(vjpgen.TangentError) as caught:
            jax.eval_shape(
                jax.grad(lambda x, a, b, scale, k, bad=bad: bad(x, a, b, scale=scale, **k)), *args
            )
        assert message in str(caught.value)


WEAK, STRONG = jnp.asarray(3.0), jnp.float32(3.0)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("tangent", [WEAK, STRONG, 3.0, 3, np.float32(3.0)], ids=repr)
def test_weak_types(wrap, tangent):
    """By dtype alone a tangent fits; of a strong primal it is strong."""
    assert (WEAK.weak_type, STRONG.weak_type) == (True, False)
    run = wrap(rule_with(jnp.sin, lambda _, t: (tangent,)))
    for primal in (WEAK, STRONG, 2.0):
        found = jax.grad(run)(primal)
        assert isinstance(found, jax.Array)
        assert found.dtype == jnp.float32
        assert found == 3
    assert not jax.grad(run)(STRONG).weak_type
    bad = rule_with(jnp.sin, lambda _, t: (STRONG,))
    with pytest.raises(vjpgen.TangentError, match=r"x: expected bfloat16\[\], not float32\[\]"):
        jax.eval_shape(jax.grad(bad), jnp.bfloat16(1.0))


def test_integers_keys_and_zeros():
    def f(x, i, key):
        return x[i] + 0.0 * jax.random.normal(key, ())

    args = (X, jnp.int32(1), jax.random.key(0))
    for nothing in (None, np.zeros((), FLOAT0)):
        run = rule_with(f, lambda _, t, n=nothing: (X * t, n, n))
        assert_same(jax.grad(run)(*args), X)
    wrong = rule_with(f, lambda _, t: (X, t, None))
    with pytest.raises(
        vjpgen.TangentError,
        match=r"i: expected None or float0 for a primal of int32\[\], not float",
    ):
        jax.eval_shape(jax.grad(wrong), *args)

    def symbolic(x, y):
        return x * 1.0, y * 1.0

    run = vjpgen.custom_vjp(
        symbolic,
        lambda x, y: (symbolic(x.value, y.value), None),
        lambda _, t: (t[1], t[0]),  # each its other's: zero for x where only x is used
        symbolic_zeros=True,
    )
    assert_same(jax.grad(lambda x: run(x, X)[0].sum())(X), jnp.zeros(3))
    wrong = lambda x: run(x, X[:2])[0].sum()  # noqa: E731
    with pytest.raises(vjpgen.TangentError, match=r"x: expected float32\[3\], not float32\[2\]"):
        jax.eval_shape(jax.grad(wrong), X)


class Boxed(nn.Module):
    given: str

    @nn.compact
    def __call__(self, x):
        def f(mdl, x):
            init = nn.with_partitioning(nn.initializers.ones, (None,))
            return x * mdl.param("kernel", init, (3,))

        def fwd(mdl, x):
            return nn.vjp(f, mdl, x)

        def bwd(vjp_fn, t):
            _, x_t = vjp_fn(t)
            kernel = jnp.arange(3.0)
            boxed = nn.Partitioned(kernel, (None,))
            tangent = {
                "boxed": boxed,
                "unboxed": kernel,
                "frozen": boxed,
                "shape": kernel[:2],
                "inside": nn.Partitioned(kernel[:2], (None,)),
                "none": None,
            }[self.given]
            tree = {"params": {"kernel": tangent}}
            return (nn.FrozenDict(tree) if self.given == "frozen" else tree), x_t

        return vjpgen.custom_vjp(f, fwd, bwd)(self, x)


def test_boxed_parameters():
    variables = Boxed("boxed").init(jax.random.key(0), X)
    grad = lambda given: jax.grad(lambda v: Boxed(given).apply(v, X).sum())(variables)  # noqa: E731
    for given_ in ("boxed", "unboxed", "frozen", "none"):
        found = grad(given_)
        assert jax.tree.structure(found) == jax.tree.structure(variables)
        expected = jnp.zeros(3) if given_ == "none" else jnp.arange(3.0)
        assert_same(jax.tree.leaves(found), [expected])
    for given_ in ("shape", "inside"):
        with pytest.raises(vjpgen.TangentError) as caught:
            grad(given_)
        assert "mdl: params.kernel" in str(caught.value)
        assert "expected float32[3], not float32[2]" in str(caught.value)


def test_every_offending_leaf_is_named_at_once():
    def f(tree):
        return total(tree)

    tree = dict.fromkeys("abc", X)
    run = rule_with(f, lambda _, t: ({"a": X[:1], "b": X, "c": X.astype(jnp.float16), "d": X},))
    with pytest.raises(vjpgen.TangentError) as caught:
        jax.eval_shape(jax.grad(run), tree)
    assert str(caught.value).splitlines()[1:] == [
        "  tree.d: unknown; expected a, b, c",
        "  tree.a: expected float32[3], not float32[1]",
        "  tree.c: expected float32[3], not float16[3]",
    ]
