"""Modules wherever they can stand, each with the identity rule: its gradients are autodiff's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


class Plain(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, x):
        return jnp.tanh(nn.Dense(self.features)(x))


class Ruled(nn.Module):
    features: int = 3

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return jnp.tanh(nn.Dense(self.features)(x))


# -- modules as attributes ---------------------------------------------------------------------


class Holds(nn.Module):
    inner: Any

    @nn.compact
    def __call__(self, x):
        return jnp.tanh(self.inner(x)) * nn.Dense(3)(x)


class HoldsTree(nn.Module):
    """Lists and dicts of modules as attribute."""

    inner: Any

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        for module in jax.tree.leaves(self.inner, is_leaf=lambda m: isinstance(m, nn.Module)):
            x = jnp.sin(module(x)) + x
        return nn.Dense(3)(x)


class HoldsSetup(nn.Module):
    """Lists and dicts of submodules, made in `setup`."""

    def setup(self):
        self.listed = [nn.Dense(3), {"k": Ruled(), "j": (nn.Dense(3),)}]
        self.named = {"x": nn.Dense(3)}

    # custom-vjp: bwd=identity
    def __call__(self, x):
        first, rest = self.listed
        return first(x) + rest["k"](x) + rest["j"][0](x) * self.named["x"](x)


class TwoParents(nn.Module):
    """What both hold was made outside of all modules; the first to use it adopts it."""

    a: Any
    b: Any

    @nn.compact
    def __call__(self, x):
        return self.a(x) + self.b(2 * x)


class HoldsForeign(nn.Module):
    """Holds modules that hold modules and variables from elsewhere."""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=identity
        def f(mdl, v, x):
            return mdl(x) * mdl(2 * x) * v.value

        dense = nn.Dense(3)
        v = self.variable("params", "v", jnp.ones, (3,))
        inner = [Holds(dense, parent=None), Holds(Ruled(), parent=None), Scaled(v, parent=None)]
        mdl = HoldsTree(inner)
        return f(mdl, v, x) * dense(x) + mdl(x)


class Scaled(nn.Module):
    """A variable as attribute."""

    scale: Any

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x) * self.scale.value


class ScaledByOuter(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.variable("params", "scale", lambda: 2 * jnp.ones(3))
        return Scaled(scale)(x) * scale.value


# -- modules as arguments ----------------------------------------------------------------------


@struct.dataclass
class Bag:
    module: Any
    named: Any
    times: int = struct.field(pytree_node=False, default=2)


class Arguments(nn.Module):
    """In a dataclass, in dicts, in `*args` and `**kwargs`; one module in all of these places."""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=identity
        def f(bag, x, *modules, **named):
            y = bag.module(x) + bag.named["q"](x) * bag.times
            for module in modules:
                y = y * module(x)
            return y + named["last"](x)

        a, b, c, d, e = (nn.Dense(3) for _ in range(5))
        apart = f(Bag(a, {"q": b}), x, c, d, last=e)
        return apart + f(Bag(a, {"q": a}), x, a, last=a)


class TwoWays(nn.Module):
    """Reached as argument and attribute, as two arguments, as argument and captured value."""

    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(3)
        holder = Holds(dense)

        # custom-vjp: bwd=identity
        def f(a, b, x, *, more):
            return a(x) * b(x) + more[0](x)

        # custom-vjp: bwd=identity, missing=autodiff
        def g(a, x):
            return a(x) * dense(x)

        both = f(holder, dense, x, more=[dense]) + f(dense, dense, x, more=[holder])
        return both + g(holder, x) + g(dense, x)


class ParentAndChild(nn.Module):
    def setup(self):
        self.outer = Inner()

    def __call__(self, x):
        # custom-vjp: bwd=identity
        def f(parent, child, x):
            return parent(x) * child(x) + parent.inner(x)

        return f(self.outer, self.outer.inner, x)


class Inner(nn.Module):
    def setup(self):
        self.inner = nn.Dense(3)

    def __call__(self, x):
        return jnp.sin(self.inner(x))


class Variables(nn.Module):
    """Variables as arguments; one is written."""

    @nn.compact
    def __call__(self, x):
        scale = self.variable("params", "scale", lambda: 2 * jnp.ones(3))
        seen = self.variable("stats", "seen", lambda: jnp.ones(3))

        # custom-vjp: bwd=identity
        def f(mdl, scale, x, seen):
            if seen.is_mutable():
                seen.value = seen.value + jax.lax.stop_gradient(x.sum())
            return mdl(x) * scale.value + jax.lax.stop_gradient(seen.value)

        dense = nn.Dense(3)
        return f(dense, scale, x, seen=seen) + f(dense, scale, 2 * x, seen) * scale.value


# -- kinds of modules --------------------------------------------------------------------------


class Recursive(nn.Module):
    """The class in itself, at several depths, called twice, each with its rule."""

    depth: int = 2

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)
        if self.depth:
            below = Recursive(self.depth - 1)
            x = x + below(x) * below(jnp.sin(x)) + Recursive(0)(x)
        return x


class Fields(nn.Module):
    """Fields that are no arguments, keyword-only ones, callables; attributes made in `setup`."""

    n: int = dataclasses.field(default=3, kw_only=True)
    m: int = dataclasses.field(init=False, default=2)
    act: Callable[..., Any] = jnp.tanh

    def __post_init__(self):
        self.m = self.n * 2
        super().__post_init__()

    def setup(self):
        self.factor = self.n + 1
        self.kernel = 2 * self.param("kernel", nn.initializers.ones, (3, self.m))

    # custom-vjp: bwd=identity
    def __call__(self, x):
        return self.act(x @ self.kernel) * self.factor


class KeywordOnly(nn.Module, kw_only=True):
    n: int = 2

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.n)(x)


class Equal(nn.Module):
    """Equal to every other module, with one hash for all."""

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return True

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class EqualModules(nn.Module):
    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=identity
        def f(pair, x, *, more):
            return pair[0](x) * pair[1](x) + more["m"](x)

        return f((Equal(), Equal()), x, more={"m": Equal()})


class Copies(nn.Module):
    def setup(self):
        self.a = Ruled()
        self.b = self.a.clone()
        self.c = self.a.copy(features=3)

    # custom-vjp: bwd=identity
    def __call__(self, x):
        return self.a(x) + self.b(x) * self.c(x)


class Base(nn.Module):
    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class Derived(Base):
    """Calls the annotated method of its base, under a rule of its own."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return jnp.tanh(super().__call__(x)) + nn.Dense(3)(x)


