"""The captured values that a lifted function is given by name.

    def loss(params, batch):
        scale = 1 / len(batch)              <- bound whenever the function below is defined
        if debug:
            offset = 0.0                    <- perhaps not bound: left to the runtime to find

Reading a name that is not bound raises an error where the source may raise none. So only what is
bound for certain is read: parameters, and what statements before the function bind that no branch
passes over. Nor is a name read that stands for another variable there than where the rule uses it:

    def loss(scale):
        def scaled(t):                      <- uses the variable of `loss`
            return scale * t

        def layer(scale): ...               <- beside a function in here, the name is another one

And a variable of a loop is not read by a function in that loop where none in the source does so:
linters take that for a mistake.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from vjpgen.compiler.classes import resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.nesting import BLOCKS
from vjpgen.compiler.reach import Reach, reach
from vjpgen.compiler.scopes import Found, Scope, enclosing, look_up

_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_LOOP = ast.For | ast.AsyncFor
_WITH = ast.With | ast.AsyncWith


def captured_names(facts: Facts) -> tuple[str, ...]:
    """The values that a rule takes from functions around it, in the order of their bindings."""
    found = reach(facts)
    certain = {scope.node: _certain_in(scope, target) for scope, target in _path(facts, found)}
    names = [
        (name, what)
        for (owner, name), what in found.values.items()
        if name in certain[owner]
        and name not in facts.signature.names  # there it is the argument
        and not _is_mangled(name)
        and _owner_beside(facts, name) is owner
    ]
    return tuple(name for name, _ in sorted(names, key=lambda item: _place(*item)))


def _owner_beside(facts: Facts, name: str) -> ast.AST | None:
    """The function whose variable a name is to a function defined beside the annotated one."""
    scope = enclosing(facts.scope) if facts.scope.is_class else facts.scope
    found = look_up(name, scope) if scope is not None else None
    return found.scope.node if found is not None and found.scope is not None else None


def _place(name: str, found: Found) -> tuple[int, int, str]:
    first = found.bindings[0].node
    return getattr(first, "lineno", 0), getattr(first, "col_offset", 0), name


def _is_mangled(name: str) -> bool:
    """Whether a class body would read another name for this one."""
    return name.startswith("__") and not name.endswith("__")


def _path(facts: Facts, found: Reach) -> Iterator[tuple[Scope, ast.AST]]:
    """The scopes around a function, each with the statement in it that leads there."""
    target: ast.AST = facts.node
    for node, scope in found.around.items():
        yield scope, target
        target = node


def _certain_in(scope: Scope, target: ast.AST) -> frozenset[str]:
    """The names of a function that are bound whenever `target`, in its body, is executed."""
    if not isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef):
        return frozenset()
    arguments = {
        name for name, bindings in scope.bindings.items() if isinstance(bindings[0].node, ast.arg)
    }
    found = arguments | _before(scope.node.body, target, scope)
    loop = _loop_around(scope.node.body, target)
    left_out = scope.unbound if loop is None else scope.unbound | _of_loop_alone(loop)
    return frozenset(found - left_out)


def _loop_around(body: Sequence[ast.AST], target: ast.AST) -> ast.AST | None:
    """The outermost loop of a block that a statement in it stands in."""
    for statement in body:
        inner = _block_with(statement, target)
        if inner is not None:
            is_loop = isinstance(statement, _LOOP | ast.While)
            return statement if is_loop else _loop_around(inner, target)
    return None


def _of_loop_alone(loop: ast.AST) -> set[str]:
    """The names that a loop binds and no function in it reads."""
    nodes = list(ast.walk(loop))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    inside = [node for node in nodes if isinstance(node, _FUNCTION)]
    read = {n.id for node in inside for n in ast.walk(node) if isinstance(n, ast.Name)}
    return bound - read


def _before(body: Sequence[ast.AST], target: ast.AST, scope: Scope) -> set[str]:
    """The names that are bound on every way through a block to a statement in it."""
    found: set[str] = set()
    for statement in body:
        if statement is target:
            break
        inner = _block_with(statement, target)
        if inner is None:
            found |= _bound_by(statement, scope)
            continue
        if isinstance(statement, _WITH) or (
            isinstance(statement, _LOOP) and inner is statement.body
        ):
            found |= _targets(statement)
        return found | _before(inner, target, scope)
    return found


def _block_with(statement: ast.AST, target: ast.AST) -> Sequence[ast.AST] | None:
    """The block of a statement that holds another one, however deep."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return None
    for name in BLOCKS:
        block = getattr(statement, name, ())
        for child in block:
            if child is target or _block_with(child, target) is not None:
                return block
    return None


def _bound_by(statement: ast.AST, scope: Scope) -> set[str]:
    """The names that a statement binds, whatever way is taken through it."""
    if isinstance(statement, _WITH):
        inside = _in_block(statement.body, scope) if _lets_errors_pass(statement, scope) else set()
        return _targets(statement) | inside
    if isinstance(statement, ast.If):
        return _in_block(statement.body, scope) & _in_block(statement.orelse, scope)
    if isinstance(statement, ast.Assign) or (
        isinstance(statement, ast.AnnAssign) and statement.value is not None
    ):
        return _targets(statement)
    return set()


def _in_block(body: Sequence[ast.AST], scope: Scope) -> set[str]:
    return {name for statement in body for name in _bound_by(statement, scope)}


def _lets_errors_pass(statement: ast.With | ast.AsyncWith, scope: Scope) -> bool:
    """Whether a `with` surely swallows no exception, so that its body was run to the end."""
    for item in statement.items:
        made = item.context_expr
        path = resolved_path(made.func, scope) if isinstance(made, ast.Call) else None
        if path is None or not path.startswith(("jax.", "flax.")):
            return False
    return True


def _targets(statement: ast.stmt) -> set[str]:
    """The plain names among what a statement assigns to."""
    pending: list[ast.expr | None] = []
    match statement:
        case ast.Assign(targets=targets):
            pending += targets
        case ast.AnnAssign(target=target) | ast.For(target=target) | ast.AsyncFor(target=target):
            pending.append(target)
        case ast.With(items=items) | ast.AsyncWith(items=items):
            pending += [item.optional_vars for item in items]
        case _:
            pass
    found: set[str] = set()
    while pending:
        target = pending.pop()
        if isinstance(target, ast.Name):
            found.add(target.id)
        elif isinstance(target, ast.Starred):
            pending.append(target.value)
        elif isinstance(target, ast.Tuple | ast.List):
            pending += target.elts
    return found
