"""One call of a lifted function: split, run, merge, publish.

A `Split` holds a call's arrays as operands and everything else as plain Python. Its runs (primal,
forward, backward) rebuild the caller's arguments and modules around whatever arrays
`jax.custom_vjp` hands in, so no run sees a value of the caller's trace.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.core.scope import in_filter, is_filter_empty
from flax.errors import TransformedMethodReturnValueError
from flax.linen.module import Module, Variable
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from vjpgen.runtime.closures import Captures
from vjpgen.runtime.errors import DroppedTangentWarning, TangentError
from vjpgen.runtime.leaves import (
    Bound,
    Constant,
    Operand,
    Operands,
    Packed,
    is_array,
    is_differentiable,
    pack,
    unpack,
)
from vjpgen.runtime.liveness import depends_on
from vjpgen.runtime.modules import (
    BuiltModules,
    ModuleSet,
    ambient,
    ambient_module,
    attribute_modules,
    method_context,
    unwrap_handler,
)
from vjpgen.runtime.recursion import marks, own_rules_of
from vjpgen.runtime.rule import Form, Rule, Slots
from vjpgen.runtime.scopes import map_skeleton
from vjpgen.runtime.snapshots import Snapshot
from vjpgen.runtime.tangents import (
    Handle,
    Slot,
    Variables,
    fill,
    handles,
    instantiate,
    merge,
    missing_error,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a run made, without its arrays.

    Args:
        output: the function's output, packed; its operands count the run's flat outputs.
        variables: for each root scope its mutable collections, packed likewise.
        width: the number of flat outputs that belong to `output`.
        labels: for each flat output the words that name it.
        unchanged: flat outputs that are an operand as it came in.
        counters: rng counters of the root scopes after the run.
        states: Flax's ephemeral state of each module after the run.
    """

    output: Packed
    variables: list[Any]
    width: int
    labels: list[str]
    unchanged: dict[int, int]
    counters: list[Any]
    states: list[Any]


@dataclasses.dataclass
class _Made:
    """Where a run leaves its outcome, for whom asks after the run."""

    outcome: Outcome | None = None

    def get(self) -> Outcome:
        assert self.outcome is not None, "the run has not returned its outputs"
        return self.outcome