# -- what Flax does to methods and scopes ------------------------------------------------------


class SharesScope(nn.Module):
    def setup(self):
        self.child = nn.Dense(3)
        nn.share_scope(self, self.child)

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return self.child(x) + x @ self.param("a", nn.initializers.ones, (x.shape[-1], 3))


class SharesAttribute(nn.Module):
    child: Any

    def setup(self):
        nn.share_scope(self, self.child)

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return self.child(x) + x @ self.param("a", nn.initializers.ones, (x.shape[-1], 3))


class SharedScopes(nn.Module):
    """Modules with a shared scope, called twice and as arguments beside what they share."""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=identity
        def f(mdl, dense, x):
            return mdl(x) * dense(x)

        dense = nn.Dense(3)
        shares = SharesAttribute(dense)
        return shares(x) + shares(2 * x) + f(shares, dense, x) + f(SharesScope(), dense, x)


class NameScopes(nn.Module):
    @nn.compact
    def __call__(self, x):
        return self.up(x) + self.both(x) + self.up(2 * x)

    # custom-vjp: bwd=identity
    @nn.compact_name_scope
    def up(self, x):
        return nn.Dense(3)(x)

    @nn.compact_name_scope
    def down(self, x):
        return nn.Dense(3)(x)

    # custom-vjp: bwd=identity
    def both(self, x):
        return self.up(x) * self.down(x)


