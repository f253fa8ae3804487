"""Rules to begin with: a `fwd` or `bwd` with the right signature that gives the plain gradient.

    def scale_fwd(x, w):                      def scale_bwd(vjp_fn, y_t):
        y, vjp_fn = jax.vjp(scale, x, w)          x_t, w_t = vjp_fn(y_t)
        return y, vjp_fn                          return x_t, w_t

What cannot be differentiated (nondiff arguments, flags, sizes) is kept out of `jax.vjp`. Where an
existing forward rule saves the arguments, the backward rule differentiates anew; where it saves
something else, the backward rule is the reader's to write: the skeleton unpacks what is saved, and
raises.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vjpgen.compiler.classes import resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.references import SAME_SIGNATURE, Reference
from vjpgen.compiler.scopes import Scope, module_of, own_nodes, visible_names
from vjpgen.compiler.targets import Target
from vjpgen.compiler.text import WIDTH, bracketed, render
from vjpgen.compiler.values import dotted

_VJPS = {"jax.vjp", "flax.linen.vjp"}
_STATIC_TYPES = {"bool", "str", "int", "bytes", "type", "Callable", "DTypeLike", "DType", "Dtype"}


@dataclass(frozen=True)
class Need:
    """A module that a skeleton uses: its name, how to import it, and what it then is called."""

    module: str
    line: str
    name: str


_JAX = Need("jax", "import jax", "jax")
_LINEN = Need("flax.linen", "import flax.linen as nn", "nn")


@dataclass(frozen=True)
class Skeleton:
    """A function to write.

    Args:
        lines: its text, indented as the annotated function.
        needs: the modules to import that the file does not have yet.
    """

    lines: tuple[str, ...]
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True)
class Saved:
    """What a forward rule saves for the backward rule.

    Args:
        primals: the slots that the saved vjp function gives tangents of; None where it is none.
        names: what is saved by name, an argument by the name that the function gives it.
    """

    primals: tuple[str, ...] | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Style:
    """How the file is indented: the annotated function's indentation, and one level."""

    indent: str
    unit: str

    @property
    def body(self) -> str:
        return self.indent + self.unit


def free_name(facts: Facts, key: str) -> str:
    """A name for a rule that the file does not have yet."""
    own = facts.node.name
    is_dunder = own.startswith("__")
    base = f"{own.strip('_') if is_dunder else own}_{key}"
    taken = {*visible_names(facts.scope), *module_of(facts.scope).bindings}
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def can_be_written(facts: Facts) -> bool:
    """Whether the function is one that skeletons are right for: it is called as its `def` says."""
    decorators = (_partial_of(node) or node for node in facts.node.decorator_list)
    called = (node.func if isinstance(node, ast.Call) else node for node in decorators)
    names = ((dotted(node) or "").rpartition(".")[2] for node in called)
    return facts.signature.vararg not in facts.nondiff and all(n in SAME_SIGNATURE for n in names)


def _partial_of(node: ast.expr) -> ast.expr | None:
    """What `partial(jax.jit, static_argnums=0)` is a form of."""
    is_partial = isinstance(node, ast.Call) and (dotted(node.func) or "").endswith("partial")
    return node.args[0] if is_partial and isinstance(node, ast.Call) and node.args else None


def slots(facts: Facts) -> tuple[str, ...]:
    """The parameters that have a tangent, in the order of the signature."""
    return tuple(name for name in facts.signature.names if name not in facts.nondiff)


def fwd_primals(facts: Facts) -> tuple[str, ...]:
    """The slots that a skeleton of `fwd` differentiates, in the order of its vjp function."""
    static = set(_static(facts))
    chosen = [name for name in slots(facts) if name not in static]
    last = [name for name in chosen if name == facts.signature.vararg]
    return tuple([name for name in chosen if name not in last] + last)


