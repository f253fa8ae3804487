"""VJP203, VJP204: what the rules return, where a `return` shows it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vjpgen.compiler.check.backward import at_part
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.references import Callable_, Reference
from vjpgen.compiler.report import at_node
from vjpgen.compiler.scopes import own_nodes
from vjpgen.diagnostics import Diagnostic

_NO_TUPLE = (
    ast.Constant,
    ast.JoinedStr,
    ast.Dict,
    ast.Set,
    ast.Lambda,
    ast.Compare,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
    ast.GeneratorExp,
)


def check_bwd_returns(facts: Facts) -> Iterator[Diagnostic]:
    """`bwd` returns one slot for each argument that is not nondiff, the module among them."""
    signature, bwd = facts.signature, facts.bwd
    if bwd is None or (signature.vararg is not None and signature.vararg not in facts.nondiff):
        return
    if not facts.keeps_signature:
        return
    slots = [name for name in signature.names if name not in facts.nondiff]
    listed = f"{_count(len(slots), 'slot')}: {', '.join(slots)}" if slots else "no slots"
    has = f"`{facts.node.name}` has {listed}"
    help_ = "return one tangent for each slot, `None` for zero, or declare arguments nondiff"
    for value in _shown(bwd):
        what = _not_tangents(value, len(slots))
        if what is not None:
            message = f"`{bwd.key.text}` returns {what}, but {has}"
            yield at_part(facts, bwd, "VJP203", message, value, help_)
    node = bwd.definition
    if isinstance(node, ast.FunctionDef) and bwd.signature is not None and _returns_nothing(node):
        message = f"`{bwd.key.text}` returns nothing, but {has}"
        yield at_node(facts.source, "VJP203", message, node, help_)


def check_fwd_returns(facts: Facts) -> Iterator[Diagnostic]:
    """`fwd` returns the output and the residuals."""
    fwd = facts.fwd
    if fwd is None:
        return
    help_ = "return `(output, residuals)`; put several residuals into one tuple"
    for value in _shown(fwd):
        what = _not_a_pair(value)
        if what is not None:
            message = f"`{fwd.key.text}` returns {what}, not the pair (output, residuals)"
            yield at_part(facts, fwd, "VJP204", message, value, help_)
    node = fwd.definition
    if isinstance(node, ast.FunctionDef) and fwd.signature is not None and _returns_nothing(node):
        message = f"`{fwd.key.text}` returns nothing, not the pair (output, residuals)"
        yield at_node(facts.source, "VJP204", message, node, help_)


def _not_tangents(value: ast.expr, slots: int) -> str | None:
    """What a value is in place of so many tangents in a tuple or list, where it shows that."""
    if isinstance(value, ast.Tuple | ast.List):
        wrong = not _starred(value) and len(value.elts) != slots
        return _count(len(value.elts), "tangent") if wrong else None
    return "no tuple" if isinstance(value, _NO_TUPLE) else None


def _not_a_pair(value: ast.expr) -> str | None:
    if isinstance(value, ast.Tuple | ast.List) and not _starred(value):
        return None if len(value.elts) == 2 else _count(len(value.elts), "value")
    return "a single value" if isinstance(value, _NO_TUPLE) else None


def _shown(reference: Reference) -> Iterator[ast.expr]:
    """Every value that the rule's own `return`s show."""
    node = reference.definition
    if node is None or (reference.signature is None and not isinstance(node, ast.Lambda)):
        return
    for value in _returned(node):
        yield from _branches(value)


def _returned(node: Callable_) -> Iterator[ast.expr]:
    if isinstance(node, ast.Lambda):
        yield node.body
        return
    for item in own_nodes(node):
        if isinstance(item, ast.Return) and item.value is not None:
            yield item.value


def _branches(value: ast.expr) -> Iterator[ast.expr]:
    if isinstance(value, ast.IfExp):
        yield from _branches(value.body)
        yield from _branches(value.orelse)
    else:
        yield value


def _returns_nothing(node: ast.FunctionDef) -> bool:
    """Whether a call surely gives None: nothing is returned, raised, asserted or yielded.

    A body of `...`, of `pass` or of a docstring is to be written yet, by a subclass perhaps, and
    a call that is given nothing of the function's own may raise.
    """
    last = node.body[-1]
    if isinstance(last, ast.Pass):
        return False
    names = (item for item in ast.walk(last) if isinstance(item, ast.Name))
    plain = isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant | ast.Call)
    if plain and not any(_is_own(name, node) for name in names):
        return False
    leaves = ast.Return, ast.Raise, ast.Assert, ast.Yield, ast.YieldFrom
    kinds = [item for item in own_nodes(node) if isinstance(item, leaves)]
    return not kinds or all(isinstance(item, ast.Return) and item.value is None for item in kinds)


def _is_own(name: ast.Name, node: ast.FunctionDef) -> bool:
    """Whether a name is a parameter of a function, or assigned there."""
    parameters = (item.arg for item in ast.walk(node.args) if isinstance(item, ast.arg))
    stored = (
        item.id
        for item in own_nodes(node)
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
    )
    return name.id in (*parameters, *stored)


def _starred(node: ast.Tuple | ast.List) -> bool:
    return any(isinstance(element, ast.Starred) for element in node.elts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
