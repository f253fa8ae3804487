"""The runs of a lifted function: its primal, its forward rule, its backward rule."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import jax
from flax.core.scope import Variable
from flax.errors import TransformedMethodReturnValueError
from flax.linen.module import Module
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from vjpgen.runtime import drops
from vjpgen.runtime.contexts import unobserved
from vjpgen.runtime.errors import TangentError
from vjpgen.runtime.leaves import (
    Constant,
    Indexed,
    Operand,
    Operands,
    is_differentiable,
    pack,
    unpack,
)
from vjpgen.runtime.liveness import Watch
from vjpgen.runtime.modules import BuiltModules, method_context
from vjpgen.runtime.outcomes import (
    Made,
    Outcome,
    Saved,
    SavedMeta,
    type_of,
    with_modules,
    with_snapshots,
)
from vjpgen.runtime.pullbacks import Pullback, VjpFunction, VjpSpec
from vjpgen.runtime.scopes import pack_skeleton
from vjpgen.runtime.snapshots import Snapshot
from vjpgen.runtime.tangents import (
    add,
    constant_tangent,
    instantiate,
    merge,
    missing_error,
    type_text,
)

if TYPE_CHECKING:
    from vjpgen.runtime.splitting import Split


class PrimalRun:
    """A run of the primal."""

    def __init__(self, split: Split, operands: Sequence[Any], built: BuiltModules) -> None:
        self._split = split
        self._operands = operands
        self._built = built
        self.made = Made()

    @property
    def arguments(self) -> list[Any]:
        """The arguments, one a parameter, rebuilt around this run's operands."""
        return self._split.build_slots(self._operands, self._built)

    def call(self, *slots: Any) -> Any:
        """Call the primal."""
        args, kwargs = self._split.rule.spread(slots, self._split.form)
        primal = self._split.rebuild(self._split.rule.primal, self._operands, self._built.modules)
        if self._split.observed:
            return unobserved(primal, args, kwargs)
        return primal(*args, **kwargs)

    def outputs(self, output: Any) -> tuple[Any, ...]:
        """Flatten the output and the updated variables into what `jax.custom_vjp` returns."""
        flat, outcome = self._flatten(output)
        self.made.outcome = outcome
        self._split.latest = outcome, self._split.rule.forward is None
        self._split.of_primal = outcome
        return flat

    def _flatten(self, output: Any) -> tuple[tuple[Any, ...], Outcome]:
        flat = Operands()
        packed = pack(output, flat, "output")
        for entry in packed.entries:
            if isinstance(entry, Constant) and isinstance(entry.value, (Module, Variable)):
                raise TransformedMethodReturnValueError(self._split.rule.name)
        width = len(flat.arrays)
        keys: list[Any] = list(range(width))
        variables = []
        for root, scope in enumerate(self._built.variables()):
            variables.append(
                {name: pack_skeleton(tree, flat, name) for name, tree in scope.items()}
            )
            keys.extend((root, label) for label in flat.labels[len(keys) :])
        incoming = {id(array): index for index, array in enumerate(self._operands)}
        outcome = Outcome(
            packed,
            variables,
            width,
            flat.labels,
            [type_of(array) for array in flat.arrays],
            {
                place: incoming[id(array)]
                for place, array in enumerate(flat.arrays)
                if place >= width and id(array) in incoming
            },
            keys,
            self._built.counters(),
            self._built.states(),
        )
        return tuple(flat.arrays), outcome


