"""One rule: the annotated function, its forward and backward, and what the annotation says."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

from flax.core.scope import Filter

Missing = Literal["error", "zero", "autodiff"] | None
Slots = tuple[Any, ...]
# The attribute of a lifted function that holds its `Rule`.
RULE = "__vjpgen_rule__"


# The module of the functions that users call.
_WRAPPING = "vjpgen.runtime.wrapping"


def own_rule(function: types.FunctionType) -> Rule | None:
    """Return the rule of a lifted function; None for others.

    A decorator around one hands its attributes on (`functools.wraps`), but does more than it.
    """
    rule: Rule | None = function.__dict__.get(RULE)
    is_lifted = rule is not None and function.__globals__.get("__name__") == _WRAPPING
    return rule if is_lifted else None


@dataclasses.dataclass(frozen=True)
class Form:
    """How a function was called.

    Args:
        positional: the number of positional arguments.
        given: the parameters that are not left to their defaults.
    """

    positional: int
    given: frozenset[str]


def _is_default(parameter: inspect.Parameter, slot: Any) -> bool:
    """Tell whether a slot still holds its default, which no trace has replaced."""
    return slot is parameter.default


def rebuilt_defaults(
    signature: inspect.Signature, rebuild: Callable[[Any], Any]
) -> inspect.Signature:
    """Return a signature with rebuilt defaults."""
    parameters = list(signature.parameters.values())
    rebuilt = [(p, rebuild(p.default)) for p in parameters]
    if all(default is p.default for p, default in rebuilt):
        return signature
    return signature.replace(parameters=[p.replace(default=default) for p, default in rebuilt])


def cell_content(cell: types.CellType, default: Any = None) -> Any:
    """Return what a closure's cell holds; `default` where it is not bound yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return default