def write_fwd(facts: Facts, target: Target, name: str, style: Style) -> Skeleton:
    """A forward rule that saves what the existing backward rule takes, or a vjp function."""
    head = _head(facts, style, name, _parameters(facts))
    wanted = _unpacked_by_bwd(facts)
    if wanted is not None:
        saved = ", ".join(wanted)
        saved = f"({saved})" if len(wanted) > 1 else saved
        return Skeleton((*head, f"{style.body}return {_call(facts)}, {saved}"))
    primals = fwd_primals(facts)
    if not primals:
        return Skeleton((*head, f"{style.body}return {_call(facts)}, ()"))
    takes_module = target.name == "linen" and primals[0] == facts.signature.names[0]
    need = _LINEN if takes_module else _JAX
    bound = _bound_name(facts.scope, need)
    output, vjp_fn = _fresh(("y", "output"), facts), _fresh(("vjp_fn", "pullback"), facts)
    before, function = _differentiated(facts, primals, style)
    items = [function, *(_starred(facts, each) for each in primals)]
    collections = facts.value("grad_vars")
    if need is _LINEN and isinstance(collections, ast.expr):
        items.append(f"vjp_variables={render(collections)}")
    opening = f"{output}, {vjp_fn} = {bound or need.name}.vjp("
    lines = bracketed(opening, items, ")", style.body, style.unit)
    lines.append(f"{style.body}return {output}, {vjp_fn}")
    return Skeleton((*head, *before, *lines), () if bound else (need,))


def write_bwd(facts: Facts, target: Target, saved: Saved, name: str, style: Style) -> Skeleton:
    """A backward rule for what the forward rule saves."""
    nondiff = [each for each in facts.signature.names if each in facts.nondiff]
    output = "y_t" if "y" not in slots(facts) else "out_t"
    first = ["self"] if facts.is_method else []
    if saved.primals is not None:
        head = _head(facts, style, name, [*first, *nondiff, "vjp_fn", output])
        return Skeleton((*head, *_tangents(facts, saved.primals, output, style)))
    unpacking = _unpacking(saved.names, style)
    head = _head(facts, style, name, [*first, *nondiff, "residuals", output])
    if target.name != "function" or not set(saved.names).issuperset(slots(facts)):
        wanted = ", ".join(f"{each}_t" for each in slots(facts))
        comment = f"{style.body}# One tangent for each slot: {wanted}"
        return Skeleton((*head, *unpacking, comment, f"{style.body}raise NotImplementedError"))
    primals, bound = fwd_primals(facts), _bound_name(facts.scope, _JAX)
    if not primals:
        return Skeleton((*head, *_return(["None"] * len(slots(facts)), style)))
    before, function = _differentiated(facts, primals, style)
    items = [function, *(_starred(facts, each) for each in primals)]
    call = bracketed(f"_, vjp_fn = {bound or _JAX.name}.vjp(", items, ")", style.body, style.unit)
    lines = (*head, *unpacking, *before, *call, *_tangents(facts, primals, output, style))
    return Skeleton(lines, () if bound else (_JAX,))


def _tangents(facts: Facts, primals: tuple[str, ...], output: str, style: Style) -> Iterator[str]:
    """Call the vjp function, and give each slot its tangent."""
    if primals:
        taken = [_starred(facts, f"{each}_t", each) for each in primals]
        yield from _assignment(taken, f"vjp_fn({output})", style)
    given = [
        _starred(facts, f"{each}_t", each) if each in primals else "None" for each in slots(facts)
    ]
    yield from _return(given, style)


def _unpacking(names: tuple[str, ...], style: Style) -> list[str]:
    if len(names) == 1:
        return [f"{style.body}{names[0]} = residuals"]
    return _assignment(list(names), "residuals", style) if names else []


def saved_by_default(facts: Facts) -> Saved:
    """What is saved where the annotation gives no `fwd`."""
    return Saved(slots(facts))


def saved_by_skeleton(facts: Facts) -> Saved:
    """What a skeleton of `fwd` saves."""
    return Saved(fwd_primals(facts))


