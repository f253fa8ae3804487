"""One call of a lifted function: split, run, merge, publish.

A `Split` holds a call's arrays as operands and everything else as plain Python. Its runs (primal,
forward, backward) rebuild the caller's arguments and modules around whatever arrays
`jax.custom_vjp` hands in, so no run sees a value of the caller's trace.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import jax
from flax.core.scope import in_filter, is_filter_empty

from vjpgen.runtime import drops
from vjpgen.runtime.closures import Captures
from vjpgen.runtime.contexts import DynamicContext, is_observed, profile_scope
from vjpgen.runtime.draws import Numbers
from vjpgen.runtime.errors import AmbientNeededError, FlagsNeededError, NeededError
from vjpgen.runtime.forward_mode import forward_mode_error, is_forward_mode
from vjpgen.runtime.leaves import (
    Bound,
    Constant,
    Indexed,
    Operand,
    Operands,
    Packed,
    is_array,
    is_differentiable,
    pack,
    sealed_constants,
    unpack,
)
from vjpgen.runtime.liveness import as_analysed, depends_on, perturbed_by
from vjpgen.runtime.modules import (
    GUARD,
    BuiltModules,
    ModuleSet,
    ambient,
    ambient_module,
    attribute_modules,
    scopes_in,
    unwrap_handler,
)
from vjpgen.runtime.outcomes import Outcome, Saved, type_of
from vjpgen.runtime.recursion import marks, name_of, own_rules_of
from vjpgen.runtime.rule import Form, Rule, Slots, rebuilt_defaults
from vjpgen.runtime.runs import GONE, BackwardRun, ForwardRun, Gate, PrimalRun, TrialRun
from vjpgen.runtime.scopes import map_skeleton, unpack_skeleton
from vjpgen.runtime.sharing import Functions, plan
from vjpgen.runtime.tangents import Handle, Slot, Variables, handles


@dataclasses.dataclass(frozen=True, eq=False)
class RuleFunction:
    """A forward or backward rule: the function, whether it is a method, what it captured."""

    function: Callable[..., Any]
    method: bool
    captured: frozenset[int]


def _sealed_rule(
    function: RuleFunction | None, sealed: Callable[[Any], Any]
) -> RuleFunction | None:
    if function is None:
        return None
    return dataclasses.replace(function, function=sealed(function.function))


def _over() -> Any:
    """Stands for what only the beginning of a call needs."""
    raise AssertionError("the rule has been looked up already")


class Split:
    """One call of a lifted function, split into operands and plain Python.

    Args:
        rule: the rule of the function.
        slots: the arguments, one for each parameter.
        form: how the function was called.
        needs: what calls of the rule have turned out to need.
        captured: captured values by name, as far as the compiler saw them.
    """

    def __init__(
        self,
        rule: Rule,
        slots: Slots,
        form: Form,
        needs: frozenset[type[NeededError]],
        captured: Mapping[str, Any] | None = None,
    ) -> None:
        self.rule = rule = as_analysed(rule)
        self.form = form
        self._operands = Operands()
        self.modules = ModuleSet(self._operands)
        self.packed_slots = [
            pack(slot, self._operands, name, self.modules.bind)
            for name, slot in zip(rule.signature.parameters, slots, strict=True)
        ]
        self._marks = marks(rule, scopes_in(slots))
        self._captures = Captures(self._operands, self.modules)
        self._captures.scan(rule.primal)
        self._forward = self._resolve(rule.forward, slots)
        self._backward = self._resolve(rule.backward, slots)
        self._outer = self._take_ambient(AmbientNeededError in needs)
        self.context = DynamicContext.current()
        self.observed = bool(slots) and is_observed(rule.primal, slots[0])
        self.intercepting = self._scan_interceptors()
        self._captures.scan_constants(self.packed_slots)
        self._captures.take(captured or {}, rule)
        self._seal()
        self.modules.split()
        self.slots = self._slot_trees()
        self._slotted = {handle.operand for slot in self.slots for handle in handles(slot.expected)}
        self.types = tuple(type_of(array) for array in self._operands.arrays)
        # The last run's outcome, and whether every run leaves alone what that one has.
        self.latest: tuple[Outcome, bool] | None = None
        self.of_primal: Outcome | None = None
        self.gate = Gate()
        # In a run that shares its trace: the positions of random draws, and which module has
        # no name, as equal ones have others.
        self.numbers: Numbers | None = None
        self.nameless: int | None = None
        # What a forward run has seen: the operands that it differentiated, the keys of the
        # updated variables that depend on them.
        self.seen: tuple[frozenset[int], frozenset[Any]] | None = None
        self._live: dict[frozenset[int], frozenset[Any]] = {}
        self._said: set[tuple[str, str]] = set()
        self._flagged = FlagsNeededError in needs
        self._may_ask = not (self._flagged or rule.optimize_remat)
        # Whether rules inside may drop something; they say so themselves.
        self.holds_dropping = False
        if self.strict and self.unslotted:
            drops.tell_around()

    @property
    def operands(self) -> tuple[Any, ...]:
        """The arrays of the call: arguments, variables, rng keys, captured values."""
        return tuple(self._operands.arrays)

    def custom_vjp(self, primal: Callable[..., Any]) -> CustomVjp:
        """Make the `jax.custom_vjp` of this call."""
        return CustomVjp(self, primal)

    # -- what tells equal calls ---------------------------------------------------------------

    @property
    def functions(self) -> tuple[Any, ...]:
        """The functions that runs call: the primal, the forward and the backward rule."""
        rules = [
            None if rule is None else rule.function for rule in (self._forward, self._backward)
        ]
        return self.rule.primal, *rules

    @property
    def is_plain(self) -> bool:
        """Whether nothing watches the call, and no run changes the caller's objects meanwhile."""
        context = self.context
        return not (context.interceptors or context.captures or self._captures.in_place)

    @property
    def outer_key(self) -> Any:
        """What tells the module around the call: its index, or whether there is one."""
        return self._outer.index if isinstance(self._outer, Bound) else self._outer is None

    @functools.cached_property
    def first_module(self) -> int | None:
        """The index of the module that is the first argument, unless others hold it by its name."""
        entries = self.packed_slots[0].entries if self.packed_slots else ()
        if len(entries) != 1 or not isinstance(entries[0], Bound):
            return None
        index = entries[0].index
        is_module = self.modules.entries[index].attributes is not None
        return index if is_module and not self.modules.is_held(index) else None

    @property
    def module_name(self) -> str | None:
        """The name of the module that is the first argument, if it is one and has one."""
        return None if self.first_module is None else self.modules.name_of(self.first_module)

    def share_with(self, other: Split) -> None:
        """Use the forward run of an equal call.

        It holds that call's gate; which updates are differentiated is found out once for both.
        """
        self._live, self.gate = other._live, other.gate

    # -- runs ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def primal(self, operands: Sequence[Any]) -> Iterator[PrimalRun]:
        """Run the primal on `operands`."""
        operands = self._as_arrays(operands)
        with self._open(operands, {}) as built:
            yield PrimalRun(self, operands, built)

    @contextlib.contextmanager
    def trial(self, operands: Sequence[Any]) -> Iterator[TrialRun]:
        """Run the primal on `operands` for another purpose than the call's own outputs."""
        operands = self._as_arrays(operands)
        with self._open(operands, {}) as built:
            yield TrialRun(self, operands, built)

    @contextlib.contextmanager
    def forward(self, operands: Sequence[Any]) -> Iterator[ForwardRun]:
        """Run the forward rule on `operands`; the function called inside it is its primal."""
        perturbed = None
        if self.symbolic_zeros:
            perturbed = [operand.perturbed for operand in operands]
            operands = [operand.value for operand in operands]
        operands = self._as_arrays(operands)
        if perturbed is not None:
            self.report_dropped(operands, {i for i, flag in enumerate(perturbed) if flag})
        with (
            own_rules_of(self.rule, bool(self._marks) or self._forward is None),
            self._open(operands, self._marks) as built,
        ):
            yield ForwardRun(self, operands, built, perturbed)

    @contextlib.contextmanager
    def backward(self, saved: Saved, cotangents: Sequence[Any]) -> Iterator[BackwardRun]:
        """Run the backward rule on what the forward run saved and the outputs' cotangents."""
        run = BackwardRun(self, saved, cotangents)
        rebuild = functools.partial(self.rebuild, operands=run.restored(), built=GONE)
        with (
            own_rules_of(self.rule, bool(self._marks)),
            self.context.entered(rebuild),
            self._captures.exchanged(run.restored(), None),
        ):
            yield run

    def merge(self, outputs: Sequence[Any]) -> tuple[Any, Any]:
        """Join the flat outputs with their static parts: the output, and the state to publish."""
        assert self.latest is not None, "the lifted function returned without having run"
        if self.needs_flags:
            raise FlagsNeededError(self.rule.name)
        self._may_ask = False  # JAX may trace the forward rule later, when it is too late
        outcome, settled = self.latest
        outputs = list(outputs)
        own: set[int] = set()
        for place, operand in outcome.unchanged.items():
            # What nothing updates stays the caller's own: gradients of it do not come this way.
            if settled or operand in self._slotted:
                outputs[place] = self._operands.arrays[operand]
                own.add(place)
        outputs = drops.with_honest_tangents(self, outcome, outputs, own)
        variables = [
            {name: unpack_skeleton(tree, outputs) for name, tree in scope.items()}
            for scope in outcome.variables
        ]
        return unpack(outcome.output, outputs), (variables, outcome.counters, outcome.states)

    def publish(self, state: Any) -> None:
        """Write updated variables, rng counters and names back to the caller's modules.

        The call is over then: what it holds of the caller is let go, lest a trace that is kept
        keeps the caller's arrays.
        """
        self.modules.publish(*state)
        self.modules.release()
        self._operands.arrays.clear()

    # -- what the call can differentiate -----------------------------------------------------

    @functools.cached_property
    def symbolic_zeros(self) -> bool:
        """Whether JAX has to tell which values are differentiated."""
        if self.rule.symbolic_zeros or (self._flagged and not self.rule.optimize_remat):
            return True
        if self.rule.missing == "zero" or self.rule.optimize_remat:
            return False
        return bool(self.unslotted) or self._may_update

    @property
    def needs_flags(self) -> bool:
        """Whether the call is made again, with what only `symbolic_zeros` tells.

        The rule differentiates its primal, all slots of it. What rules inside drop then is worth
        saying only where somebody differentiates it.
        """
        differentiates = self.rule.forward is None or self.autodiff
        return self.holds_dropping and differentiates and self._may_ask and not self.symbolic_zeros

    @property
    def _may_update(self) -> bool:
        return any(not is_filter_empty(root.mutable) for root in self.modules.roots)

    @functools.cached_property
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

    @property
    def strict(self) -> bool:
        """Whether something is said about what the rule drops."""
        return self.rule.missing in (None, "error")

    def report_dropped(self, operands: Sequence[Any], perturbed: Set[int]) -> None:
        """Complain of differentiated operands without a slot that the output depends on."""
        suspects = [index for index in self.unslotted if index in perturbed] if self.strict else []
        if suspects:
            suspects = depends_on(self._flat_output, operands, suspects)
        labels = [self._operands.labels[index] for index in suspects]
        self._say(drops.without_slot, labels, self._grad_vars_hint())

    def report_arrived(self, outcome: Outcome, places: Sequence[int]) -> None:
        """Complain of tangents that arrived at updated variables."""
        self._say(drops.through_updates, [outcome.labels[place] for place in places])

    def _say(self, kind: Callable[..., drops.Complaint], labels: Sequence[str], *more: str) -> None:
        fresh = [label for label in labels if (kind.__name__, label) not in self._said]
        # Not noted where it raises or is only collected: it is said again then.
        if fresh and kind(self.rule, fresh, *more).say():
            self._said.update((kind.__name__, label) for label in fresh)

    def live_updates(
        self, outcome: Outcome, operands: Sequence[Any], perturbed: frozenset[int]
    ) -> set[int]:
        """Return which variables are differentiated where the operands `perturbed` are."""
        live = {place for place, operand in outcome.unchanged.items() if operand in perturbed}
        updates = outcome.updates
        if updates and self.rule.missing != "zero":
            if perturbed not in self._live:
                keys = {outcome.keys[place] for place in updates}
                self._live[perturbed] = self._find_live(keys, operands, perturbed)
            live |= {p for p in updates if outcome.keys[p] in self._live[perturbed]}
        return live

    def _find_live(
        self, keys: Set[Any], operands: Sequence[Any], perturbed: frozenset[int]
    ) -> frozenset[Any]:
        if self.seen is not None and perturbed <= self.seen[0]:
            keys = keys & self.seen[1]
            if not keys or perturbed == self.seen[0]:
                return frozenset(keys)
        found: list[Any] = []

        def updates(operands: Sequence[Any]) -> list[Any]:
            with self.trial(operands) as run:
                flat = run.outputs(run.call(*run.arguments))
                outcome = run.made.get()
            found[:] = [outcome.keys[place] for place in outcome.updates]
            return [flat[place] for place in outcome.updates]

        live = perturbed_by(updates, operands, sorted(perturbed))
        known = {key for place, key in enumerate(found) if place in live}
        # what the forward rule alone updates counts as differentiated
        return frozenset(key for key in keys if key in known or key not in found)

    def _grad_vars_hint(self) -> str:
        """Say that `grad_vars` names no collection that there is: a misspelling, most likely."""
        found = sorted({name for root in self.modules.roots for name in root.variables})
        if not found or any(in_filter(self.rule.grad_vars, name) for name in found):
            return ""
        return (
            f" (grad_vars={self.rule.grad_vars!r} is none of the collections: {', '.join(found)})"
        )

    def _flat_output(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The primal's differentiable outputs, flat."""
        with self.trial(operands) as run:
            flat = run.outputs(run.call(*run.arguments))
            width = run.made.get().width
            return tuple(x for x in flat[:width] if is_differentiable(x))

    # -- building ----------------------------------------------------------------------------

    def _resolve(self, reference: Any, slots: Slots) -> RuleFunction | None:
        if reference is None:
            return None
        function = self.rule.resolve(reference, slots)
        method = isinstance(reference, str) and not isinstance(function, staticmethod)
        if isinstance(function, staticmethod):
            function = function.__func__
        function = unwrap_handler(function)
        return RuleFunction(function, method, self._captures.scan(function))

    def _scan_interceptors(self) -> frozenset[int]:
        """Find what interceptors have captured; return the operands."""
        found: frozenset[int] = frozenset()
        for interceptor in self.context.interceptors:
            found |= self._captures.scan_observer(interceptor)
        return found

    def _seal(self) -> None:
        """Keep nothing of the caller's trace in functions and other untraced values."""
        sealed = self._captures.seal()
        if sealed is None:
            return
        self.packed_slots = [sealed_constants(slot, sealed) for slot in self.packed_slots]
        self.modules.seal(sealed)
        self.context = self.context.sealed(sealed)
        self._forward = _sealed_rule(self._forward, sealed)
        self._backward = _sealed_rule(self._backward, sealed)
        self.rule = dataclasses.replace(
            self.rule,
            primal=sealed(self.rule.primal),
            lifted=_over,
            forward=None if self.rule.forward is None else _over,
            backward=_over,
            signature=rebuilt_defaults(self.rule.signature, sealed),
            example=None,
            identity=name_of(self.rule),
        )

    def _take_ambient(self, needed: bool) -> Any:
        """Return the reference of the module around the call; a guard where it was not given."""
        module = ambient_module()
        if module is None:
            return None
        if module is not GUARD and needed:
            return self.modules.bind(module)
        found = None if module is GUARD else self.modules.find(module)
        return GUARD if found is None else Bound(found)

    @contextlib.contextmanager
    def _open(self, operands: Sequence[Any], flags: Mapping[str, Any]) -> Iterator[BuiltModules]:
        revive = functools.partial(self._captures.rebuild, arrays=operands)
        built = self.modules.build(
            operands, flags, revive=revive, numbers=self.numbers, nameless=self.nameless
        )
        outer = self._outer
        if isinstance(outer, Bound):
            outer = built.modules[outer.index]
        rebuild = functools.partial(self.rebuild, operands=operands, built=built.modules)
        try:
            with (
                ambient(outer),
                drops.around(self),
                self.context.entered(rebuild),
                self._captures.exchanged(operands, built.modules),
            ):
                built.repeat_setups()
                yield built
        finally:
            built.invalidate()

    def _as_arrays(self, operands: Sequence[Any]) -> Sequence[Any]:
        """Turn Python numbers, which eager differentiation hands on as they are, into arrays.

        Where variables may be updated, each operand is an array of its own: by its identity a
        variable that stays as it came in is known.
        """
        arrays = [x if is_array(x) else jax.numpy.asarray(x) for x in operands]
        if not self._may_update or len({id(x) for x in arrays}) == len(arrays):
            return arrays
        seen: set[int] = set()
        for place, array in enumerate(arrays):
            if id(array) in seen and is_differentiable(array):
                arrays[place] = jax.numpy.array(array, copy=True)
            seen.add(id(array))
        return arrays

    def read_only(self, operands: Indexed, flags: Mapping[str, Any] | None = None) -> BuiltModules:
        """Build the modules as they were in the call, read-only and without rngs."""
        revive = functools.partial(self._captures.rebuild, arrays=operands)
        return self.modules.build(operands, flags or {}, writable=False, revive=revive)

    @property
    def kept(self) -> frozenset[int]:
        """The captured operands that the backward run needs."""
        reached = self._backward.captured if self._backward is not None else frozenset()
        return reached | self.intercepting | self._captures.everywhere

    def operands_of(self, packed: Packed) -> set[int]:
        """Return the operands of a packed tree, those that its constants hold included."""
        found = {entry.index for entry in packed.entries if isinstance(entry, Operand)}
        for entry in packed.entries:
            if isinstance(entry, Constant):
                found |= self._captures.reach(entry.value)
        return found

    def operands_of_modules(self) -> set[int]:
        """Return the operands that building the modules takes, but for their rng keys."""
        return set().union(*map(self.operands_of, self.modules.packed()))

    def build_slots(self, operands: Sequence[Any], built: BuiltModules) -> list[Any]:
        """Build the arguments, one a parameter."""
        modules = built.modules
        revive = functools.partial(self._captures.rebuild, arrays=operands, built=modules)
        return [unpack(p, operands, modules.__getitem__, revive) for p in self.packed_slots]

    def rebuild(self, function: Any, operands: Indexed, built: Indexed) -> Any:
        """Return `function` with this run's values in place of what it captured."""
        return self._captures.rebuild(function, operands, built)

    def _slot_trees(self) -> list[Slot]:
        """Build for each slot the tree that says where tangents belong."""
        trees = [
            jax.tree_util.tree_unflatten(
                packed.structure, [self._handle(e) for e in packed.entries]
            )
            for packed in self.packed_slots
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
        root, path = self.modules.places[index]
        variable = self.modules.entries[index].variable
        found: dict[str, Any] = {}
        for name, tree in self.modules.roots[root].variables.items():
            if not in_filter(self.rule.grad_vars, name):
                continue
            for step in path:
                tree = tree.get(step, {}) if isinstance(tree, dict) else {}
            if variable is None:
                found[name] = map_skeleton(self._handles, tree)
            elif variable[0] == name and variable[1] in tree:  # a variable alone, not its scope
                found[name] = {variable[1]: map_skeleton(self._handles, tree[variable[1]])}
        for (*words, last), name, tree in self._borrowed(index, root, path):
            target = found.setdefault(name, {})
            for word in words:
                target = target.setdefault(word, {})
            target[last] = tree
        return found

    def _borrowed(
        self, index: int, root: int, path: Sequence[str]
    ) -> Iterator[tuple[list[str], str, Any]]:
        """Yield what a module holds as attribute, and the modules in it, that live elsewhere.

        Args:
            index: the module.
            root, path: the place of the module whose tree is built.

        Yields:
            The path in that tree, the collection, and the tree of handles there.
        """
        places = self.modules.places
        below = list(places[index][1][len(path) :])
        for attribute, other in attribute_modules(self.modules.entries[index]):
            variable = self.modules.entries[other].variable
            if places[other][0] == root and places[other][1][: len(path)] == path:
                yield from self._borrowed(other, root, path)
                continue
            for name, tree in self._collections(other).items():
                yield [*below, attribute], name, tree if variable is None else tree[variable[1]]

    def _handles(self, packed: Packed) -> Any:
        return jax.tree_util.tree_unflatten(
            packed.structure, [self._handle(entry) for entry in packed.entries]
        )

    @functools.cached_property
    def nondiff_holds_modules(self) -> bool:
        """Whether an argument without a slot is a bound module, or a callable that holds one."""
        return any(
            isinstance(entry, Bound)
            or (isinstance(entry, Constant) and self._captures.holds_module(entry.value))
            for packed in self.nondiff
            for entry in packed.entries
        )

    @functools.cached_property
    def backward_holds_modules(self) -> bool:
        """Whether the backward rule has captured a bound module, not its fields alone."""
        backward = self._backward
        return backward is not None and self._captures.holds_module(backward.function)

    @functools.cached_property
    def nondiff(self) -> list[Packed]:
        """The arguments without a slot, in order."""
        packed = []
        trees = [
            jax.tree_util.tree_unflatten(slot.structure, list(slot.entries))
            for slot in self.packed_slots
        ]
        for _, tree, nondiff in self.rule.arguments(tuple(trees)):
            if nondiff:
                leaves, structure = jax.tree_util.tree_flatten(tree)
                packed.append(Packed(structure, tuple(leaves)))
        return packed


# What primals and forward functions take.
_OPERANDS = inspect.Signature([inspect.Parameter("operands", inspect.Parameter.VAR_POSITIONAL)])


class CustomVjp:
    """A thin `jax.custom_vjp` that takes its options from the split."""

    def __init__(self, split: Split, primal: Callable[..., Any]) -> None:
        self._split = split
        self._primal = primal

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Set the forward and backward function."""
        self._own = Functions(self._primal, forward, backward)

    def __call__(self, *operands: Any) -> Any:
        """Call the function; returns its flat outputs.

        Raises:
            TypeError: forward-mode autodiff reached the call. Where a transform has traced the
                call before (`jvp` of `jit`), JAX raises its own error, later.
        """
        split = self._split
        functions, is_shared, finish = plan(split, self._own)
        for function, role in zip(functions, ("primal", "forward", "backward"), strict=True):
            function.__name__ = split.rule.name if role == "primal" else f"{split.rule.name}_{role}"
            function.__qualname__ = f"{split.rule.name} ({role})"
            if role != "backward":
                function.__signature__ = _OPERANDS  # else JAX looks for it, at some cost
        function = jax.custom_vjp(functions.primal)
        function.defvjp(
            functions.forward,
            functions.backward,
            symbolic_zeros=split.symbolic_zeros,
            optimize_remat=split.rule.optimize_remat,
        )
        try:
            # a shared trace has no name of its own
            with profile_scope(split.module_name if is_shared else None):
                return function(*operands)
        except TypeError as error:
            ran = split.latest is not None  # else it is of a function that this one calls
            if ran and is_forward_mode(error):
                raise forward_mode_error(split.rule) from None
            raise
        finally:
            finish()