def _is_open(signature: inspect.Signature) -> bool:
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    return bool(kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


def _binds(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A function with a gradient of its own.

    Args:
        primal: the annotated function, as decorated.
        lifted: the function that splits, calls `jax.custom_vjp` and publishes.
        name: the function's qualified name.
        at: file and line of the annotation; "" where there is none.
        forward: gives the forward rule when called; the name of an attribute of the class; or
            None for the primal through `jax.vjp`.
        backward: gives the backward rule when called, or the name of an attribute of the class.
        grad_vars: Flax collection filter: the collections whose tangents the rule returns.
        nondiff_argnums: places of arguments that get no tangent; the module is 0.
        nondiff_argnames: names of such arguments.
        missing: what is done about tangents that the rule does not give; None is strict.
        symbolic_zeros: as in `jax.custom_vjp.defvjp`.
        optimize_remat: as in `jax.custom_vjp.defvjp`.
        key: tells this rule from all others.
        signature: the signature of `primal`, as it shows it.
        own_signature: what a decorator's wrapper takes itself, where that is something else.
        claims: kept for verification: for each of exact, surrogate, zero and state True, or
            the names of slots.
        example: gives a function that returns example arguments.
        defaults_have_slots: False leaves arguments that a call leaves to their defaults out of
            the forward rule and the tangents, as Flax does.
        identity: the name that the function goes by inside its own rules, where `primal` cannot
            tell it any more.
        owner: the class of a static method, once there is one.
        share_traces: whether equal calls may share a trace.
    """

    primal: Callable[..., Any]
    lifted: Callable[..., Any]
    name: str
    at: str
    forward: Callable[[], Callable[..., Any]] | str | None
    backward: Callable[[], Callable[..., Any]] | str
    grad_vars: Filter
    nondiff_argnums: tuple[int, ...]
    nondiff_argnames: tuple[str, ...]
    missing: Missing
    symbolic_zeros: bool
    optimize_remat: bool
    key: str
    signature: inspect.Signature
    own_signature: inspect.Signature | None
    claims: Mapping[str, bool | tuple[str, ...]]
    example: Callable[[], Callable[..., Any]] | str | None
    defaults_have_slots: bool = True
    owner: type | None = None
    identity: str | None = None
    share_traces: bool = True

    @property
    def title(self) -> str:
        """The name and place that every message begins with."""
        return f"{self.name} ({self.at})" if self.at else self.name

    @functools.cached_property
    def static_key(self) -> Hashable:
        """What tells this rule's calls from others in all but its functions."""
        return (
            self.key,
            self.name,
            repr(self.grad_vars),
            self.nondiff_argnums,
            self.nondiff_argnames,
            self.missing,
            self.symbolic_zeros,
            self.optimize_remat,
            self.forward is None,
            tuple((part.name, part.kind) for part in self.signature.parameters.values()),
        )

    @property
    def cells(self) -> Mapping[str, types.CellType]:
        """The variables of functions around that the lifted function reads."""
        lifted = inspect.unwrap(getattr(self.lifted, "__func__", self.lifted))
        code = getattr(lifted, "__code__", None)
        if code is None:
            return {}
        return dict(zip(code.co_freevars, lifted.__closure__ or (), strict=True))

    def for_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Rule:
        """Return the rule of one call, with the parameters that get a slot in it.

        A wrapper that takes what it is given shows the parameters of the function it wraps; where
        it takes others than those (it fills one in, or has one of its own), its own count.
        """
        own = self.own_signature
        if own is not None and not (_is_open(own) and _binds(self.signature, args, kwargs)):
            plain = dataclasses.replace(self, signature=own, own_signature=None)
            return plain.for_call(args, kwargs)
        if self.defaults_have_slots:
            return self
        try:
            given = self.signature.bind(*args, **kwargs).arguments
        except TypeError:
            return self  # `bind` says it better
        names = list(self.signature.parameters)
        nondiff = tuple(names[n] for n in self.nondiff_argnums if n < len(names))
        kept = [part for name, part in self.signature.parameters.items() if name in given]
        return dataclasses.replace(
            self,
            signature=self.signature.replace(parameters=kept),
            # numbers count the parameters that there were; beyond them, those of `*args`
            nondiff_argnums=tuple(n for n in self.nondiff_argnums if n >= len(names)),
            nondiff_argnames=(*self.nondiff_argnames, *nondiff),
        )

    def takes(self, slots: Slots) -> bool:
        """Tell whether the lifted function was written for these parameters."""
        lifted = inspect.unwrap(getattr(self.lifted, "__func__", self.lifted))
        code = getattr(lifted, "__code__", None)
        if code is None or code.co_flags & inspect.CO_VARARGS:
            return True
        return code.co_argcount == 1 + len(slots)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Slots, Form]:
        """Bind a call: one slot a parameter, in the signature's order, defaults filled in."""
        form = self._positional_form
        if form is not None and not kwargs and len(args) == form.positional:
            return tuple(args), form
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        given = frozenset(bound.arguments)
        bound.apply_defaults()
        return tuple(bound.arguments.values()), Form(len(args), given)

    @functools.cached_property
    def _positional_form(self) -> Form | None:
        """How a call is made that gives every parameter by position; None where none can."""
        parameters = self.signature.parameters.values()
        by_position = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        if any(parameter.kind not in by_position for parameter in parameters):
            return None
        return Form(len(parameters), frozenset(self.signature.parameters))

    def spread(self, slots: Slots, form: Form | None = None) -> tuple[list[Any], dict[str, Any]]:
        """Undo `bind`: positional and keyword arguments.

        Args:
            slots: one value a parameter.
            form: how the function was called, to call it likewise; None passes by position what
                can be, as a forward rule may have names and defaults of its own.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter, slot in zip(self.signature.parameters.values(), slots, strict=True):
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                args.extend(slot)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(slot)
            elif (
                form is not None
                and parameter.name not in form.given
                and _is_default(parameter, slot)
            ):
                continue
            elif parameter.kind is inspect.Parameter.KEYWORD_ONLY or (
                form is not None
                and len(args) >= form.positional
                and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            ):
                kwargs[parameter.name] = slot
            else:
                args.append(slot)
        return args, kwargs

    def arguments(self, slots: Slots) -> list[tuple[str, Any, bool]]:
        """List the arguments that have a tangent slot or are nondiff: name, value, nondiff.

        `*args` gives one each, `**kwargs` one dict.
        """
        found: list[tuple[str, Any, bool]] = []
        for parameter, slot in zip(self.signature.parameters.values(), slots, strict=True):
            named = parameter.name in self.nondiff_argnames
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                for index, item in enumerate(slot):
                    nondiff = named or len(found) in self.nondiff_argnums
                    found.append((f"{parameter.name}[{index}]", item, nondiff))
            else:
                nondiff = named or len(found) in self.nondiff_argnums
                found.append((parameter.name, slot, nondiff))
        return found

    def resolve(self, reference: Callable[[], Callable[..., Any]] | str, slots: Slots) -> Any:
        """Return a rule's function as it stands: from its scope, or from the class."""
        if not isinstance(reference, str):
            return reference()
        owner = type(slots[0]) if self._is_method(slots) else self._owner()
        try:
            return inspect.getattr_static(owner, reference)
        except AttributeError:
            raise NameError(
                f"{self.title}: {owner.__qualname__} has no attribute {reference!r}"
            ) from None

    def _is_method(self, slots: Slots) -> bool:
        """Tell whether the first slot is an instance of the class that the rule stands in."""
        if not slots:
            return False
        name = self.name.rpartition(".")[0].rpartition(".")[2]
        return any(base.__name__ == name for base in type(slots[0]).__mro__)

    def _owner(self) -> Any:
        """Find the class that a function stands in; by its qualified name where none told."""
        if self.owner is not None:
            return self.owner
        owner: Any = sys.modules[self.lifted.__module__]
        path = self.lifted.__qualname__.split(".")[:-1]
        for part in path:
            owner = getattr(owner, part, None)
        if owner is None:
            raise NameError(
                f"{self.title}: the class {'.'.join(path)} cannot be reached from its module; "
                "define the rules above the function or outside the class"
            )
        return owner

    def functions(self) -> list[Any]:
        """Return the functions whose captured values the rule can reach."""
        return list(self._functions().values())

    def _functions(self) -> dict[str, Callable[..., Any]]:
        parts = {name: getattr(self, name) for name in ("primal", "lifted", "forward", "backward")}
        return {name: part for name, part in parts.items() if callable(part)}

    def rebuilt(
        self,
        make: Callable[[Rule], Any],
        announce: Callable[[Any], None],
        rebuild: Callable[[Any], Any],
    ) -> Any:
        """Return the lifted function of this rule with rebuilt parts.

        Args:
            make: makes the function that users call.
            announce: is given the new function before its parts are rebuilt, which may refer to it.
            rebuild: rebuilds one captured value.
        """
        function = make(self)
        announce(function)
        parts: dict[str, Any] = {name: rebuild(part) for name, part in self._functions().items()}
        function.__wrapped__ = parts["primal"]
        parts["signature"] = rebuilt_defaults(self.signature, rebuild)
        if self.own_signature is not None:
            parts["own_signature"] = rebuilt_defaults(self.own_signature, rebuild)
        function.__dict__[RULE] = dataclasses.replace(self, **parts)
        return function
