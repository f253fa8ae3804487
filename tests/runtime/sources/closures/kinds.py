"""One function a way of holding a captured value; each gives `g(x)` a traced `w` to use."""

from __future__ import annotations

import collections
import dataclasses
import functools
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


def times(w, z):
    return w * z


def decorated(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs)

    return wrapper


class Holder:
    def __init__(self, w):
        self.w = w

    def times(self, z):
        return self.w * z


class Caller:
    """A decorator that is a class: it holds the function that it is given."""

    def __init__(self, f):
        self.f = f

    def __call__(self, *args):
        return self.f(*args)


class Slotted:
    __slots__ = ("f",)

    def __init__(self, f):
        self.f = f


class Uncopied(Holder):
    def __reduce_ex__(self, protocol):
        raise TypeError("not to be copied")


class Registry(dict):
    pass


class Items(list):
    pass


@dataclasses.dataclass
class Config:
    scale: Any
    act: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    inner: Config


class Transform(NamedTuple):
    init: Any
    update: Any


@flax.struct.dataclass
class State:
    w: Any
    apply: Any = flax.struct.field(pytree_node=False)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass
class Node:
    w: Any
    act: Any

    def tree_flatten(self):
        return (self.w,), self.act

    @classmethod
    def tree_unflatten(cls, act, children):
        return cls(children[0], act)


class Unbound(nn.Module):
    act: Any

    def __call__(self, z):
        return self.act(z)


def cell(w):
    return lambda z: w * z


def deep(w):
    def second():
        def third():
            return lambda z: w * z

        return third()

    return second()


def custom_jvp(w):
    @jax.custom_jvp
    def g(z):
        return w * z

    @g.defjvp
    def _(primals, tangents):
        return w * primals[0], w * tangents[0]

    return g


def custom_vjp(w):
    @jax.custom_vjp
    def g(z):
        return jnp.sin(w) * z

    g.defvjp(lambda z: (g(z), None), lambda _, t: (jnp.sin(w) * t,))
    return g


def lru_cache(w):
    @functools.cache
    def power(n: int):
        return w**n

    return lambda z: power(2) * z + power(2)


def cache_of_cell(w):
    cached = functools.cache(lambda n: n * w)
    return lambda z: cached(3) * z


def local_instance(w):
    class Local:
        def __call__(self, z):
            return w * z

    return Local()


def local_class(w):
    class Local:
        scale = 2 * w

        @staticmethod
        def static(z):
            return w * z

        @classmethod
        def of_class(cls, z):
            return cls.scale * z

        @property
        def twice(self):
            return 2 * w

        def whole(self, z):
            return self.static(z) + self.of_class(z) + self.twice

    class Child(Local):
        def whole(self, z):
            return super().whole(z) + w

    return lambda z: Child().whole(z)


def local_dataclass(w):
    @dataclasses.dataclass
    class Local:
        scale: Any = dataclasses.field(default_factory=lambda: w)

    return lambda z: Local().scale * z


def local_linen(w):
    class Local(nn.Module):
        @nn.compact
        def __call__(self, z):
            return w * z

    layer = Local()
    return lambda z: layer.apply({}, z)


def vjp_function(w):
    _, pullback = jax.vjp(lambda z: z * w, w)
    return lambda z: pullback(z.sum())[0] * z


def linear_function(w):
    _, pushforward = jax.linearize(lambda z: z * w, w)
    return lambda z: pushforward(z.sum()) * z


def recursive(w):
    def power(z, n):
        return z if n == 0 else w * power(z, n - 1)

    return lambda z: power(z, 3)


def cycle(w):
    holder = SimpleNamespace(w=w)
    holder.self = holder
    items: list[Any] = [holder]
    items.append(items)
    return lambda z: items[1][0].self.w * z


def singledispatch(w):
    @functools.singledispatch
    def g(z):
        return w * z

    @g.register(int)
    def _(z):
        return z

    return lambda z: g(z) * g(1)


def keyword_default(w):
    def g(z, *, scale=w):
        return scale * z

    return g


def positional_default(w):
    def g(z, unused=1, scale=w):
        return scale * z * unused

    return g


def nested_default(w):
    def g(z, act=lambda t: t * w):
        return act(z)

    return g


