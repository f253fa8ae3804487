"""Arrays of every kind: precisions, complex numbers, integers, keys, weak types, no elements.

Beside plain autodiff and a `jax.custom_vjp` lifted by hand, with weak types, bit for bit.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import fp8_ops

import vjpgen
from tests.runtime.compare import assert_same

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 3))
f32 = jnp.float32


@pytest.fixture(scope="module")
def kinds(pair):
    return pair("kinds")


def hand(function, *args):
    lifted = jax.custom_vjp(function)
    lifted.defvjp(lambda *a: (function(*a), a), lambda a, y_t: jax.vjp(function, *a)[1](y_t))
    return lifted(*args)


def same(actual, expected, rtol=0.0):
    """Equal bit for bit (within `rtol` where XLA compiles them apart), weak types too."""
    assert_same(actual, expected, rtol)
    weak = lambda x: getattr(x, "weak_type", False)  # noqa: E731
    assert jax.tree.map(weak, actual) == jax.tree.map(weak, expected)


def product(x, y):
    return x * y


CASES = {
    "bf16 f32": (product, (jnp.bfloat16([1.5, 2.5]), f32([3, 0.3]))),
    "bf16 f16": (product, (jnp.bfloat16([1.5, 2.5]), jnp.float16([3, 0.3]))),
    "weak bf16": (product, (jnp.asarray(1.5), jnp.bfloat16([3, 0.3]))),
    "weak weak": (product, (jnp.asarray(1.5), jnp.asarray(0.3))),
    "complex f32": (product, (jnp.complex64([1.5 + 1j, 2.5]), f32([3, 0.3]))),
    "conjugate": (lambda z: jnp.conj(z) * z + z**3, (jnp.complex64([1.5 + 1j, 2.5]),)),
    "complex to real": (lambda z: z.real**2 + z.imag, (jnp.complex64([1.5 + 1j]),)),
    "real to complex": (lambda x: jnp.exp(1j * x), (f32([1.5, 2.5]),)),
    "indices": (lambda x, i: x[i], (f32([1.5, 2.5]), jnp.array([0, 1, 1]))),
    "int8": (product, (f32([1.5, 2.5]), jnp.array([3, -4], jnp.int8))),
    "int4": (lambda x, i: x * i.astype(x.dtype), (f32([1.5]), jnp.array([3], jnp.int4))),
    "uint4 out": (lambda x, i: (2 * x, i), (f32([1.5]), jnp.array([3], jnp.uint4))),
    "uint8 out": (lambda x, i: (2 * x, i + 1), (f32([1.5]), jnp.array([3], jnp.uint8))),
    "mask": (lambda x, m: (jnp.where(m, x, 0), ~m), (f32([1.5, 2]), jnp.array([True, False]))),
    "numpy mask": (lambda x, m: jnp.where(m, x, 0), (f32([1.5, 2]), np.array([True, False]))),
    "e4m3 f32": (
        lambda x, y: x.astype(f32) * y,
        (jnp.array([1.5, 2.5], jnp.float8_e4m3fn), f32([3, 0.3])),
    ),
    "e5m2": (lambda x: x * x, (jnp.array([1.5, 2.5], jnp.float8_e5m2),)),
    "e4m3 out": (lambda x: (x, x.astype(jnp.float8_e4m3fn)), (f32([1.5, 2.5]),)),
    "no rows": (lambda x, y: (x @ y, x.sum()), (jnp.zeros((0, 3)), jnp.ones((3, 2)))),
    "no columns": (lambda x, y: x @ y, (jnp.zeros((2, 0)), jnp.ones((0, 2)))),
    "scalars": (lambda x, y: (x * y, x), (f32(2), jnp.ones((0, 2)))),
    "key": (lambda x, k: x * jax.random.normal(k, x.shape), (f32([1.5, 2.5]), KEY)),
    "rbg key": (
        lambda x, k: x * jax.random.normal(k, x.shape),
        (f32([1.5, 2.5]), jax.random.key(1, impl="unsafe_rbg")),
    ),
    "raw key": (
        lambda x, k: x * jax.random.normal(k, x.shape),
        (f32([1.5, 2.5]), jax.random.PRNGKey(0)),
    ),
    "keys": (
        lambda x, k: (x * jax.vmap(jax.random.normal)(k), k),
        (f32([1.5, 2.5]), jax.random.split(KEY, 2)),
    ),
    "numpy": (product, (np.float32([1.5, 2.5]), np.ones(2))),
    "numpy scalars": (product, (np.float32(1.5), np.float64(2))),
    "numpy bfloat16": (product, (np.asarray(jnp.bfloat16([1.5])), f32([2]))),
    "weak out": (lambda x: (2 * x, jnp.where(x > 0, 1.0, 2.0)), (jnp.asarray(2.0),)),
    "numbers out": (lambda x: (2 * x, 1.0, 2, True, None), (f32([1.5]),)),
    "nested": (
        lambda d, y: {"o": d["a"] * y, "p": (d["b"],)},
        ({"a": jnp.bfloat16([1.5]), "b": jnp.array([1])}, jnp.bfloat16([2])),
    ),
}
WIDE = {  # with 64 bits
    "f64 f32": (product, (np.float64([1, 2]), np.float32([2, 3]))),
    "f64 bf16": (product, (np.float64([1, 2]), np.asarray(jnp.bfloat16([2, 3])))),
    "complex128 f32": (product, (np.complex128([1, 2j]), np.float32([2, 3]))),
    "complex128": (lambda z: jnp.conj(z) ** 2 * z, (np.complex128([1, 2j]),)),
    "number f32": (product, (2.0, np.float32([2, 3]))),
    "int64": (product, (np.float32([1, 2]), np.int64([2, 3]))),
}


def _cotangent(y):
    if not isinstance(y, (jax.Array, np.ndarray, np.generic, float, complex)):
        return np.zeros(np.shape(y), jax.dtypes.float0)
    if not jnp.issubdtype(jax.typeof(y).dtype, np.inexact):
        return np.zeros(np.shape(y), jax.dtypes.float0)
    return jnp.full_like(y, 0.75)


def _derive(call, function, args):
    """Value and cotangents; of integers and keys they are `float0`."""
    y, pullback = jax.vjp(functools.partial(call, function), *args)
    return y, pullback(jax.tree.map(_cotangent, y))


def _gradient(call, function, args):
    def loss(*args):
        leaves = jax.tree.leaves(call(function, *args))
        chosen = [x for x in leaves if jnp.issubdtype(jax.typeof(x).dtype, np.inexact)]
        return sum(jnp.abs(jnp.asarray(x, jnp.complex64)).sum() for x in chosen)

    places = tuple(range(len(args)))
    return jax.grad(loss, places, allow_int=True)(*args)


@pytest.mark.parametrize("name", CASES)
def test_a_kind(kinds, name):
    function, args = CASES[name]
    # NumPy's arrays are made JAX's on the way into a `jax.custom_vjp`
    call = hand if name.startswith("numpy") else kinds.plain.default
    expected = _derive(call, function, args)
    same(_derive(kinds.lifted.default, function, args), expected)
    same(_derive(kinds.lifted.recomputed, function, args), expected)
    expected = _gradient(call, function, args)
    same(_gradient(kinds.lifted.default, function, args), expected)


@pytest.mark.parametrize("name", ["weak bf16", "mask", "e4m3 f32", "keys", "uint4 out", "nested"])
def test_a_kind_under_jit(kinds, name):
    function, args = CASES[name]

    def run(call):
        return jax.jit(lambda *args: _derive(call, function, args))(*args)

    for call in ("default", "recomputed"):
        same(run(getattr(kinds.lifted, call)), run(kinds.plain.default), rtol=1e-6)


@pytest.mark.parametrize("name", WIDE)
def test_with_64_bits(kinds, name):
    function, args = WIDE[name]
    with jax.enable_x64(True):
        args = jax.tree.map(jnp.asarray, args)
        expected = _derive(kinds.plain.default, function, args)
        for call in ("default", "recomputed"):
            same(_derive(getattr(kinds.lifted, call), function, args), expected)
        found = jax.jit(lambda *a: _derive(kinds.lifted.default, function, a))(*args)
        same(found, expected)


@pytest.mark.parametrize("number", [1.5, 1.5 + 1j], ids=["real", "complex"])
def test_python_numbers_have_weak_gradients(kinds, number):
    holomorphic = isinstance(number, complex)

    def derive(call):
        return jax.grad(lambda x: call(lambda x: x * x, x), holomorphic=holomorphic)(number)

    same(derive(kinds.lifted.default), derive(kinds.plain.default))
    same(derive(kinds.lifted.recomputed), derive(kinds.plain.default))
    assert derive(kinds.lifted.default).weak_type
    assert kinds.lifted.default(lambda x: x * x, number) == number * number


# -- complex numbers ---------------------------------------------------------------------------


Z = jnp.complex64([1 + 2j, 0.5 - 1j])


def test_complex_cotangents_are_those_of_jax(kinds):
    """A rule's cotangents are `jax.vjp`'s: multiplied by the derivative, nothing conjugated."""
    y_t = jnp.complex64([2 - 1j, 1j])
    _, pullback = jax.vjp(kinds.lifted.complex_sum, Z, 2 * Z)
    same(pullback(y_t), (y_t, y_t))
    for name in ("complex_square", "modulus"):
        plain, lifted = getattr(kinds.plain, name), getattr(kinds.lifted, name)
        y, pullback = jax.vjp(lifted, Z)
        _, expected = jax.vjp(plain, Z)
        scale = y_t.real if y.dtype == f32 else y_t
        assert_same(pullback(scale), expected(scale), rtol=1e-6)
        # of a real loss JAX's gradient is d/dx - i d/dy, its conjugate the way up
        loss = lambda f: lambda z: jnp.abs(f(z)).sum()  # noqa: E731
        assert_same(jax.grad(loss(lifted))(Z), jax.grad(loss(plain))(Z), rtol=1e-6)
    step = 1e-3 * jnp.conj(jax.grad(lambda z: kinds.lifted.modulus(z).sum())(Z))
    assert kinds.lifted.modulus(Z + step).sum() > kinds.lifted.modulus(Z).sum()


def test_holomorphic_gradients(kinds):
    derive = lambda f: jax.grad(lambda z: f(z).sum(), holomorphic=True)(Z)  # noqa: E731
    same(derive(kinds.lifted.complex_square), 2 * Z)


# -- a tangent's dtype is its primal's ---------------------------------------------------------


DTYPES = [f32, jnp.bfloat16, jnp.float16, jnp.complex64, jnp.float8_e4m3fn, jnp.float8_e5m2, int]


@pytest.mark.parametrize("right", DTYPES[:-1], ids=lambda d: np.dtype(d).name)
def test_another_dtype_is_an_error(kinds, right):
    x = jnp.ones(3, right)
    for wrong in DTYPES:
        other = jnp.zeros((), wrong)

        def derive(x, other=other):
            y, pullback = jax.vjp(lambda x: kinds.lifted.other_dtype(x, other), x)
            return pullback(jnp.ones_like(y))

        if wrong is right:
            assert derive(x)[0].dtype == right
            continue
        with pytest.raises(vjpgen.TangentError) as caught:
            derive(x)
        names = np.dtype(right).name, other.dtype.name
        assert f"x: expected {names[0]}[3], not {names[1]}[3]" in str(caught.value)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_another_dtype_of_a_parameter_is_an_error(kinds, wrap):
    module = kinds.lifted.OtherDtype(f32, jnp.bfloat16)
    variables = module.init(KEY, X)
    with pytest.raises(vjpgen.TangentError) as caught:
        wrap(jax.grad(lambda v: module.apply(v, X).sum()))(variables)
    assert "mdl: params.bias: expected float32[3], not bfloat16[3]" in str(caught.value)
    assert "kernel" not in str(caught.value)
    module = kinds.lifted.OtherDtype(jnp.bfloat16, jnp.bfloat16)
    found = jax.grad(lambda v: module.apply(v, X).sum())(module.init(KEY, X))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(jnp.bfloat16)}


def _of_integers(kinds, tangent_dtype):
    other = jnp.zeros((), tangent_dtype)
    _, pullback = jax.vjp(lambda i: kinds.lifted.other_dtype(i, other), jnp.arange(3))
    return pullback(np.zeros(3, jax.dtypes.float0))


def test_integers_have_no_tangents(kinds):
    (found,) = _of_integers(kinds, jnp.int32)  # zeros of their own dtype stand for none
    assert found.dtype == jax.dtypes.float0


def test_numbers_as_tangents(kinds):
    """A Python number is a scalar tangent, weak where the primal is; NumPy's are JAX's types."""
    for primal in (2.0, f32(2), jnp.bfloat16(2), jnp.complex64(2)):
        found = jax.grad(kinds.lifted.constant_slope, holomorphic=jnp.iscomplexobj(primal))(primal)
        same(found, 3 * jnp.ones_like(primal))
        assert found.weak_type == isinstance(primal, float)
    same(jax.grad(lambda x: kinds.lifted.numpy_slope(x).sum())(X), jnp.full_like(X, 3))
    with jax.enable_x64(True), pytest.raises(vjpgen.TangentError, match="not float64"):
        jax.grad(lambda x: kinds.lifted.numpy_slope(x).sum())(jnp.ones(3, f32))


def test_numbers_among_the_outputs(kinds):
    """Their tangents are those that `nn.vjp`, in a forward rule by hand, wants."""
    plain, lifted = kinds.plain.WithNumbers(), kinds.lifted.WithNumbers()
    variables = plain.init(KEY, X)
    same(lifted.apply(variables, X), plain.apply(variables, X))

    def derive(module):
        def loss(variables):
            y, more = module.apply(variables, X)
            return y.sum() + 2 * more["loss"]

        return jax.jit(jax.grad(loss))(variables)

    same(derive(lifted), derive(plain))


# -- modules -----------------------------------------------------------------------------------


def _module_gradient(module, variables, x, **options):
    def loss(variables, x):
        y, updates = module.apply(variables, x, **options)
        return jnp.abs(y.astype(f32)).sum(), (y, updates)

    derived = jax.value_and_grad(loss, (0, 1), has_aux=True, allow_int=True)
    return jax.jit(derived)(variables, x)


@pytest.mark.parametrize(
    ("dtype", "param_dtype", "input_dtype"),
    [
        (jnp.bfloat16, f32, f32),
        (jnp.float16, f32, jnp.float16),
        (f32, jnp.bfloat16, jnp.bfloat16),
    ],
)
def test_mixed_precision(kinds, dtype, param_dtype, input_dtype):
    plain, lifted = (m.Mixed(dtype, param_dtype) for m in (kinds.plain, kinds.lifted))
    x = X.astype(input_dtype)
    variables = plain.init(KEY, x)
    same(lifted.init(KEY, x), variables)
    found = _module_gradient(lifted, variables, x, mutable=[])
    same(found, _module_gradient(plain, variables, x, mutable=[]))
    assert {leaf.dtype for leaf in jax.tree.leaves(found[1][0])} == {np.dtype(param_dtype)}


def test_without_promotion(kinds):
    """Nothing in the runtime relies on implicit promotion."""
    with jax.numpy_dtype_promotion("strict"):
        for name, fields in (("Mixed", {"dtype": f32}), ("Quantised", {})):
            plain, lifted = (getattr(m, name)(**fields) for m in (kinds.plain, kinds.lifted))
            variables = plain.init(KEY, X)
            found = _module_gradient(lifted, variables, X, mutable=["state"])
            same(found, _module_gradient(plain, variables, X, mutable=["state"]), rtol=1e-6)


def test_precision_of_products(kinds):
    module = kinds.lifted.Mixed(f32)
    variables = module.init(KEY, X)
    gradient = jax.grad(lambda v: module.apply(v, X).sum())
    with jax.default_matmul_precision("highest"):
        text = str(jax.make_jaxpr(gradient)(variables))
    assert text.count("dot_general") == text.count("precision=(Precision.HIGHEST") > 2


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int4, jnp.uint4, jnp.int32])
def test_integer_parameters(kinds, dtype):
    plain, lifted = kinds.plain.Quantised(dtype), kinds.lifted.Quantised(dtype)
    variables = plain.init(KEY, X)
    same(lifted.init(KEY, X), variables)
    found = _module_gradient(lifted, variables, X, mutable=["state"])
    same(found, _module_gradient(plain, variables, X, mutable=["state"]))
    assert found[1][0]["params"]["codes"].dtype == jax.dtypes.float0
    assert found[1][0]["params"]["scale"].dtype == f32


def test_a_key_among_the_variables(kinds):
    plain, lifted = kinds.plain.KeyInState(), kinds.lifted.KeyInState()
    variables = plain.init(KEY, X)
    same(lifted.init(KEY, X), variables)
    found = _module_gradient(lifted, variables, X, mutable=["random"])
    same(found, _module_gradient(plain, variables, X, mutable=["random"]))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg", None])
def test_keys_in_rules(kinds, impl):
    """As argument, residual and captured value; None is a raw key."""
    key = jax.random.PRNGKey(3) if impl is None else jax.random.key(3, impl=impl)
    plain, lifted = kinds.plain.KeyInMethods(), kinds.lifted.KeyInMethods()
    variables = plain.init(KEY, X, key)

    def derive(module):
        loss = lambda v, x, k: module.apply(v, x, k).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1, 2), allow_int=True))(variables, X, key)

    assert_same(derive(lifted), derive(plain), rtol=1e-6)

    def captured(source):
        loss = lambda gain, x, key: source.noisy(key, gain)(x).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1)))(f32(2), X, key)

    assert_same(captured(kinds.lifted), captured(kinds.plain), rtol=1e-6)


@pytest.mark.parametrize("impl", ["rbg", "threefry2x32"])
def test_raw_keys_and_other_generators_as_rngs(pair, impl):
    layers = pair("layers")
    plain, lifted = layers.plain.Noisy(), layers.lifted.Noisy()
    with jax.default_prng_impl(impl):
        rngs = {name: jax.random.PRNGKey(n) for n, name in enumerate(("params", "noise"))}
        variables = plain.init(rngs, X)
        same(lifted.init(rngs, X), variables)

        def derive(module):
            loss = lambda v, rngs: module.apply(v, X, rngs=rngs).sum()  # noqa: E731
            return jax.jit(jax.value_and_grad(loss))(variables, rngs)

        assert_same(derive(lifted), derive(plain), rtol=1e-5)


def test_parameters_that_are_numbers(kinds):
    plain, lifted = kinds.plain.Scalars(), kinds.lifted.Scalars()
    variables = plain.init(KEY, X)
    assert variables["params"]["gain"] == 2.0
    same(lifted.init(KEY, X), variables)
    same(lifted.apply(variables, X), plain.apply(variables, X))
    for wrap in (lambda f: f, jax.jit):

        def derive(module, wrap=wrap):
            return wrap(jax.grad(lambda v, x: module.apply(v, x).sum(), (0, 1)))(variables, X)

        same(derive(lifted), derive(plain))
    assert derive(lifted)[0]["params"]["gain"].weak_type


# -- fp8 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [f32, jnp.bfloat16])
def test_fp8_layers_of_flax(kinds, dtype):
    x = jax.random.normal(KEY, (16, 16), dtype)
    plain, lifted = kinds.plain.Fp8(), kinds.lifted.Fp8()
    variables = plain.init(KEY, x)
    same(lifted.init(KEY, x), variables)
    found = _module_gradient(lifted, variables, x, mutable=[])
    same(found, _module_gradient(plain, variables, x, mutable=[]))
    state = found[1][0]["_overwrite_with_gradient"]
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(state))


def test_fp8_state_as_cotangent(kinds):
    history = jnp.zeros(4)
    loss = lambda *a: kinds.lifted.carried(*a).sum()  # noqa: E731
    for wrap in (lambda f: f, jax.jit):
        x_t, scale, new = wrap(jax.grad(loss, (0, 1, 2)))(1000 * X, f32(1), history)
        same(x_t, jnp.ones_like(X))
        assert_same(new, history.at[0].set(jnp.abs(1000 * X).max()))
        assert_same(scale, jnp.abs(1000 * X).max() / 448, rtol=1e-6)


def test_fp8_state_of_an_extended_dtype(kinds):
    """Where a state is used more than once its cotangents add up by their maximum."""
    x = f32([[1.0, 2.0, 300.0]])

    def rolled(source, scale, history, x):
        def body(x, _):
            y = source.quantised_input(x, scale, history)
            return 2 * source.quantised_input(y, scale, history), None

        return jax.lax.scan(body, x, length=3)[0].sum()

    def captured(source, scale, history, x):
        return sum(source.calibrated(scale, history)(n * x).sum() for n in (1, 3, 2))

    def derive(use, source):
        def loss(scale, history, x):
            state = (jax.lax.convert_element_type(a, fp8_ops.fm32) for a in (scale, history))
            return use(source, *state, x)

        return jax.jit(jax.grad(loss, (0, 1, 2)))(jnp.ones(1), jnp.zeros(4), x)

    for use, largest in ((rolled, 896.0), (captured, 900.0)):
        found = derive(use, kinds.lifted)
        same(found, derive(use, kinds.plain))
        assert found[1][0] == largest


def test_numpy_records_are_not_arrays(kinds):
    record = kinds.plain.RECORD
    derive = lambda f: jax.grad(lambda x: f(x, record).sum())(X)  # noqa: E731
    same(derive(kinds.lifted.with_record), derive(kinds.plain.with_record))
    same(kinds.lifted.with_record(X, record), kinds.plain.with_record(X, record))


def test_fp8_under_scan(kinds):
    """A layer of Flax's, its states stacked."""
    x = jax.random.normal(KEY, (16, 16))

    def derive(source):
        class Body(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return source.Fp8()(x), None

        scanned = nn.scan(
            Body,
            variable_axes={"params": 0, "_overwrite_with_gradient": 0},
            split_rngs={"params": True},
            length=2,
        )
        variables = scanned().init(KEY, x, None)
        loss = lambda v: scanned().apply(v, x, None)[0].sum()  # noqa: E731
        return variables, jax.jit(jax.grad(loss))(variables)

    assert_same(derive(kinds.lifted), derive(kinds.plain), rtol=1e-6)
