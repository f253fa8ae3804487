"""The tangent merge: what a backward rule returned, brought into the space of its primals.

One function, `merge`, compares the returned tangents with what the slots expect, leaf by leaf,
and gathers every mismatch into one `TangentError`. Three meanings are kept apart: not
differentiable (integers, keys: `None` or a float0 array), zero (`None`), and not given (a leaf
that a variables' tangent lacks, which the rule's `missing` decides).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from vjpgen.runtime.errors import TangentError
from vjpgen.runtime.leaves import below, is_array, is_differentiable, is_extended, path_text
from vjpgen.runtime.rule import Rule


@dataclasses.dataclass(frozen=True, eq=False)
class Handle:
    """Stands in a slot's tree where a leaf's tangent belongs.

    Args:
        operand: the operand's index; None where the leaf is a constant.
        constant: the constant.
    """

    operand: int | None
    constant: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Variables:
    """Stands in a slot's tree for a module: its collections, whose leaves may be missing."""

    collections: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Slot:
    """One tangent slot: the argument's name and its tree of handles."""

    name: str
    expected: Any


@dataclasses.dataclass
class Merged:
    """The tangents that a rule gave, by operand.

    Args:
        tangents: what was given; None is zero.
        missing: the operands that were not given, each with its slot and path.
    """

    tangents: dict[int, Any] = dataclasses.field(default_factory=dict)
    missing: dict[int, str] = dataclasses.field(default_factory=dict)


def type_text(value: Any) -> str:
    """Write an array's type briefly, as float32[2,3]."""
    if value is None:
        return "None"
    if isinstance(value, SymbolicZero):
        value = value.aval
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return _structure_text(value)
    name = "float0" if dtype == jax.dtypes.float0 else str(dtype)
    return f"{name}[{','.join(map(str, shape))}]"


