"""VJP302: residuals that `bwd` never uses.

A residual is looked for where `bwd` unpacks it (`x, y = residuals`) or takes it by a number
(`residuals[0]`), and where `fwd` returns it. A name with an underscore in front says that the rule
does without on purpose; it is reported all the same where the file shows that a `fwd` of this rule
alone keeps an array for it, since that costs as much.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from vjpgen.compiler.check.backward import Code, at_part, code_of, residuals_index
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.references import Reference
from vjpgen.diagnostics import Diagnostic

_HELP = "leave it out of what `fwd` returns: it is kept in memory until then"

Kept = ast.expr | None
"""The expression of a residual in `fwd`; None where the source does not show it."""
Unused = tuple[ast.expr | ast.arg, str]


def check_residuals(facts: Facts, rule: Reference, code: Code) -> Iterator[Diagnostic]:
    """Look at each residual that the source shows."""
    if code.reaches_all or _is_unwritten(code):
        return
    parameter = _parameter(facts, rule, code)
    if parameter is None:
        return
    for node, name in _unused(code, parameter, _kept(facts)):
        message = f"`{code.node.name}` never uses the residual {name}"
        yield at_part(facts, rule, "VJP302", message, _placed(node), _HELP)


def _is_unwritten(code: Code) -> bool:
    """Whether all that a rule does in the end is to raise: it is yet to be written."""
    return isinstance(code.node.body[-1], ast.Raise)


def _placed(node: ast.expr | ast.arg) -> ast.expr:
    """A parameter as an expression at its place, without its type."""
    if isinstance(node, ast.expr):
        return node
    name = ast.Name(node.arg, ast.Load(), lineno=node.lineno, col_offset=node.col_offset)
    name.end_lineno, name.end_col_offset = node.lineno, node.col_offset + len(node.arg.encode())
    return name


def _parameter(facts: Facts, rule: Reference, code: Code) -> ast.arg | None:
    """The parameter that gets the residuals, where nothing else is ever bound to its name."""
    index = residuals_index(facts, rule)
    positional = [*code.node.args.posonlyargs, *code.node.args.args]
    if index is None or rule.signature is None or index >= len(positional):
        return None
    parameter = positional[index]
    return parameter if len(code.scope.bindings[parameter.arg]) == 1 else None


def _unused(code: Code, parameter: ast.arg, kept: Kept) -> Iterator[Unused]:
    """Each residual that no use of the parameter reaches, with what to call it."""
    if parameter.arg not in code.reads:
        if kept is not None and not _is_nothing(kept):
            yield parameter, f"`{_text(kept)}`"
        return
    uses = code.uses_of(parameter.arg)
    parents = [code.parents.get(node) for node in uses]
    if len(uses) == 1 and isinstance(parents[0], ast.Assign) and parents[0].value is uses[0]:
        for target in parents[0].targets:
            yield from _unpacked(code, target, kept)
    elif parents:
        yield from _numbered(uses, parents, kept)


def _unpacked(code: Code, target: ast.expr, kept: Kept) -> Iterator[Unused]:
    """The names of `x, (y, z) = residuals` that are never read."""
    if isinstance(target, ast.Name):
        yield from _name(code, target, kept)
    elif isinstance(target, ast.Tuple | ast.List):
        parts = target.elts
        starred = any(isinstance(part, ast.Starred) for part in parts)
        for part, each in zip(parts, _parts(None if starred else kept, len(parts)), strict=True):
            yield from _unpacked(code, part, each)


def _name(code: Code, target: ast.Name, kept: Kept) -> Iterator[Unused]:
    name = target.id
    if name in code.reads or _is_nothing(kept):
        return
    if len(code.scope.bindings.get(name, [])) != 1 and not name.startswith("_"):
        return
    on_purpose = name.startswith("_") or _deleted(code, name)
    if kept is not None or not on_purpose:
        yield target, f"`{_text(kept) if on_purpose else name}`"


def _numbered(
    uses: Sequence[ast.Name], parents: Sequence[ast.AST | None], kept: Kept
) -> Iterator[Unused]:
    """The parts of what `fwd` keeps that no `residuals[0]` takes."""
    if not isinstance(kept, ast.Tuple) or any(isinstance(p, ast.Starred) for p in kept.elts):
        return
    taken = set()
    for use, parent in zip(uses, parents, strict=True):
        number = _number(use, parent)
        if number is None:
            return
        taken.add(number % len(kept.elts) if kept.elts else number)
    for index, part in enumerate(kept.elts):
        if index not in taken and not _is_nothing(part):
            yield uses[0], f"number {index}, `{_text(part)}`"


def _number(use: ast.Name, parent: ast.AST | None) -> int | None:
    """The number in `residuals[0]`."""
    if not isinstance(parent, ast.Subscript) or parent.value is not use:
        return None
    try:
        number = ast.literal_eval(parent.slice)
    except (ValueError, TypeError, SyntaxError):
        return None
    return number if type(number) is int else None


def _parts(kept: Kept, count: int) -> list[Kept]:
    """What `fwd` keeps, part by part, where it shows as many as are unpacked."""
    shown = kept.elts if isinstance(kept, ast.Tuple | ast.List) else []
    starred = any(isinstance(part, ast.Starred) for part in shown)
    return list(shown) if len(shown) == count and not starred else [None] * count


def _kept(facts: Facts) -> Kept:
    """The residuals as the only `return` of a `fwd` that no other rule shares gives them."""
    fwd, code = facts.fwd, code_of(facts.fwd, facts)
    if fwd is None or code is None or fwd.signature is None or _is_shared(facts, fwd):
        return None
    values = list(code.returned())
    if len(values) != 1 or not isinstance(values[0], ast.Tuple) or len(values[0].elts) != 2:
        return None
    output, kept = values[0].elts
    if isinstance(output, ast.Starred) or isinstance(kept, ast.Starred):
        return None
    bindings = code.scope.bindings.get(kept.id, []) if isinstance(kept, ast.Name) else []
    if len(bindings) == 1 and isinstance(bindings[0].value, ast.Tuple | ast.Constant):
        return bindings[0].value
    return kept


def _is_shared(facts: Facts, fwd: Reference) -> bool:
    name = re.escape(fwd.key.text)
    return len(re.findall(rf"\bfwd\s*=\s*{name}(?![\w.])", facts.source.text)) > 1


def _is_nothing(kept: Kept) -> bool:
    """Whether a residual surely takes no memory: a constant, or nothing at all."""
    if isinstance(kept, ast.Tuple | ast.List):
        return all(_is_nothing(part) for part in kept.elts)
    return isinstance(kept, ast.Constant) or (isinstance(kept, ast.Dict) and not kept.keys)


def _deleted(code: Code, name: str) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Del)
        for node, _, _ in code.nodes
    )


def _text(node: Kept) -> str:
    text = ast.unparse(node) if node is not None else ""
    return text if len(text) <= 40 else f"{text[:37]}..."