class TrialRun(PrimalRun):
    """A run of the primal whose outcome is no call's."""

    def outputs(self, output: Any) -> tuple[Any, ...]:
        """Flatten the output and the updated variables."""
        flat, self.made.outcome = self._flatten(output)
        return flat


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
        self._inner: tuple[tuple[Any, ...], Outcome] | None = None
        self._all_vjp: Any = None
        self._all_keys: list[Any] = []

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
            self._all_vjp, _, outcome = self._differentiate(everything=True)
            self._all_keys = outcome.keys
        return pair[0], pair[1]

    def vjp(self, *slots: Any) -> tuple[Any, VjpFunction]:
        """Run the primal through `jax.vjp`: the output, and the vjp function as residual.

        Source: https://docs.jax.dev/en/latest/_autosummary/jax.vjp.html
        """
        del slots  # the run's own arguments
        split = self._split
        pullback, flat, outcome = self._differentiate(everything=split.autodiff)
        self._inner = flat, outcome
        if split.autodiff:
            self._all_vjp, self._all_keys = pullback, outcome.keys
        function = VjpFunction(
            pullback, VjpSpec(split.rule.title, split.slots, split.types, outcome)
        )
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
        watch = Watch()

        def function(inputs: list[Any]) -> Any:
            full = list(arrays)
            for index, value in zip(chosen, inputs, strict=True):
                full[index] = value
            with split.trial(full) as run:
                flat = run.outputs(run.call(*run.arguments))
                outcomes.append(run.made.get())
                width, updates = outcomes[-1].width, outcomes[-1].updates
                flat = _replaced(flat, updates, watch)
                if everything:
                    flat = split.gate(flat, outcomes[-1])
                return (flat, ()) if everything else (flat[:width], flat[width:])

        inputs = [arrays[index] for index in chosen]
        with drops.collected() as complaints:
            out, raw, rest = jax.vjp(function, inputs, has_aux=True)
        places, keys = outcomes[-1].updates, outcomes[-1].keys
        live = frozenset(keys[places[index]] for index in watch.close())
        split.seen = frozenset(chosen), live
        if complaints and not split.needs_flags:
            self._say_of_rules_inside(function, chosen, complaints)
        types = tuple(type_of(x) for x in out)
        return Pullback(raw, tuple(chosen), types), (*out, *rest), outcomes[-1]

    def _say_of_rules_inside(
        self,
        function: Callable[[list[Any]], Any],
        chosen: Sequence[int],
        complaints: Sequence[drops.Complaint],
    ) -> None:
        """Say what rules inside drop, less what nobody differentiates outside of this one."""
        flags = self._perturbed
        if flags is not None and not all(flags[index] for index in chosen):
            arrays = [self._operands[index] for index in chosen]

            def again(values: list[Any]) -> Any:
                held = [
                    value if flags[index] else jax.lax.stop_gradient(value)
                    for index, value in zip(chosen, values, strict=True)
                ]
                return function(held)

            with drops.collected() as complaints:
                jax.eval_shape(lambda values: jax.vjp(again, values)[0], arrays)
        for complaint in complaints:
            complaint.say()

    def outputs(self, output: Any) -> tuple[Any, ...]:
        """Flatten the output and the updated variables.

        The updates are those that the forward rule made, however often it calls the module.
        Where JAX has traced the primal before (under `jit`, `scan` or `checkpoint`), that trace
        has settled which variables there are: see `_fit`.
        """
        split = self._split
        flat, outcome = self._flatten(output) if self._inner is None else self._inner
        if split.of_primal is not None and self._inner is None:
            flat, outcome = self._fit(flat, outcome, split.of_primal)
        self.made.outcome = outcome
        split.latest = outcome, True
        return flat

    def _fit(
        self, flat: tuple[Any, ...], outcome: Outcome, primal: Outcome
    ) -> tuple[tuple[Any, ...], Outcome]:
        """Bring the forward rule's outputs into the order of its primal's.

        A variable that the primal alone has made gets the primal's value; one that the forward
        rule alone has made has no place and is left out.
        """
        title = self._split.rule.title
        _check_output(title, primal, outcome)
        if outcome.keys == primal.keys:
            return flat, outcome
        places = {key: place for place, key in enumerate(outcome.keys)}
        spare: tuple[Any, ...] = ()
        if any(key not in places for key in primal.keys):
            spare, _ = self._try_primal()
        order = [places.get(key) for key in primal.keys]
        fitted = tuple(spare[n] if place is None else flat[place] for n, place in enumerate(order))
        unchanged = {
            n: outcome.unchanged[place]
            for n, place in enumerate(order)
            if place is not None and place in outcome.unchanged
        }
        return fitted, dataclasses.replace(primal, unchanged=unchanged)

    def _try_primal(self) -> tuple[tuple[Any, ...], Outcome]:
        with self._split.trial(self._operands) as run:
            return run.outputs(run.call(*run.arguments)), run.made.get()

    def residuals(self, residuals: Any) -> Saved:
        """Keep the residuals, and what the backward run needs besides, for `jax.custom_vjp`."""
        split = self._split
        kept = Operands()
        packed = pack(with_snapshots(residuals), kept, "residual")
        wanted = {*split.kept}
        for nondiff in split.nondiff:
            wanted |= split.operands_of(nondiff)
        if split.nondiff_holds_modules or split.backward_holds_modules:
            wanted |= split.operands_of_modules()
        snapshot = None
        if split._backward is not None and split._backward.method:
            before = split.read_only(self._operands)
            snapshot = pack(
                Snapshot.take(split.build_slots(self._operands, before)[0]), kept, "snapshot"
            )
        places = {index: kept.add(self._operands[index], "").index for index in sorted(wanted)}
        everything = None
        if self._all_vjp is not None:
            everything = pack(self._all_vjp, kept, "autodiff")
        meta = SavedMeta(
            packed, places, snapshot, everything, self._all_keys, self.made, len(kept.arrays)
        )
        return Saved(tuple(kept.arrays), meta)