KINDS: dict[str, Any] = {
    "cell": cell,
    "three functions deep": deep,
    "jit": lambda w: jax.jit(lambda z: w * z),
    "jit of jit": lambda w: jax.jit(lambda z: jax.jit(lambda u: u * w)(z)),
    "vmap": lambda w: jax.vmap(lambda z: w * z),
    "checkpoint": lambda w: jax.checkpoint(lambda z: jnp.sin(w * z)),
    "grad": lambda w: jax.vmap(jax.grad(lambda z: jnp.sin(w * z))),
    "custom_jvp": custom_jvp,
    "custom_vjp": custom_vjp,
    "partial": lambda w: partial(times, w),
    "partial of a keyword": lambda w: partial(lambda z, scale: z * scale, scale=w),
    "jax partial": lambda w: jax.tree_util.Partial(times, w),
    "wraps": lambda w: decorated(decorated(lambda z: w * z)),
    "lru_cache": lru_cache,
    "cache": cache_of_cell,
    "bound method": lambda w: Holder(w).times,
    "object that refuses copies": lambda w: Uncopied(w).times,
    "callable object": lambda w: Caller(lambda z: w * z),
    "nested callable object": lambda w: Caller(Caller(Holder(w).times)),
    "slots": lambda w: Slotted(lambda z: w * z).f,
    "object with slots": lambda w: (lambda s: lambda z: s.f(z))(Slotted(lambda z: w * z)),
    "namespace": lambda w: (lambda s: lambda z: s.a.w * z)(SimpleNamespace(a=SimpleNamespace(w=w))),
    "dataclass": lambda w: (lambda c: lambda z: c.scale * z)(Config(w)),
    "dataclass of a function": lambda w: (lambda c: lambda z: c.act(z))(Config(1, lambda z: w * z)),
    "frozen dataclass": lambda w: (lambda f: lambda z: f.inner.scale["a"] * z)(
        Frozen(Config({"a": w}))
    ),
    "named tuple of functions": lambda w: (lambda t: lambda z: t.update(z, t.init()))(
        Transform(lambda: w, lambda z, s: z * s)
    ),
    "tuple": lambda w: (lambda t: lambda z: t[1][0] * z)((1, (w, "text"))),
    "list": lambda w: (lambda t: lambda z: t[0](z))([lambda z: w * z]),
    "dict of functions": lambda w: (lambda d: lambda z: d["f"](z))({"f": lambda z: w * z}),
    "dict without order": lambda w: (lambda d: lambda z: d[1] * z)({1: w, "a": 2}),
    "ordered dict": lambda w: (lambda d: lambda z: d["a"] * z)(collections.OrderedDict(a=w)),
    "default dict": lambda w: (lambda d: lambda z: d["a"](z))(
        collections.defaultdict(int, a=lambda z: w * z)
    ),
    "deque": lambda w: (lambda d: lambda z: d[0] * z)(collections.deque([w])),
    "set of functions": lambda w: (lambda s: lambda z: sum(f(z) for f in s))({lambda z: w * z}),
    "mapping proxy": lambda w: (lambda d: lambda z: d["a"] * z)(MappingProxyType({"a": w})),
    "struct": lambda w: (lambda s: lambda z: s.w * z)(State(w, None)),
    "struct with a function aside": lambda w: (lambda s: lambda z: s.apply(z))(
        State(1.0, lambda z: w * z)
    ),
    "pytree with a function aside": lambda w: (lambda s: lambda z: s.act(z) * s.w)(
        Node(w, lambda z: w * z)
    ),
    "unbound module": lambda w: Unbound(lambda z: w * z),
    "apply of a module": lambda w: (lambda apply: lambda z: apply({}, z))(
        Unbound(lambda z: w * z).apply
    ),
    "local instance": local_instance,
    "local class": local_class,
    "local dataclass": local_dataclass,
    "local linen module": local_linen,
    "subclass of dict": lambda w: (lambda d: lambda z: d["a"] * z)(Registry(a=w)),
    "subclass of list": lambda w: (lambda d: lambda z: d[0](z))(Items([lambda z: w * z])),
    "vjp function": vjp_function,
    "linear function": linear_function,
    "recursive": recursive,
    "cycle": cycle,
    "singledispatch": singledispatch,
    "keyword default": keyword_default,
    "positional default": positional_default,
    "nested default": nested_default,
}


def by_primal(kind, x, w):
    g = KINDS[kind](jnp.sin(w))

    # custom-vjp: bwd=identity, missing=autodiff
    def f(x):
        return g(x)

    return f(x)


def by_forward(kind, x, w):
    g = KINDS[kind](jnp.sin(w))

    def forward(x):
        y, pullback = jax.vjp(f, x)
        return y + 0 * g(x), (pullback, g(x))

    def backward(residuals, y_t):
        return residuals[0](y_t)

    # custom-vjp: fwd=forward, bwd=backward, missing=autodiff
    def f(x):
        return jnp.cos(x) * x

    return f(x)


def by_backward(kind, x, w):
    g = KINDS[kind](jnp.sin(w))

    def backward(pullback, y_t):
        return pullback(g(y_t))

    # custom-vjp: bwd=backward, missing=autodiff
    def f(x):
        return jnp.cos(x) * x

    return f(x)
