"""Arguments made from the annotations of jaxtyping."""

# ruff: noqa: F722, F821, UP037

from __future__ import annotations

from types import ModuleType
from typing import Annotated, Any, Optional, Union

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import (
    Array,
    BFloat16,
    Bool,
    Complex,
    Float,
    Float64,
    Int,
    Int4,
    Int8,
    Key,
    Num,
    PRNGKeyArray,
    Shaped,
    UInt32,
)

from vjpgen import custom_vjp
from vjpgen.testing.examples import ExampleError, NoExampleError, argument_sets
from vjpgen.testing.finding import find_rule
from vjpgen.testing.shapes import arguments_from_annotations
from vjpgen.testing.subjects import bind


def described(arguments: tuple[Any, ...]) -> list[str]:
    return [
        f"{x.dtype}[{','.join(map(str, x.shape))}]" if hasattr(x, "dtype") else repr(x)
        for x in arguments
    ]


def test_a_name_has_one_size_and_no_two_names_the_same():
    def f(x: Float[Array, "batch dim"], kernel: Float[Array, "dim out"], bias: Float[Array, "out"]):
        return x @ kernel + bias

    x, kernel, bias = arguments_from_annotations(f)
    assert f(x, kernel, bias).shape == (x.shape[0], bias.shape[0])
    assert len({*x.shape, *kernel.shape}) == 3


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Float[Array, ""], "float32[]"),
        (Float[Array, "7 b"], "float32[7,3]"),
        (Float[Array, "rows=7 cols=2"], "float32[7,2]"),
        (Float[Array, "b 3"], "float32[4,3]"),
        (Float[Array, "b b"], "float32[3,3]"),
        (Float[Array, "b _ _other"], "float32[3,3,3]"),
        (Float[Array, "*batch d"], "float32[2,3]"),
        (Float[Array, "... d"], "float32[2,3]"),
        (Float[Array, "*#batch #d"], "float32[2,3]"),
        (Float[Array, "d d+1 2*d"], "float32[3,4,6]"),
        (Int[Array, "b"], "int32[3]"),
        (Int8[Array, "b"], "int8[3]"),
        (UInt32[Array, "2"], "uint32[2]"),
        (Bool[Array, "b"], "bool[3]"),
        (Complex[Array, "b"], "complex64[3]"),
        (BFloat16[Array, "b"], "bfloat16[3]"),
        (Float64[Array, "b"], "float32[3]"),
        (Int4[Array, "b"], "int4[3]"),
        (Num[Array, "b"], "float32[3]"),
        (Shaped[Array, "b"], "float32[3]"),
        (Key[Array, ""], "key<fry>[]"),
        (Key[Array, "b"], "key<fry>[3]"),
        (PRNGKeyArray, "key<fry>[]"),
        (Float[np.ndarray, "b"], "float32[3]"),
        (Float[Array | np.ndarray, "b"], "float32[3]"),
        (Float[Array, "b"] | None, "float32[3]"),
        (Optional[Float[Array, "b"]], "float32[3]"),  # noqa: UP045
        (Union[None, Int[Array, "b"], Float[Array, ""]], "int32[3]"),  # noqa: UP007
        (Annotated[Float[Array, "b"], "a note"], "float32[3]"),
        (Float[Float[Array, "b"], "a"], "float32[3,4]"),
    ],
)
def test_an_array_is_what_its_type_says(kind, text):
    def f(x):
        return x

    f.__annotations__ = {"x": kind}
    assert described(arguments_from_annotations(f)) == [text]


def test_fixed_sizes_are_not_given_to_names():
    def f(x: Float[Array, "a b 3 4 5"]):
        return x

    (x,) = arguments_from_annotations(f)
    assert x.shape == (2, 6, 3, 4, 5)


def test_integers_are_places_in_every_dimension():
    def f(x: Float[Array, "batch classes"], labels: Int[Array, "batch"]):
        return x[jnp.arange(len(x)), labels]

    for seed in range(5):
        x, labels = arguments_from_annotations(f, key=jax.random.key(seed))
        assert set(labels.tolist()) <= {0, 1}
        assert jnp.isfinite(f(x, labels)).all()


def test_other_parameters_keep_their_defaults():
    def f(x: Float[Array, "b"], n: int = 2, y: Float[Array, "b"] | None = None, *, flag=True):
        return x

    assert described(arguments_from_annotations(f)) == ["float32[3]", "2", "float32[3]"]


def test_variadic_parameters():
    def f(*xs: Float[Array, "b"], **options):
        return sum(xs)

    def g(x: Float[Array, "b"], *rest):
        return x

    assert described(arguments_from_annotations(f)) == ["float32[3]", "float32[3]"]
    assert described(arguments_from_annotations(g)) == ["float32[3]"]