def _replaced(flat: Sequence[Any], places: Sequence[int], through: Callable[..., Any]) -> Any:
    """Send some of the values through a function."""
    found = list(flat)
    for place, value in zip(places, through([flat[i] for i in places]), strict=True):
        found[place] = value
    return tuple(found)


class Gate:
    """Lets cotangents of updated variables through where some have arrived.

    A vjp function takes arrays of zeros for the others; rules inside would take them for
    tangents that arrive.
    """

    def __init__(self) -> None:
        self._open: Set[Any] = frozenset()

    def __call__(self, flat: Sequence[Any], outcome: Outcome) -> tuple[Any, ...]:
        """Return the flat outputs, those of updated variables behind the gate."""
        places = [
            place
            for place in range(outcome.width, len(flat))
            if is_differentiable(outcome.types[place])
        ]
        keys = [outcome.keys[place] for place in places]

        @jax.custom_vjp
        def same(*values: Any) -> tuple[Any, ...]:
            return values

        def backward(_: None, cotangents: Sequence[Any]) -> tuple[Any, ...]:
            # JAX's new rule machinery reads None as such a zero, and takes no symbolic one.
            classic = isinstance(same, jax.custom_vjp)
            zero = SymbolicZero.from_primal_value if classic else lambda _: None
            return tuple(
                cotangent if key in self._open else zero(cotangent)
                for key, cotangent in zip(keys, cotangents, strict=True)
            )

        same.defvjp(lambda *values: (values, None), backward)
        return _replaced(flat, places, lambda values: same(*values)) if places else tuple(flat)

    @contextlib.contextmanager
    def opened(self, keys: Set[Any]) -> Iterator[None]:
        """Open the gate for the variables of some keys."""
        before, self._open = self._open, keys
        try:
            yield
        finally:
            self._open = before


def _check_output(title: str, primal: Outcome, forward: Outcome) -> None:
    """Raise where a forward rule returns something else than its primal."""
    advice = "; the first of the pair that it returns must be the primal's output"
    if forward.width != primal.width or forward.output.structure != primal.output.structure:
        found = unpack(forward.output, forward.types)
        wanted = unpack(primal.output, primal.types)
        raise TypeError(
            f"the forward rule of {title} returned {type_text(found)} as output, where its primal "
            f"returns {type_text(wanted)}{advice}"
        )
    found = dict(zip(forward.keys, forward.types, strict=True))
    for key, label, wanted in zip(primal.keys, primal.labels, primal.types, strict=True):
        kind = found.get(key, wanted)
        if (kind.shape, kind.dtype) != (wanted.shape, wanted.dtype):
            raise TypeError(
                f"the forward rule of {title} returned another output than its primal: "
                f"{label}: expected {type_text(wanted)}, not {type_text(kind)}{advice}"
            )


def _as_primal(leaf: Any) -> Any:
    """Wrap a Python number as JAX does under `symbolic_zeros`; it is not differentiated."""
    number = isinstance(leaf, (int, float, complex)) and not isinstance(leaf, bool)
    return CustomVJPPrimal(leaf, False) if number else leaf