def _structure_text(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = [str(key) for key in value]
        return (
            f"a dict with {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}"
            if keys
            else "an empty dict"
        )
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def merge(rule: Rule, slots: Sequence[Slot], returned: Any, primals: Sequence[Any]) -> Merged:
    """Bring what `bwd` returned into the space of the primals.

    Args:
        rule: for the words of errors.
        slots: what is expected.
        returned: what the rule returned: a tuple of one tangent a slot.
        primals: the operands, or anything with their shapes and dtypes.

    Raises:
        TangentError: a wrong structure, shape or dtype, or an unknown leaf; all of them at once.
    """
    names = ", ".join(slot.name for slot in slots)
    if not isinstance(returned, (tuple, list)) or len(returned) != len(slots):
        what = type_text(returned)
        raise TangentError(
            f"the backward rule of {rule.title} must return a tuple of {len(slots)} "
            f"tangent{'' if len(slots) == 1 else 's'}, one for each of: {names}; it returned {what}"
        )
    walk = _Walk(primals)
    for slot, tangent in zip(slots, returned, strict=True):
        walk.compare(slot.expected, tangent, slot.name, False)
    if walk.problems:
        raise _error(rule, walk.problems)
    for operand in walk.merged.tangents:
        walk.merged.missing.pop(operand, None)
    return walk.merged


def missing_error(rule: Rule, missing: Mapping[int, str], primals: Sequence[Any]) -> TangentError:
    """Make the error for leaves that the rule did not give."""
    problems = [
        f"{where}: expected {type_text(primals[operand])}, but it is missing"
        for operand, where in missing.items()
    ]
    return _error(
        rule,
        problems,
        "help: return None for a leaf whose tangent is zero, or write missing=zero or "
        "missing=autodiff in the annotation",
    )


def _error(rule: Rule, problems: Sequence[str], advice: str = "") -> TangentError:
    lines = "".join(f"\n  {problem}" for problem in problems)
    end = f"\n{advice}" if advice else ""
    return TangentError(f"the tangents of {rule.title} do not fit their primals:{lines}{end}")


@dataclasses.dataclass
class _Walk:
    primals: Sequence[Any]
    merged: Merged = dataclasses.field(default_factory=Merged)
    problems: list[str] = dataclasses.field(default_factory=list)

    def compare(self, expected: Any, given: Any, path: str, optional: bool) -> None:
        """Compare one subtree; `optional`: its leaves may be missing."""
        if isinstance(expected, Variables):
            self._mapping(expected.collections, given, path, True, ": ")
        elif isinstance(expected, Handle):
            self._leaf(expected, given, path)
        elif given is None:
            self._zero(expected)
        elif isinstance(expected, Mapping):
            self._mapping(expected, given, path, optional, ".")
        else:
            self._node(expected, given, path, optional)

    def _zero(self, expected: Any) -> None:
        for handle in handles(expected):
            if handle.operand is not None:
                self._add(handle.operand, None)

    def _add(self, operand: int, tangent: Any) -> None:
        known = self.merged.tangents.get(operand)
        if known is not None and tangent is not None:
            tangent = add(known, tangent)
        self.merged.tangents[operand] = known if tangent is None else tangent

    def _mapping(
        self, expected: Mapping[Any, Any], given: Any, path: str, optional: bool, joint: str
    ) -> None:
        if given is None:
            self._zero(expected)
            return
        if not isinstance(given, Mapping):
            self.problems.append(
                f"{path}: expected {_structure_text(expected)}, not {type_text(given)}"
            )
            return
        for key in given:
            if key not in expected and jax.tree_util.tree_leaves(given[key]):
                known = ", ".join(map(str, expected)) or "nothing"
                self.problems.append(f"{path}{joint}{key}: unknown; expected {known}")
        for key, part in expected.items():
            inner = f"{path}{joint}{key}"
            if key in given:
                self.compare(part, given[key], inner, optional)
            else:
                self._absent(part, inner, optional)

    def _absent(self, expected: Any, path: str, optional: bool) -> None:
        for where, handle in _labelled(expected):
            if handle.operand is None or not is_differentiable(self.primals[handle.operand]):
                continue
            if optional:
                self.merged.missing.setdefault(handle.operand, below(path, where))
            else:
                primal = type_text(self.primals[handle.operand])
                self.problems.append(f"{below(path, where)}: expected {primal}, but it is missing")

    def _node(self, expected: Any, given: Any, path: str, optional: bool) -> None:
        """Compare a container that is no dict: a tuple, list, box or dataclass."""
        parts = _children(expected)
        if type(given) is not type(expected):
            if len(parts) == 1 and optional and hasattr(given, "dtype"):
                self.compare(
                    parts[0][1], given, path, optional
                )  # an unboxed tangent of a boxed variable
            elif not (expected is None and not jax.tree_util.tree_leaves(given)):
                self.problems.append(
                    f"{path}: expected {_structure_text(expected)}, not {type_text(given)}"
                )
            return
        found = _children(given)
        if [key for key, _ in parts] != [key for key, _ in found]:
            self.problems.append(
                f"{path}: expected {_structure_text(expected)}, not {type_text(given)}"
            )
            return
        for (key, part), (_, tangent) in zip(parts, found, strict=True):
            self.compare(part, tangent, below(path, path_text(key)), optional)

    def _leaf(self, handle: Handle, given: Any, path: str) -> None:
        operand = handle.operand
        if operand is None:
            return  # a constant: nothing is differentiated, whatever was returned is not needed
        primal = self.primals[operand]
        if _is_numpy(given):
            # without 64-bit types NumPy's are narrower ones to JAX
            return self._leaf(handle, jnp.asarray(given), path)
        if given is None or isinstance(given, SymbolicZero) or _is_float0(given):
            if given is not None and is_differentiable(primal) and not _is_zero_of(given, primal):
                self._mismatch(primal, given, path)
                return
            self._add(operand, None)
        elif not is_differentiable(primal):
            if getattr(given, "dtype", None) != primal.dtype or given.shape != primal.shape:
                self.problems.append(
                    f"{path}: expected None or float0 for a primal of {type_text(primal)}, "
                    f"not {type_text(given)}"
                )
            self._add(operand, None)
        elif type(given) in (int, float, complex) and primal.shape == ():
            if isinstance(given, complex) and not jnp.issubdtype(primal.dtype, np.complexfloating):
                self._mismatch(primal, given, path)
            else:
                self._add(operand, number(given, primal))
        elif given_shape(given) != primal.shape or getattr(given, "dtype", None) != primal.dtype:
            self._mismatch(primal, given, path)
        elif mesh := mesh_mismatch(primal, given):
            self.problems.append(f"{path}: {mesh}")
        else:
            self._add(operand, _of_type(given, primal))

    def _mismatch(self, primal: Any, given: Any, path: str) -> None:
        self.problems.append(f"{path}: expected {type_text(primal)}, not {type_text(given)}")


def _of_type(tangent: Any, primal: Any) -> Any:
    """Make a JAX array of a tangent that fits; no weak one of a primal that is not.

    A weak gradient would take on other dtypes where its primal does not.
    """
    if isinstance(tangent, (np.ndarray, np.generic)):
        return jnp.asarray(tangent)
    if getattr(tangent, "weak_type", False) and not primal.weak_type:
        return jax.lax.convert_element_type(tangent, primal.dtype)
    return tangent


def add(first: Any, second: Any) -> Any:
    """Add two tangents of one primal as JAX does: what that means is up to an extended dtype."""
    if not is_extended(first):
        return first + second
    _, pullback = jax.vjp(lambda x: (x, x), first)
    return pullback((first, second))[0]


def mesh_mismatch(kind: Any, given: Any) -> str:
    """Say how an array's type differs over the mesh; "" where JAX takes it as it is.

    Under `shard_map` an array's type says over which mesh axes it varies, on meshes of explicit
    axes how it is sharded; JAX wants a tangent of its primal's type in both.

    Source: https://docs.jax.dev/en/latest/notebooks/shard_map.html
    """
    found = jax.typeof(given)
    if found == kind:
        return ""
    wanted, varying = _varying(kind), _varying(found)
    if varying - wanted:
        names = ", ".join(map(repr, sorted(varying - wanted)))
        advice = f"sum it over the mesh: jax.lax.psum(tangent, ({names},))"
    elif wanted - varying:
        names = ", ".join(map(repr, sorted(wanted - varying)))
        advice = f"make it vary over the mesh, as its primal does: over ({names},)"
    elif _sharded_otherwise(kind, found):
        advice = "shard it as its primal: jax.sharding.reshard, or out_sharding where it is made"
    else:
        return ""
    return f"expected {kind}, not {found}; {advice}"


def _varying(kind: Any) -> frozenset[Any]:
    """Return the mesh axes that an array varies over under `shard_map`."""
    axes = getattr(kind, "vma", None)  # as jax names it before 0.10
    if axes is None:
        axes = getattr(getattr(kind, "manual_axis_type", None), "varying", ())
    return frozenset(axes)


def _sharded_otherwise(kind: Any, found: Any) -> bool:
    """Tell whether two arrays lie on meshes of explicit axes in different ways."""
    wanted, spec = _explicit_spec(kind), _explicit_spec(found)
    return wanted is not None and spec is not None and wanted != spec


def _explicit_spec(kind: Any) -> Any:
    """Return how an array is sharded over a mesh of explicit axes; None on any other."""
    sharding: Any = getattr(kind, "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    if mesh is None or jax.sharding.AxisType.Explicit not in mesh.axis_types:
        return None
    return sharding.spec


def given_shape(value: Any) -> Any:
    """Return a tangent's shape; None for what has none."""
    return getattr(value.aval if isinstance(value, SymbolicZero) else value, "shape", None)


def _is_zero_of(given: Any, primal: Any) -> bool:
    """Tell whether a zero without an array is one of the primal's shape, and of no other dtype."""
    kind: Any = given.aval if isinstance(given, SymbolicZero) else given
    return kind.shape == primal.shape and kind.dtype in (primal.dtype, jax.dtypes.float0)


def _is_numpy(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and is_array(value)


def _is_float0(value: Any) -> bool:
    return getattr(value, "dtype", None) == jax.dtypes.float0


def _children(node: Any) -> list[tuple[Any, Any]]:
    """Return the children of a pytree node, one level deep, each with its key path."""
    if node is None:
        return []
    return jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda item: item is not node)[0]


def _labelled(expected: Any) -> Iterator[tuple[str, Handle]]:
    """Yield the handles below a subtree, each with its path as text."""
    if isinstance(expected, Variables):
        expected = expected.collections
    for path, leaf in jax.tree_util.tree_flatten_with_path(expected)[0]:
        words = path_text(path)
        if isinstance(leaf, Variables):
            for inner, handle in _labelled(leaf):
                yield below(words, inner), handle
        else:
            yield words, leaf


def handles(expected: Any) -> Iterator[Handle]:
    """Yield the handles of a slot's tree."""
    return (handle for _, handle in _labelled(expected))


def fill(slots: Sequence[Slot], tangents: Mapping[int, Any], primals: Sequence[Any]) -> list[Any]:
    """Build the slots' tangents from tangents by operand: the reverse of `merge`.

    An operand that stands in several places, as a parameter of a module that is reached by two
    ways, gives its tangent at the first and zeros at the others: their sum is what it is.
    """
    left = dict(tangents)

    def leaf(node: Any) -> Any:
        if isinstance(node, Variables):
            return jax.tree_util.tree_map(leaf, node.collections)
        if node.operand is None:
            return constant_tangent(node.constant)
        primal = primals[node.operand]
        if not is_differentiable(primal):
            return np.zeros(primal.shape, jax.dtypes.float0)
        return left.pop(node.operand) if node.operand in left else zeros(primal)

    return [jax.tree_util.tree_map(leaf, slot.expected) for slot in slots]


def constant_tangent(constant: Any) -> Any:
    """Return the zero that JAX has for a value that is not traced; None for what is no number."""
    if isinstance(constant, (bool, int, np.bool_)):
        return np.zeros((), jax.dtypes.float0)
    return type(constant)(0) if type(constant) in (float, complex) else None


def instantiate(tangent: Any) -> Any:
    """Turn a symbolic zero into an array of zeros."""
    return zeros(tangent.aval) if isinstance(tangent, SymbolicZero) else tangent


def number(value: complex, kind: Any) -> Any:
    """Make a Python number a scalar of a JAX type, weakly typed where that is."""
    plain = jnp.asarray(value, kind.dtype)
    if getattr(kind, "weak_type", False):
        weak = jnp.asarray(np.dtype(kind.dtype).type(value).item())
        plain = weak if weak.dtype == kind.dtype else plain
    return plain if jax.typeof(plain) == kind else zeros(kind) + plain


def zeros(kind: Any) -> Any:
    """Make zeros of a JAX type, the mesh axes that it varies over or is sharded over included."""
    if kind.dtype == jax.dtypes.float0:
        return np.zeros(kind.shape, jax.dtypes.float0)
    plain = jnp.zeros(kind.shape, kind.dtype)
    if jax.typeof(plain) == kind:
        return plain
    return jax.linear_transpose(lambda _: (), kind)(())[0]  # JAX's own zero of that type