class Split:
    """One call of a lifted function, split into operands and plain Python.

    Args:
        rule: the rule of the function.
        slots: the arguments, one for each parameter.
        form: how the function was called.
    """

    def __init__(self, rule: Rule, slots: Slots, form: Form) -> None:
        self.rule = rule
        self.form = form
        self._operands = Operands()
        self._modules = ModuleSet(self._operands)
        self._slots = [
            pack(slot, self._operands, name, self._modules.bind)
            for name, slot in zip(rule.signature.parameters, slots, strict=True)
        ]
        self._marks = marks(rule, self._bound_originals())
        self._captures = Captures(self._operands, self._modules)
        self._captures.scan(rule.primal)
        self._forward = self._resolve(rule.forward, slots)
        self._backward = self._resolve(rule.backward, slots)
        self._ambient = self._modules.find(ambient_module())
        self._modules.split()
        self._expected = self._slot_trees()
        self._slotted = {
            handle.operand for slot in self._expected for handle in handles(slot.expected)
        }
        self.types = tuple(_type_of(array) for array in self._operands.arrays)
        self._latest: Outcome | None = None

    @property
    def operands(self) -> tuple[Any, ...]:
        """The arrays of the call: arguments, variables, rng keys, captured values."""
        return tuple(self._operands.arrays)

    def custom_vjp(self, primal: Callable[..., Any]) -> CustomVjp:
        """Make the `jax.custom_vjp` of this call."""
        return CustomVjp(self, primal)

    @contextlib.contextmanager
    def primal(self, operands: Sequence[Any]) -> Iterator[PrimalRun]:
        """Run the primal on `operands`."""
        operands = _as_arrays(operands)
        with self._open(operands, {}) as built:
            yield PrimalRun(self, operands, built)

    @contextlib.contextmanager
    def forward(self, operands: Sequence[Any]) -> Iterator[ForwardRun]:
        """Run the forward rule on `operands`; the function called inside it is its primal."""
        perturbed = None
        if self.symbolic_zeros:
            perturbed = [operand.perturbed for operand in operands]
            operands = [operand.value for operand in operands]
        operands = _as_arrays(operands)
        self._report_dropped(operands, perturbed)
        with (
            own_rules_of(self.rule, bool(self._marks) or self._forward is None),
            self._open(operands, self._marks) as built,
        ):
            yield ForwardRun(self, operands, built, perturbed)

    @contextlib.contextmanager
    def backward(self, saved: Saved, cotangents: Sequence[Any]) -> Iterator[BackwardRun]:
        """Run the backward rule on what the forward run saved and the outputs' cotangents."""
        with own_rules_of(self.rule, bool(self._marks)):
            yield BackwardRun(self, saved, cotangents)

    def merge(self, outputs: Sequence[Any]) -> tuple[Any, Any]:
        """Join the flat outputs with their static parts: the output, and the state to publish."""
        outcome = self._latest
        assert outcome is not None, "the lifted function returned without having run"
        variables = [
            {name: map_skeleton(lambda p: unpack(p, outputs), tree) for name, tree in scope.items()}
            for scope in outcome.variables
        ]
        return unpack(outcome.output, outputs), (variables, outcome.counters, outcome.states)

    def publish(self, state: Any) -> None:
        """Write updated variables, rng counters and names back to the caller's modules."""
        self._modules.publish(*state)

    # -- what the call can differentiate -----------------------------------------------------

    @property
    def symbolic_zeros(self) -> bool:
        """Whether JAX has to tell which values are differentiated."""
        if self.rule.symbolic_zeros:
            return True
        if self.rule.missing == "zero" or self.rule.optimize_remat:
            return False
        return bool(self.unslotted) or self._may_update

    @property
    def _may_update(self) -> bool:
        return any(not is_filter_empty(root.scope.mutable) for root in self._modules.roots)

    @property
    def unslotted(self) -> list[int]:
        """The differentiable operands that the rule has no slot for."""
        return [
            index
            for index, array in enumerate(self.types)
            if index not in self._slotted and is_differentiable(array)
        ]

    @property
    def autodiff(self) -> bool:
        """Whether the primal's autodiff fills in what the rule does not give."""
        return self.rule.missing == "autodiff"

    def _report_dropped(self, operands: Sequence[Any], perturbed: list[bool] | None) -> None:
        if perturbed is None or self.rule.missing not in (None, "error"):
            return
        suspects = [index for index in self.unslotted if perturbed[index]]
        if suspects:
            suspects = depends_on(self._flat_output, operands, suspects)
        if suspects:
            self.complain([self._operands.labels[index] for index in suspects], "differentiated")

    def complain(self, labels: Sequence[str], what: str) -> None:
        """Warn of, or raise, tangents that the rule drops."""
        names = ", ".join(dict.fromkeys(labels))
        message = (
            f"{self.rule.title} drops the gradient of {names}: {what}, but the rule has no slot "
            "for it, so its gradient is zero; pass it as an argument, name its collection in "
            "grad_vars, or write missing=autodiff or missing=zero in the annotation"
        )
        if self.rule.missing == "error":
            raise TangentError(message)
        warnings.warn(message, DroppedTangentWarning, stacklevel=2)

    def _flat_output(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The primal's differentiable outputs, flat."""
        with self.primal(operands) as run:
            flat = run.outputs(run.call(*run.arguments))
            width = run.made.get().width
            return tuple(x for x in flat[:width] if is_differentiable(x))

    # -- building ----------------------------------------------------------------------------

    def _resolve(self, reference: Any, slots: Slots) -> _RuleFunction | None:
        if reference is None:
            return None
        function = self.rule.resolve(reference, slots)
        method = isinstance(reference, str) and not isinstance(function, staticmethod)
        if isinstance(function, staticmethod):
            function = function.__func__
        function = unwrap_handler(function)
        return _RuleFunction(function, method, self._captures.scan(function))

    def _bound_originals(self) -> list[Any]:
        found = []
        for packed in self._slots:
            for entry in packed.entries:
                if isinstance(entry, Bound):
                    bound = self._modules.entries[entry.index]
                    assert bound is not None
                    found.append(bound.scope)
        return found

    @contextlib.contextmanager
    def _open(self, operands: Sequence[Any], flags: Mapping[str, Any]) -> Iterator[BuiltModules]:
        built = self._modules.build(operands, flags)
        outer = built.modules[self._ambient] if self._ambient is not None else None
        try:
            with ambient(outer):
                yield built
        finally:
            built.invalidate()

    def build_slots(self, operands: Sequence[Any], built: BuiltModules) -> list[Any]:
        """Build the arguments, one a parameter."""
        return [unpack(packed, operands, built.modules.__getitem__) for packed in self._slots]

    def rebuild(self, function: Any, operands: Sequence[Any], built: Sequence[Any]) -> Any:
        """Return `function` with this run's values in place of what it captured."""
        return self._captures.rebuild(function, operands, built)

    def _slot_trees(self) -> list[Slot]:
        """Build for each slot the tree that says where tangents belong."""
        trees = [
            jax.tree_util.tree_unflatten(packed.structure, [self._handle(e) for e in packed.entries])
            for packed in self._slots
        ]
        return [
            Slot(name, tree)
            for name, tree, nondiff in self.rule.arguments(tuple(trees))
            if not nondiff
        ]

    def _handle(self, entry: Operand | Constant | Bound) -> Any:
        if isinstance(entry, Operand):
            return Handle(entry.index)
        if isinstance(entry, Constant):
            return Handle(None, entry.value)
        return Variables(self._collections(entry.index))

    def _collections(self, index: int) -> dict[str, Any]:
        """Build the tree of a module's `grad_vars` collections, shared modules included."""
        root, path = self._modules.places[index]
        found: dict[str, Any] = {}
        for name, tree in self._modules.roots[root].variables.items():
            if in_filter(self.rule.grad_vars, name):
                for step in path:
                    tree = tree.get(step, {}) if isinstance(tree, dict) else {}
                found[name] = map_skeleton(self._handles, tree)
        entry = self._modules.entries[index]
        assert entry is not None
        for attribute, other in attribute_modules(entry):
            place = self._modules.places[other]
            if place[0] != root or place[1][: len(path)] != path:
                for name, tree in self._collections(other).items():
                    found.setdefault(name, {})[attribute] = tree
        return found

    def _handles(self, packed: Packed) -> Any:
        return jax.tree_util.tree_unflatten(
            packed.structure, [self._handle(entry) for entry in packed.entries]
        )

    @property
    def slots(self) -> list[Slot]:
        """The tangent slots."""
        return self._expected

    @property
    def nondiff(self) -> list[Packed]:
        """The arguments without a slot, in order."""
        packed = []
        trees = [
            jax.tree_util.tree_unflatten(slot.structure, list(slot.entries)) for slot in self._slots
        ]
        for _, tree, nondiff in self.rule.arguments(tuple(trees)):
            if nondiff:
                leaves, structure = jax.tree_util.tree_flatten(tree)
                packed.append(Packed(structure, tuple(leaves)))
        return packed


@dataclasses.dataclass(frozen=True, eq=False)
class _RuleFunction:
    """A forward or backward rule: the function, whether it is a method, what it captured."""

    function: Callable[..., Any]
    method: bool
    captured: frozenset[int]


def _as_arrays(operands: Sequence[Any]) -> Sequence[Any]:
    """Turn Python numbers, which eager differentiation hands on as they are, into arrays."""
    return [x if is_array(x) else jax.numpy.asarray(x) for x in operands]


def _type_of(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


class CustomVjp:
    """A thin `jax.custom_vjp` that takes its options from the split."""

    def __init__(self, split: Split, primal: Callable[..., Any]) -> None:
        self._split = split
        name = split.rule.name
        primal.__name__ = name
        primal.__qualname__ = f"{name} (primal)"
        self._function = jax.custom_vjp(primal)

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Set the forward and backward function."""
        name = self._split.rule.name
        for function, role in ((forward, "forward"), (backward, "backward")):
            function.__name__ = f"{name}_{role}"
            function.__qualname__ = f"{name} ({role})"
        self._function.defvjp(
            forward,
            backward,
            symbolic_zeros=self._split.symbolic_zeros,
            optimize_remat=self._split.rule.optimize_remat,
        )

    def __call__(self, *operands: Any) -> Any:
        """Call the function; returns its flat outputs."""
        return self._function(*operands)


class PrimalRun:
    """A run of the primal."""

    def __init__(self, split: Split, operands: Sequence[Any], built: BuiltModules) -> None:
        self._split = split
        self._operands = operands
        self._built = built
        self.made = _Made()

    @property
    def arguments(self) -> list[Any]:
        """The arguments, one a parameter, rebuilt around this run's operands."""
        return self._split.build_slots(self._operands, self._built)

    def call(self, *slots: Any) -> Any:
        """Call the primal."""
        args, kwargs = self._split.rule.spread(slots, self._split.form)
        primal = self._split.rebuild(
            self._split.rule.primal, self._operands, self._built.modules
        )
        return primal(*args, **kwargs)

    def outputs(self, output: Any) -> tuple[Any, ...]:
        """Flatten the output and the updated variables into what `jax.custom_vjp` returns."""
        flat = Operands()
        packed = pack(output, flat, "output")
        for entry in packed.entries:
            if isinstance(entry, Constant) and isinstance(entry.value, (Module, Variable)):
                raise TransformedMethodReturnValueError(self._split.rule.name)
        width = len(flat.arrays)
        variables = [
            {
                name: _pack_variables(tree, flat, name)
                for name, tree in scope.items()
            }
            for scope in self._built.variables()
        ]
        incoming = {id(array): index for index, array in enumerate(self._operands)}
        self.made.outcome = Outcome(
            packed,
            variables,
            width,
            flat.labels,
            {
                place: incoming[id(array)]
                for place, array in enumerate(flat.arrays)
                if place >= width and id(array) in incoming
            },
            self._built.counters(),
            self._built.states(),
        )
        self._split._latest = self.made.outcome
        return tuple(flat.arrays)


def _pack_variables(value: Any, flat: Operands, label: str) -> Any:
    if isinstance(value, dict):
        return {key: _pack_variables(item, flat, f"{label}.{key}") for key, item in value.items()}
    return pack(value, flat, label)


class ForwardRun(PrimalRun):
    """A run of the forward rule."""

    def __init__(
        self,
        split: Split,
        operands: Sequence[Any],
        built: BuiltModules,
        perturbed: list[bool] | None,
    ) -> None:
        super().__init__(split, operands, built)
        self._perturbed = perturbed
        self._slots: list[Any] | None = None
        self._inner: tuple[tuple[Any, ...], Outcome] | None = None
        self._all_vjp: Any = None

    @property
    def arguments(self) -> list[Any]:
        """The arguments; with `symbolic_zeros` each array is a `CustomVJPPrimal`."""
        operands = self._operands
        if self._split.rule.symbolic_zeros:
            assert self._perturbed is not None
            operands = [
                CustomVJPPrimal(value, flag)
                for value, flag in zip(operands, self._perturbed, strict=True)
            ]
            slots = self._split.build_slots(operands, self._built)
            return jax.tree_util.tree_map(_as_primal, slots)
        return self._split.build_slots(operands, self._built)

    def fwd(self, *slots: Any) -> tuple[Any, Any]:
        """Call the annotation's forward rule: the output and the residuals."""
        rule = self._split.rule
        forward = self._split._forward
        assert forward is not None
        function = self._split.rebuild(forward.function, self._operands, self._built.modules)
        args, kwargs = rule.spread(slots)
        owner = slots[0] if forward.method else None
        with method_context(owner, forward.function):
            pair = function(*args, **kwargs)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"the forward rule of {rule.title} must return a pair, the output and the "
                f"residuals; it returned {type(pair).__name__}"
            )
        if self._split.autodiff:
            self._all_vjp, _, _ = self._differentiate(everything=True)
        return pair[0], pair[1]

    def vjp(self, *slots: Any) -> tuple[Any, VjpFunction]:
        """Run the primal through `jax.vjp`: the output, and the vjp function as residual.

        Source: https://docs.jax.dev/en/latest/_autosummary/jax.vjp.html
        """
        del slots  # the run's own arguments
        pullback, flat, outcome = self._differentiate(everything=self._split.autodiff)
        self._inner = flat, outcome
        if self._split.autodiff:
            self._all_vjp = pullback
        function = VjpFunction(pullback, _VjpSpec(self._split, outcome))
        return unpack(outcome.output, flat), function

    def _differentiate(self, everything: bool) -> tuple[Pullback, tuple[Any, ...], Outcome]:
        """Take the primal's vjp: of the slots alone, or of all operands and updated variables."""
        split = self._split
        arrays = list(self._operands)
        chosen = [
            index
            for index, array in enumerate(arrays)
            if is_differentiable(array) and (everything or index in split._slotted)
        ]
        outcomes: list[Outcome] = []

        def function(inputs: list[Any]) -> Any:
            full = list(arrays)
            for index, value in zip(chosen, inputs, strict=True):
                full[index] = value
            with split.primal(full) as run:
                flat = run.outputs(run.call(*run.arguments))
                outcomes.append(run.made.get())
                width = outcomes[-1].width
                return (flat, ()) if everything else (flat[:width], flat[width:])

        out, raw, rest = jax.vjp(function, [arrays[i] for i in chosen], has_aux=True)
        types = tuple(_type_of(x) for x in out)
        return Pullback(raw, tuple(chosen), types), (*out, *rest), outcomes[-1]

    def outputs(self, output: Any) -> tuple[Any, ...]:
        """Flatten the output and the updated variables."""
        if self._inner is not None:  # the default forward rule: the run inside made both
            flat, self.made.outcome = self._inner
            self._split._latest = self.made.outcome
            return flat
        return super().outputs(output)

    def residuals(self, residuals: Any) -> Saved:
        """Keep the residuals, and what the backward run needs besides, for `jax.custom_vjp`."""
        split = self._split
        kept = Operands()
        packed = pack(_with_snapshots(residuals), kept, "residual")
        wanted: set[int] = set(split._backward.captured) if split._backward else set()
        for nondiff in split.nondiff:
            wanted.update(e.index for e in nondiff.entries if isinstance(e, Operand))
        snapshot = None
        if split._backward is not None and split._backward.method:
            before = split._modules.build(self._operands, {}, writable=False)
            snapshot = pack(
                Snapshot.take(split.build_slots(self._operands, before)[0]), kept, "snapshot"
            )
        places = {index: kept.add(self._operands[index], "").index for index in sorted(wanted)}
        everything = None
        if self._all_vjp is not None:
            everything = pack(self._all_vjp, kept, "autodiff")
        meta = _SavedMeta(packed, places, snapshot, everything, self.made, len(kept.arrays))
        return Saved(tuple(kept.arrays), meta)


def _as_primal(leaf: Any) -> Any:
    """Wrap a Python number as JAX does under `symbolic_zeros`; it is not differentiated."""
    number = isinstance(leaf, (int, float, complex)) and not isinstance(leaf, bool)
    return CustomVJPPrimal(leaf, False) if number else leaf


def _with_snapshots(residuals: Any) -> Any:
    """Replace bound modules among the residuals by snapshots that the backward run opens."""

    def leaf(value: Any) -> Any:
        if isinstance(value, Module) and value.scope is not None:
            return _SnapshotLeaf(Snapshot.take(value))
        return value

    return jax.tree_util.tree_map(leaf, residuals)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class _SnapshotLeaf:
    """A module among the residuals."""

    snapshot: Snapshot

    def tree_flatten(self) -> Any:
        return (self.snapshot,), None

    @classmethod
    def tree_unflatten(cls, _: Any, children: Any) -> _SnapshotLeaf:
        return cls(children[0])


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Pullback:
    """A vjp function over flat operands.

    Args:
        function: what `jax.vjp` returned.
        chosen: the operands that it differentiates.
        types: shape and dtype of each cotangent.
    """

    function: Any
    chosen: tuple[int, ...]
    types: tuple[Any, ...]

    def __call__(self, cotangents: Sequence[Any]) -> dict[int, Any]:
        """Return the tangents by operand."""
        (tangents,) = self.function(
            tuple(_cotangent(c, t) for c, t in zip(cotangents, self.types, strict=True))
        )
        return dict(zip(self.chosen, tangents, strict=True))

    def tree_flatten(self) -> Any:
        return (self.function,), (self.chosen, self.types)

    @classmethod
    def tree_unflatten(cls, meta: Any, children: Any) -> Pullback:
        return cls(children[0], *meta)


def _cotangent(value: Any, kind: Any) -> Any:
    if not is_differentiable(kind):
        return np.zeros(kind.shape, jax.dtypes.float0)
    return jax.numpy.zeros(kind.shape, kind.dtype) if value is None else instantiate(value)


@dataclasses.dataclass(frozen=True, eq=False)
class _VjpSpec:
    split: Split
    outcome: Outcome


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class VjpFunction:
    """The vjp function of the default forward rule: a pytree, so that it can be a residual.

    Called with the output's cotangent it returns one tangent a slot: the module's is a dict of
    collections, as from `flax.linen.vjp`.
    """

    pullback: Pullback
    spec: _VjpSpec

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        """Return `(variable_tangents, *input_tangents)` for the output's cotangent."""
        split, outcome = self.spec.split, self.spec.outcome
        flat = _flat_cotangents(split, outcome, cotangent)
        flat += [None] * (len(self.pullback.types) - len(flat))
        tangents = self.pullback(flat)
        primals = split.types
        return tuple(fill(slot.expected, tangents, primals) for slot in split.slots)

    def tree_flatten(self) -> Any:
        return (self.pullback,), self.spec

    @classmethod
    def tree_unflatten(cls, spec: Any, children: Any) -> VjpFunction:
        return cls(children[0], spec)


def _flat_cotangents(split: Split, outcome: Outcome, cotangent: Any) -> list[Any]:
    """Flatten the output's cotangent; None stands for a subtree of zeros."""
    structure = outcome.output.structure
    if cotangent is None:
        return [None] * outcome.width
    try:
        leaves = structure.flatten_up_to(cotangent)
    except ValueError:
        raise TangentError(
            f"{split.rule.title}: the vjp function was called with a cotangent of another "
            "structure than the output's"
        ) from None
    return [
        leaf
        for leaf, entry in zip(leaves, outcome.output.entries, strict=True)
        if isinstance(entry, Operand)
    ]


@dataclasses.dataclass(frozen=True, eq=False)
class _SavedMeta:
    residuals: Packed
    places: dict[int, int]
    snapshot: Packed | None
    everything: Packed | None
    made: _Made
    size: int

    def __eq__(self, other: object) -> bool:
        # JAX may trace the forward run more than once and wants equal structures: runs of one
        # split that save equally many arrays are.
        return isinstance(other, _SavedMeta) and self.size == other.size

    def __hash__(self) -> int:
        return hash(self.size)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Saved:
    """What a forward run leaves for the backward run."""

    arrays: tuple[Any, ...]
    meta: _SavedMeta

    def tree_flatten(self) -> Any:
        return self.arrays, self.meta

    @classmethod
    def tree_unflatten(cls, meta: Any, children: Any) -> Saved:
        return cls(tuple(children), meta)


class BackwardRun:
    """A run of the backward rule."""

    def __init__(self, split: Split, saved: Saved, cotangents: Sequence[Any]) -> None:
        self._split = split
        self._saved = saved
        self._cotangents = list(cotangents)

    @property
    def residuals(self) -> Any:
        """The residuals as the forward rule returned them; a module comes back read-only."""
        restored = unpack(self._saved.meta.residuals, self._saved.arrays)
        return jax.tree_util.tree_map(
            lambda x: x.snapshot.module() if isinstance(x, _SnapshotLeaf) else x,
            restored,
            is_leaf=lambda x: isinstance(x, _SnapshotLeaf),
        )

    @property
    def tangents(self) -> Any:
        """The output's tangent, in the output's structure; None for what is not an array."""
        outcome = self._saved.meta.made.get()
        symbolic = self._split.rule.symbolic_zeros
        leaves = []
        for entry in outcome.output.entries:
            if isinstance(entry, Operand):
                value = self._cotangents[entry.index]
                leaves.append(value if symbolic else instantiate(value))
            else:
                leaves.append(None)
        return jax.tree_util.tree_unflatten(outcome.output.structure, leaves)

    @property
    def nondiff(self) -> list[Any]:
        """The arguments without a slot, in order."""
        arrays = _Lookup(self._restored())
        return [unpack(packed, arrays, _Gone().__getitem__) for packed in self._split.nondiff]

    def _restored(self) -> dict[int, Any]:
        saved = self._saved
        return {index: saved.arrays[place] for index, place in saved.meta.places.items()}

    def bwd(self, *arguments: Any) -> Any:
        """Call the backward rule; a method receives a read-only snapshot of its module."""
        backward = self._split._backward
        assert backward is not None
        meta = self._saved.meta
        if meta.snapshot is None:
            function = self._split.rebuild(backward.function, _Lookup(self._restored()), _Gone())
            return function(*arguments)
        snapshot: Snapshot = unpack(meta.snapshot, self._saved.arrays)
        module = snapshot.module(self._split._marks)
        with method_context(module, backward.function):
            return backward.function(module, *arguments)

    def tangent_operands(self, returned: Any) -> tuple[Any, ...]:
        """Merge what the rule returned into one tangent an operand; None is zero.

        Raises:
            TangentError: what was returned does not fit, or lacks a leaf and the rule is strict.
        """
        split, rule = self._split, self._split.rule
        primals = split.types
        merged = merge(rule, split.slots, returned, primals)
        if merged.missing and rule.missing in (None, "error"):
            raise missing_error(rule, merged.missing, primals)
        tangents: list[Any] = [merged.tangents.get(index) for index in range(len(primals))]
        outcome = self._saved.meta.made.get()
        arrived = self._arrived(outcome)
        for place, operand in outcome.unchanged.items():
            if place in arrived:
                tangents[operand] = _sum(tangents[operand], arrived.pop(place))
        if split.autodiff:
            self._autodiff(tangents, merged.missing, arrived)
        elif arrived and rule.missing in (None, "error"):
            labels = [outcome.labels[place] for place in arrived]
            split.complain(labels, "its updated value is differentiated")
        return tuple(tangents)

    def _arrived(self, outcome: Outcome) -> dict[int, Any]:
        """The cotangents that arrive at updated variables."""
        return {
            place: value
            for place, value in enumerate(self._cotangents)
            if place >= outcome.width
            and not isinstance(value, SymbolicZero)
            and getattr(value, "dtype", None) != jax.dtypes.float0
            and (self._split.symbolic_zeros or place in outcome.unchanged)
        }

    def _autodiff(
        self, tangents: list[Any], missing: Mapping[int, str], arrived: Mapping[int, Any]
    ) -> None:
        """Fill in the primal's own tangents, those through updated variables included."""
        meta = self._saved.meta
        assert meta.everything is not None
        pullback: Pullback = unpack(meta.everything, self._saved.arrays)
        width, total = meta.made.get().width, len(self._cotangents)
        through = [arrived.get(place) for place in range(width, total)]
        wanted = {*missing, *self._split.unslotted}
        if wanted:
            found = pullback([*self._cotangents[:width], *through])
            for index in wanted:
                tangents[index] = _sum(tangents[index], found.get(index))
        if arrived:
            found = pullback([*[None] * width, *through])
            for index in set(found) - wanted:
                tangents[index] = _sum(tangents[index], found[index])


def _sum(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return second if first is None else first
    return first + second


class _Lookup:
    """Operands by index, for the few that the backward run restores."""

    def __init__(self, arrays: Mapping[int, Any]) -> None:
        self._arrays = arrays

    def __getitem__(self, index: int) -> Any:
        return self._arrays[index]


class _Gone:
    """Stands for the modules, which the backward run has none of."""

    def __getitem__(self, index: int) -> Any:
        raise TangentError(
            "the backward rule uses a module of the enclosing function; its scope is not "
            "available in the backward pass: make the rule a method, or return "
            "vjpgen.snapshot(module) as a residual"
        )