class BackwardRun:
    """A run of the backward rule."""

    def __init__(self, split: Split, saved: Saved, cotangents: Sequence[Any]) -> None:
        self._split = split
        self._saved = saved
        self._cotangents = list(cotangents)

    @property
    def residuals(self) -> Any:
        """The residuals as the forward rule returned them; a module comes back read-only."""
        return with_modules(unpack(self._saved.meta.residuals, self._saved.arrays))

    @property
    def tangents(self) -> Any:
        """The output's tangent, in the output's structure.

        A Python number has the zero that `jax.vjp` wants for it; what is no number has None.
        """
        outcome = self._saved.meta.made.get()
        symbolic = self._split.rule.symbolic_zeros
        leaves = []
        for entry in outcome.output.entries:
            if isinstance(entry, Operand):
                value = self._cotangents[entry.index]
                leaves.append(value if symbolic else instantiate(value))
            else:
                assert isinstance(entry, Constant), "no module is part of an output"
                leaves.append(constant_tangent(entry.value))
        return jax.tree_util.tree_unflatten(outcome.output.structure, leaves)

    @property
    def nondiff(self) -> list[Any]:
        """The arguments without a slot, in order; a module comes back read-only."""
        split, arrays = self._split, self.restored()
        built = self._read_only if split.nondiff_holds_modules else GONE
        revive = functools.partial(split.rebuild, operands=arrays, built=built)
        return [unpack(p, arrays, built.__getitem__, revive) for p in split.nondiff]

    @functools.cached_property
    def _read_only(self) -> Indexed:
        """The modules as they were in the call, for arguments and rules that hold them."""
        return self._split.read_only(self.restored(), self._split._marks).modules

    def restored(self) -> dict[int, Any]:
        """Return the operands that the forward run has kept, by their index."""
        saved = self._saved
        return {index: saved.arrays[place] for index, place in saved.meta.places.items()}

    def bwd(self, *arguments: Any) -> Any:
        """Call the backward rule; a method receives a read-only snapshot of its module.

        Modules that the rule has captured are read-only, too: a helper may want their fields.
        """
        split = self._split
        backward = split._backward
        assert backward is not None
        built = self._read_only if split.backward_holds_modules else GONE
        function = split.rebuild(backward.function, self.restored(), built)
        meta = self._saved.meta
        if meta.snapshot is None:
            return function(*arguments)
        snapshot: Snapshot = unpack(meta.snapshot, self._saved.arrays)
        module = snapshot.module(split._marks)
        with method_context(module, backward.function):
            return function(module, *arguments)

    def tangent_operands(self, returned: Any) -> tuple[Any, ...]:
        """Merge what the rule returned into one tangent an operand; None is zero.

        Raises:
            TangentError: what was returned does not fit, or lacks a leaf and the rule is strict.
        """
        split, rule = self._split, self._split.rule
        primals = split.types
        merged = merge(rule, split.slots, returned, primals)
        if merged.missing and split.strict:
            raise missing_error(rule, merged.missing, primals)
        tangents: list[Any] = [merged.tangents.get(index) for index in range(len(primals))]
        outcome = self._saved.meta.made.get()
        arrived = self._arrived(outcome)
        for place, operand in outcome.unchanged.items():
            if place in arrived:
                tangents[operand] = _sum(tangents[operand], arrived.pop(place))
        if split.autodiff:
            self._autodiff(tangents, merged.missing, arrived)
        elif split.strict:
            split.report_arrived(outcome, list(arrived))
        return tuple(tangents)

    def _arrived(self, outcome: Outcome) -> dict[int, Any]:
        """The cotangents that arrive at updated variables."""
        split = self._split
        return {
            place: value
            for place, value in enumerate(self._cotangents)
            if place >= outcome.width
            and not isinstance(value, SymbolicZero)
            and getattr(value, "dtype", None) != jax.dtypes.float0
            and (split.symbolic_zeros or split.autodiff or place in outcome.unchanged)
        }

    def _autodiff(
        self, tangents: list[Any], missing: Mapping[int, str], arrived: Mapping[int, Any]
    ) -> None:
        """Fill in the primal's own tangents, those through updated variables included."""
        meta = self._saved.meta
        assert meta.everything is not None
        pullback: Pullback = unpack(meta.everything, self._saved.arrays)
        outcome = meta.made.get()
        width = outcome.width
        by_key = {outcome.keys[place]: value for place, value in arrived.items()}
        through = [by_key.get(key) for key in meta.everything_keys[width:]]
        wanted = {*missing, *self._split.unslotted}
        with self._split.gate.opened(by_key.keys()):
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
    return add(first, second)


class _Gone:
    """Stands for the modules, which the backward run has none of."""

    def __getitem__(self, index: int) -> Any:
        raise TangentError(
            "the backward rule uses a module of the enclosing function; its scope is not "
            "available in the backward pass: make the rule a method, or return "
            "vjpgen.snapshot(module) as a residual"
        )


GONE = _Gone()