class Marked(nn.Module):
    """`nn.nowrap` and `nn.named_call`."""

    def setup(self):
        self.dense = nn.Dense(3)

    def __call__(self, x):
        return self.hidden(x) + self.named(2 * x)

    # custom-vjp: bwd=identity
    @nn.nowrap
    def hidden(self, x):
        return self.dense(x)

    # custom-vjp: bwd=identity
    @nn.named_call
    def named(self, x):
        return jnp.sin(self.dense(x))


class Mapped(nn.Module):
    """`nn.map_variables` in the primal."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        turn = lambda tree: jax.tree.map(jnp.transpose, tree)  # noqa: E731
        dense = nn.map_variables(
            nn.Dense,
            "params",
            trans_in_fn=turn,
            trans_out_fn=turn,
            init=self.is_initializing(),
        )
        return dense(3)(x)


class UsesScope(nn.Module):
    """Its scope, by hand."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        w = self.scope.param("w", nn.initializers.normal(), (3,))
        calls = self.scope.variable("stats", "calls", jnp.zeros, ())
        if self.is_mutable_collection("stats"):
            calls.value = calls.value + 1
        return x * w + self.scope.get_variable("params", "w") * self.variables["params"]["w"]


class Applies(nn.Module):
    """Another module as a function of its variables."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(3, parent=None)
        params = self.param("dense", lambda key: dense.init(key, x)["params"])
        bound = dense.bind({"params": params})
        inner, variables = bound.unbind()
        applied = nn.apply(lambda m, x: m(x), dense)({"params": params}, x)
        return applied + bound(x) * inner.apply(variables, jnp.sin(x))


# -- boxes -------------------------------------------------------------------------------------


class Axis(struct.PyTreeNode, nn.meta.AxisMetadata):
    """A box of one's own, that counts the axes put on it."""

    value: Any
    axes: int = struct.field(pytree_node=False, default=0)

    def unbox(self):
        return self.value

    def replace_boxed(self, val):
        return self.replace(value=val)

    def add_axis(self, index, params):
        return self.replace(axes=self.axes + 1)

    def remove_axis(self, index, params):
        return self.replace(axes=self.axes - 1)


def own_box(init, names):
    return lambda *args: Axis(init(*args), len(names))


class Boxed(nn.Module):
    box: Callable[..., Any] = nn.with_partitioning

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        init = self.box(nn.initializers.lecun_normal(), (None, "model"))
        bias = self.variable("params", "bias", self.box(jnp.zeros, ("model",)), (4,))
        return nn.Dense(4, kernel_init=init)(x) + bias.value


class BoxedLayer(nn.Module):
    box: Callable[..., Any]

    @nn.compact
    def __call__(self, x, _=None):
        init = self.box(nn.initializers.lecun_normal(), ("a", "model"))
        return nn.Dense(3, kernel_init=init)(x), None


class BoxedStacks(nn.Module):
    """Boxes that get an axis from `nn.vmap` and `nn.scan`, and one by hand."""

    box: Callable[..., Any] = nn.with_partitioning

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        wide = nn.vmap(
            BoxedLayer,
            in_axes=None,
            axis_size=2,
            metadata_params={nn.PARTITION_NAME: "wide"},
            **options,
        )
        deep = nn.scan(BoxedLayer, length=2, metadata_params={nn.PARTITION_NAME: "deep"}, **options)
        extra = nn.add_metadata_axis(
            BoxedLayer, {"params": 0}, metadata_params={nn.PARTITION_NAME: "extra"}
        )
        y = wide(self.box)(x)[0].sum(0) + deep(self.box)(x, None)[0]
        return y + extra(self.box)(x)[0]


# -- rules that look at the structure of their tangents ----------------------------------------

SEEN: list[Any] = []