def saved_by(facts: Facts, fwd: Reference) -> Saved:
    """What an existing forward rule saves, as far as its text shows it."""
    node = fwd.definition
    if not isinstance(node, ast.FunctionDef):
        return Saved(None)
    returned = [item.value for item in own_nodes(node) if isinstance(item, ast.Return)]
    own = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    mapped = dict(zip(own, facts.signature.positional, strict=False))
    if node.args.vararg and facts.signature.vararg:
        mapped[node.args.vararg.arg] = facts.signature.vararg
    mapped |= {name: name for name in facts.signature.keyword_only if name not in mapped}
    if len(returned) != 1 or returned[0] is None:
        return Saved(None)
    value = returned[0]
    if isinstance(value, ast.Call):
        return Saved(_primals_of(facts, value, mapped))
    if not isinstance(value, ast.Tuple) or len(value.elts) != 2:
        return Saved(None)
    kept = value.elts[1]
    if isinstance(kept, ast.Name):
        primals = _primals_of(facts, _assigned_vjp(node, kept.id), mapped)
        return Saved(primals, (mapped.get(kept.id, kept.id),))
    elements = kept.elts if isinstance(kept, ast.Tuple) else []
    names = tuple(mapped.get(each.id, each.id) for each in elements if isinstance(each, ast.Name))
    is_plain = len(names) == len(elements) > 1 and len(set(names)) == len(names)
    return Saved(None, names if is_plain else ())


def _assigned_vjp(node: ast.FunctionDef, name: str) -> ast.Call | None:
    """The call in `y, name = vjp(...)`."""
    for item in own_nodes(node):
        if not (isinstance(item, ast.Assign) and isinstance(item.value, ast.Call)):
            continue
        names = item.targets[0].elts if isinstance(item.targets[0], ast.Tuple) else []
        if len(names) == 2 and isinstance(names[1], ast.Name) and names[1].id == name:
            return item.value
    return None


def _primals_of(
    facts: Facts, call: ast.Call | None, mapped: dict[str, str]
) -> tuple[str, ...] | None:
    """The slots that a call of `vjp` differentiates; None where its text does not show them."""
    if call is None or resolved_path(call.func, facts.scope) not in _VJPS:
        return None
    if any(keyword.arg == "has_aux" for keyword in call.keywords):
        return None
    bare = [item.value if isinstance(item, ast.Starred) else item for item in call.args[1:]]
    names = [mapped.get(item.id) for item in bare if isinstance(item, ast.Name)]
    found = tuple(name for name in names if name in slots(facts))
    return found if len(found) == len(bare) else None


def _unpacked_by_bwd(facts: Facts) -> tuple[str, ...] | None:
    """The arguments that an existing backward rule expects to be saved: `x, w = residuals`."""
    bwd = facts.bwd
    node = bwd.definition if bwd is not None else None
    if bwd is None or not isinstance(node, ast.FunctionDef) or bwd.signature is None:
        return None
    index = len(facts.nondiff) + (bwd.in_class and facts.is_method and not bwd.is_static)
    if index >= len(bwd.signature.positional):
        return None
    residuals = bwd.signature.positional[index]
    names: tuple[str, ...] = (residuals,)
    for item in own_nodes(node):
        if not (isinstance(item, ast.Assign) and isinstance(item.value, ast.Name)):
            continue
        target = item.targets[0]
        if item.value.id == residuals and isinstance(target, ast.Tuple):
            names = tuple(each.id if isinstance(each, ast.Name) else "" for each in target.elts)
    known = set(facts.signature.names) - {facts.signature.names[0] if facts.is_method else ""}
    return names if names and known.issuperset(names) else None


def _static(facts: Facts) -> Iterator[str]:
    """Parameters that look as if plain Python values went there: flags, sizes, callables."""
    args = facts.node.args
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    defaults += args.defaults
    pairs = [*zip(positional, defaults, strict=True)]
    pairs += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    for argument, default in pairs:
        if _static_default(default) or _static_type(argument.annotation):
            yield argument.arg


def _static_default(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | str | bytes)
    return isinstance(node, ast.Lambda | ast.Attribute)