def test_the_key_decides():
    def f(x: Float[Array, "b"], y: Float[Array, "b"]):
        return x

    one, again, other = (
        arguments_from_annotations(f, key=jax.random.key(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(*one)


def test_a_function_without_such_annotations_has_none():
    def f(x, y: int, z: Array | None = None):
        return x

    assert arguments_from_annotations(f) is None


def test_annotations_that_only_a_type_checker_can_evaluate_do_not_matter():
    def f(x: Float[Array, "b"], mode: Unknown = 1) -> Unknown:
        return x

    assert described(arguments_from_annotations(f)) == ["float32[3]", "1"]


# -- modules ---------------------------------------------------------------------------------------


class Layer(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "batch {self.features}"]) -> Float[Array, "batch out"]:
        return nn.Dense(2)(x)


class Sized(nn.Module):
    features: int
    rate: float

    def __call__(self, x: Float[Array, "b"]):
        return x


def test_a_module_is_made_with_the_defaults_of_its_fields():
    module, x = arguments_from_annotations(Layer.__call__, Layer)
    assert module == Layer()
    assert module.scope is None
    assert x.shape == (4, 3) or x.shape == (3, 3)
    assert len(bind(Layer.__call__, (module, x)).inputs) == 3


def test_a_module_among_the_arguments_is_made_too():
    def f(layer: Layer, x: Float[Array, "b 3"]):
        return layer(x)

    module, x = arguments_from_annotations(f)
    assert (module, x.shape) == (Layer(), (4, 3))


# -- reasons ---------------------------------------------------------------------------------------


def no_default(x: Float[Array, "b"], bits: int):
    return x


def no_annotation(x: Float[Array, "b"], y):
    return x


def no_shape(x: Float[Array, "b"], y: Array):
    return x


def keyword(x: Float[Array, "b"], *, bits: int):
    return x


def unknown(x: Float[Array, "b c-d"]):
    return x


def negative(x: Float[Array, "b b-9"]):
    return x


def unevaluated(x: Float[Array, "b"], y: Float[Missing, "b"]):
    return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_default, "`bits` has no default and its annotation, `int`, gives no shape"),
        (no_annotation, "`y` has no default and no annotation"),
        (no_shape, "`y` has no default and its annotation, `.*Array`, gives no shape"),
        (keyword, "`bits` is a keyword-only argument without a default"),
        (unknown, "the dimension `c-d` of `x` cannot be worked out: name 'c' is not defined"),
        (negative, "the dimension `b-9` of `x` would be -6"),
        (unevaluated, "`y` has no default and its annotation, `Float\\[Missing, .*`, cannot"),
    ],
)
def test_the_reason_is_clear(function, said):
    with pytest.raises(ExampleError, match=said):
        arguments_from_annotations(function)


def test_a_module_without_defaults_says_which():
    with pytest.raises(ExampleError, match="`Sized` cannot be made: `features`, `rate` have no"):
        arguments_from_annotations(Sized.__call__, Sized)


def test_a_method_of_no_module_says_so():
    class Other:
        def f(self, x: Float[Array, "b"]):
            return x

    with pytest.raises(ExampleError, match="Other` is no Linen module"):
        arguments_from_annotations(Other.f, Other)


# -- as an example ---------------------------------------------------------------------------------


def module_of(**functions: Any) -> ModuleType:
    made = ModuleType("made")
    vars(made).update(functions)
    return made


def ruled(function: Any) -> Any:
    return custom_vjp(function, lambda *a: (function(*a), a), lambda r, t: r)


def test_a_rule_without_an_example_is_called_on_them():
    def f(x: Float[Array, "b"], y: Float[Array, "b"]):
        return x * y

    found = find_rule(module_of(f=ruled(f)), "f", {})
    assert found.made_up
    assert "annotations" in found.given
    ((x, y),) = argument_sets(found.example)
    assert x.shape == y.shape == (3,)
    ((other, _),) = argument_sets(found.example, jax.random.key(1))
    assert not np.array_equal(x, other)


def test_methods_and_static_methods():
    class Net(nn.Module):
        def __call__(self, x: Float[Array, "b"]):
            return x

        @staticmethod
        def scaled(x: Float[Array, "b"], y: Float[Array, ""]):
            return x * y

    Net.__call__ = custom_vjp(Net.__call__, lambda m, x: (x, None), lambda r, t: ({}, t))
    Net.scaled = staticmethod(ruled(Net.scaled))
    module = module_of(Net=Net)
    ((net, x),) = argument_sets(find_rule(module, "Net.__call__", {}).example)
    assert net == Net()
    ((x, y),) = argument_sets(find_rule(module, "Net.scaled", {}).example)
    assert (x.shape, y.shape) == ((3,), ())


def test_a_nested_rule_has_those_of_the_function_around_it():
    def outer(x: Float[Array, "b"]):
        return x

    found = find_rule(module_of(outer=outer), "outer.<locals>.f", {})
    assert [x.shape for x in argument_sets(found.example)[0]] == [(3,)]


def test_what_is_missing_is_said_with_what_to_write():
    with pytest.raises(NoExampleError) as raised:
        find_rule(module_of(f=ruled(no_default)), "f", {})
    assert str(raised.value).startswith(
        "the rule of `f` has no example, and none can be made from annotations: `bits` has no "
    )
    assert "example=that_function" in str(raised.value)

    def plain(x):
        return x

    with pytest.raises(NoExampleError, match="has no example: write a function"):
        find_rule(module_of(f=ruled(plain)), "f", {})
