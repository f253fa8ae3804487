"""Functions and their arguments as pure functions of arrays."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjpgen import custom_vjp
from vjpgen.testing.examples import ExampleError, argument_sets, rule_of
from vjpgen.testing.subjects import Subject, bind


def values(subject: Subject) -> list[Any]:
    return [each.value for each in subject.inputs]


def named(subject: Subject) -> dict[str, bool]:
    return {each.name: each.differentiated for each in subject.inputs}


class Layer(nn.Module):
    features: int = 4

    @nn.compact
    def __call__(self, x, scale=1.0):
        return nn.Dense(self.features)(x) * scale


class Counting(nn.Module):
    """Updates one collection out of two, and draws."""

    @nn.compact
    def __call__(self, x):
        count = self.variable("counts", "calls", jnp.zeros, ())
        fixed = self.variable("fixed", "scale", jnp.ones, ())
        if self.is_mutable_collection("counts"):
            count.value = count.value + 1
        return x * fixed.value + jax.random.normal(self.make_rng("noise"), x.shape)


X = jnp.arange(6.0).reshape(2, 3)


def test_arguments_are_named_by_their_parameters_and_paths():
    def function(tree, n, *rest, flag=False):
        return tree["a"][0] * n + rest[0] + rest[1]

    arguments = ({"a": [X], "b": None}, 3, X, np.ones((2, 3)))
    subject = bind(function, arguments)
    assert named(subject) == {"tree.a.0": True, "rest[0]": True, "rest[1]": True}
    output, updates = subject.call([2 * X, X, X])
    np.testing.assert_array_equal(output, 8 * X)
    assert updates == {}


def test_integers_keys_and_nondiff_arguments_are_not_differentiated():
    def function(x, scale, count, key):
        return x * scale * count

    ruled = custom_vjp(function, function, lambda *_: (), nondiff_argnums=1)
    arguments = (X, X, jnp.ones((), int), jax.random.key(0))
    subject = bind(ruled, arguments, rule_of(ruled))
    assert named(subject) == {"x": True, "scale": False, "count": False, "key": False}


def test_python_floats_are_arrays_where_there_is_no_other():
    def function(x, n, y):
        return x * n * y

    assert named(bind(function, (2.0, 3, 4.0))) == {"x": True, "y": True}
    assert named(bind(function, (2.0, 3, X))) == {"y": True}


def test_a_module_is_initialized_with_the_key():
    key = jax.random.key(3)
    subject = bind(Layer.__call__, (Layer(), X), key=key)
    assert named(subject) == {
        "params.Dense_0.bias": True,
        "params.Dense_0.kernel": True,
        "x": True,
    }
    output, updates = subject.call(values(subject))
    np.testing.assert_array_equal(output, Layer().init_with_output(key, X)[0])
    assert updates == {}


def test_shapes_are_enough():
    x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    subject = bind(Layer.__call__, (Layer(), x), abstract=True)
    assert all(isinstance(each.value, jax.ShapeDtypeStruct) for each in subject.inputs)
    assert jax.eval_shape(subject.call, values(subject))[0].shape == (2, 4)


def test_collections_that_are_updated_are_mutable_and_keys_are_given_where_it_draws():
    subject = bind(Counting.__call__, (Counting(), X), grad_vars=("fixed",))
    assert named(subject) == {
        "counts.calls": False,
        "fixed.scale": True,
        "rngs.params": False,
        "x": True,
    }
    output, updates = subject.call(values(subject))
    assert output.shape == X.shape
    assert updates == {"counts": {"calls": 2.0}}  # one is of `init`


def test_a_bound_module_brings_its_variables_keys_and_mutable_collections():
    variables = {"counts": {"calls": jnp.full((), 7.0)}, "fixed": {"scale": jnp.ones(())}}
    rngs = {"noise": jax.random.key(1)}
    module = Counting().bind(variables, rngs=rngs, mutable=["counts"])
    subject = bind(Counting.__call__, (module, X))
    assert set(named(subject)) == {"counts.calls", "fixed.scale", "rngs.noise", "x"}
    output, updates = subject.call(values(subject))
    wanted, changed = Counting().apply(variables, X, rngs=rngs, mutable=["counts"])
    np.testing.assert_array_equal(output, wanted)
    assert updates == changed == {"counts": {"calls": 8.0}}


def test_modules_anywhere_among_the_arguments():
    def function(layers, x, last):
        return last(layers["a"](x) + layers["b"](x))

    subject = bind(function, ({"a": Layer(), "b": Layer()}, X, Layer(2)))
    assert sum(named(subject).values()) == 2 * 3 + 1
    assert subject.call(values(subject))[0].shape == (2, 2)
    found = {each.path: each.slot for each in subject.inputs}
    assert {path: slot for path, slot in found.items() if "kernel" in path} == {
        "layers.a.params.Dense_0.kernel": "layers",
        "layers.b.params.Dense_0.kernel": "layers",
        "last.params.Dense_0.kernel": "last",
    }


def test_modules_in_lists_and_alone_in_a_dict_are_told_apart():
    def function(layers, *others):
        return layers[0](X) + layers[1](X) + others[0](X)

    subject = bind(function, ([Layer(), Layer()], Layer()))
    paths = [each.path for each in subject.inputs if each.path.endswith("bias")]
    assert paths == [
        f"{owner}.params.Dense_0.bias" for owner in ("layers[0]", "layers[1]", "others[0]")
    ]
    alone = bind(lambda layers, x: layers["a"](x), ({"a": Layer()}, X))
    assert [(each.slot, each.path) for each in alone.inputs][:1] == [
        ("layers", "layers.a.params.Dense_0.bias")
    ]


def test_a_bound_module_stands_alone():
    module = Layer().bind(Layer().init(jax.random.key(0), X))
    with pytest.raises(ExampleError, match="bound module beside others"):
        bind(lambda a, b, x: b(a(x)), (module, Layer(), X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X,), r"do not fit `.*function\(x, y\)`: missing a required argument: 'y'"),
        ((X, X, X), "too many positional arguments"),
        ((1, 2), "nothing in the example can be differentiated"),
    ],
)
def test_arguments_that_are_of_no_use(arguments, message):
    def function(x, y):
        return x + y

    with pytest.raises(ExampleError, match=message):
        bind(function, arguments)


@pytest.mark.parametrize(
    ("example", "count"),
    [
        (lambda: (X, 1), 1),
        (lambda key: (jax.random.normal(key, (2,)),), 1),
        (lambda key=None: [(key,), (key,)], 2),
        (lambda n=4: (jnp.ones(n),), 1),
        (lambda n=4, *, rng: (jnp.ones(n) * jax.random.normal(rng),), 1),
        (lambda k, n=4: (jax.random.normal(k, (n,)),), 1),
    ],
)
def test_examples_give_sets_of_arguments(example, count):
    sets = argument_sets(example)
    assert len(sets) == count
    assert all(isinstance(each, tuple) and each[0] is not None for each in sets)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (X, "a value of type ArrayImpl; expected the positional arguments as a tuple"),
        ([], "an empty list"),
        ([(X,), X], "a list that holds a value of type ArrayImpl"),
    ],
)
def test_examples_that_give_something_else(returned, message):
    def example():
        return returned

    with pytest.raises(ExampleError, match=message):
        argument_sets(example)