def _static_type(node: ast.expr | None) -> bool:
    if node is None:
        return False
    words = [item.id for item in ast.walk(node) if isinstance(item, ast.Name)]
    words += [item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)]
    return any(word in _STATIC_TYPES for word in words)


def _differentiated(facts: Facts, primals: tuple[str, ...], style: Style) -> tuple[list[str], str]:
    """What `vjp` is given, and what to write before it.

    The function itself, or one that keeps the other arguments: a lambda if that is short.
    """
    signature = facts.signature
    star = (signature.vararg,) if signature.vararg else ()
    by_position: tuple[str, ...] = (*signature.positional, *star)
    if primals == by_position == signature.names:
        return [], _function(facts)
    parameters = [_starred(facts, each) for each in primals]
    text = f"lambda {', '.join(parameters)}: {_call(facts)}"
    if len(style.body + style.unit + text) < WIDTH:
        return [], text
    name, inner = _fresh(("primal", "own_primal"), facts), style.body + style.unit
    head = bracketed(f"def {name}(", parameters, "):", style.body, style.unit)
    call = bracketed(f"return {_function(facts)}(", _given(facts), ")", inner, style.unit)
    return [*head, *call, ""], name


def _call(facts: Facts) -> str:
    """The call of the annotated function with its own parameters."""
    return f"{_function(facts)}({', '.join(_given(facts))})"


def _given(facts: Facts) -> list[str]:
    signature = facts.signature
    given = list(signature.positional)
    given += [f"*{signature.vararg}"] if signature.vararg else []
    given += [f"{name}={name}" for name in signature.keyword_only]
    return [*given, f"**{signature.kwarg}"] if signature.kwarg else given


def _function(facts: Facts) -> str:
    """The annotated function as a rule beside it can name it."""
    name = facts.node.name
    if not facts.scope.is_class:
        return name
    return f"{facts.scope.qualname.rpartition('<locals>.')[2]}.{name}"


def _parameters(facts: Facts) -> list[str]:
    """The function's parameters, without defaults: a rule is given every argument."""
    signature = facts.signature
    listed = list(signature.positional)
    if signature.vararg or signature.keyword_only:
        listed.append(f"*{signature.vararg or ''}")
    listed += signature.keyword_only
    return [*listed, f"**{signature.kwarg}"] if signature.kwarg else listed


def _head(facts: Facts, style: Style, name: str, parameters: list[str]) -> list[str]:
    decorator = [style.indent + "@staticmethod"] if facts.is_static else []
    return [*decorator, *bracketed(f"def {name}(", parameters, "):", style.indent, style.unit)]


def _assignment(names: list[str], value: str, style: Style) -> list[str]:
    """`a, b = value`, where one name alone is unpacked, too."""
    if len(names) == 1:
        return [f"{style.body}({names[0]},) = {value}"]
    lines = bracketed("", names, f" = {value}", style.body, style.unit)
    if len(lines) == 1:
        return lines
    return [f"{style.body}(", *lines[1:-1], f"{style.body}) = {value}"]


def _return(values: list[str], style: Style) -> list[str]:
    if len(values) <= 1:
        inside = f"{values[0]}," if values else ""
        return [f"{style.body}return ({inside})"]
    lines = bracketed("return ", values, "", style.body, style.unit)
    if len(lines) == 1:
        return lines
    return [f"{style.body}return (", *lines[1:-1], f"{style.body})"]


def _starred(facts: Facts, text: str, name: str | None = None) -> str:
    return f"*{text}" if (name or text) == facts.signature.vararg else text


def _fresh(candidates: Iterable[str], facts: Facts) -> str:
    names = list(candidates)
    free = [name for name in names if name not in facts.signature.names]
    return free[0] if free else f"{names[-1]}_"


def _bound_name(scope: Scope, need: Need) -> str | None:
    """What the file calls a module."""
    for name, bindings in module_of(scope).bindings.items():
        if len(bindings) == 1 and bindings[0].module == need.module:
            return name
    return None