def by_name(vjp_fn, y_t):
    """Twice the shared module's tangent, none for the holder's own, all of the other's."""
    holder_t, other_t, x_t = vjp_fn(y_t)
    SEEN.append((holder_t, other_t))
    shared_t = jax.tree.map(lambda t: 2 * t, holder_t["params"]["inner"])
    return {"params": {"Dense_0": None, "inner": shared_t}}, other_t, x_t


class ByName(nn.Module):
    """`other`: what is given beside the holder, "shared" for what the holder holds."""

    other: str = "apart"

    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=by_name
        def f(holder, other, x):
            return holder(x) + other(x)

        inner = nn.Dense(3)
        other = inner if self.other == "shared" else nn.Dense(3)
        return f(Holds(inner), other, x)


def places(vjp_fn, y_t):
    tangents = vjp_fn(y_t)
    SEEN.append(tangents[:-1])
    return tangents


class Places(nn.Module):
    """Every way of holding something, to show where its tangent stands."""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=places
        def f(first, pair, v, seen, x):
            return first(x) * pair["a"](x) + pair["b"][0](x) * v.value + seen.value

        v = self.variable("params", "v", jnp.ones, (3,))
        seen = self.variable("stats", "seen", jnp.zeros, ())
        shared = nn.Dense(3)
        first = HoldsTree([shared, {"k": Scaled(v, parent=None)}, nn.Dense(3, parent=None)])
        return f(first, {"a": shared, "b": (Inner(),)}, v, seen, x)


# -- rules by hand -----------------------------------------------------------------------------


class ByHand(nn.Module):
    """Its forward rule calls no module."""

    # custom-vjp: fwd=forward, bwd=backward
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="dense")(x)

    def forward(self, x):
        dense = self.variables["params"]["dense"]
        return x @ dense["kernel"] + dense["bias"], (x, dense["kernel"])

    def backward(self, residuals, y_t):
        x, kernel = residuals
        dense_t = {"kernel": x.T @ y_t, "bias": y_t.sum(0)}
        return {"params": {"dense": dense_t}}, y_t @ kernel.T


class BoundResiduals(nn.Module):
    """A module and a variable among the residuals, which the backward rule gets read-only."""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: fwd=fwd, bwd=bwd
        def f(mdl, v, x):
            return mdl(x) * v.value

        def fwd(mdl, v, x):
            return mdl(x) * v.value, (mdl, {"v": v}, x)

        def bwd(residuals, y_t):
            mdl, named, x = residuals
            y, vjp_fn = nn.vjp(lambda mdl, x: mdl(x), mdl, x)
            mdl_t, x_t = vjp_fn(y_t * named["v"].value)
            return mdl_t, {"params": {"v": (y_t * y).sum(0)}}, x_t

        return f(nn.Dense(3), self.variable("params", "v", lambda: 2 * jnp.ones(3)), x)


class ForeignSnapshot(nn.Module):
    """A rule of methods, on a module with a shared scope and an attribute from elsewhere."""

    inner: Any

    def setup(self):
        self.child = nn.Dense(3)
        nn.share_scope(self, self.child)

    # custom-vjp: fwd=forward, bwd=backward
    @nn.compact
    def __call__(self, x):
        return self.child(x) * self.inner(x)

    def forward(self, x):
        return self(x), x

    def backward(self, x, y_t):
        child_t, inner_t = y_t * self.inner(x), y_t * self.child(x)
        kernels = [m.variables["params"]["kernel"] for m in (self.child, self.inner)]
        own_t = {"kernel": x.T @ child_t, "bias": child_t.sum(0)}
        other_t = {"kernel": x.T @ inner_t, "bias": inner_t.sum(0)}
        x_t = child_t @ kernels[0].T + inner_t @ kernels[1].T
        return {"params": {**own_t, "inner": other_t}}, x_t


class ForeignSnapshots(nn.Module):
    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(3)
        return ForeignSnapshot(dense)(x) + dense(x)
