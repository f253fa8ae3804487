"""VJP304: a tangent of a dtype that the source fixes, whatever its primal's is.

A Python number in a product is weakly typed and does no harm: `2.0 * y_t` keeps `y_t`'s dtype.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vjpgen.compiler.check.backward import Code, at_part
from vjpgen.compiler.classes import resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.references import Reference
from vjpgen.compiler.scopes import Scope
from vjpgen.diagnostics import Diagnostic

# Constructors whose dtype is a default unless an argument says otherwise: that argument's place,
# and the place of a value that gives its own dtype.
_CONSTRUCTORS: dict[str, tuple[int, int | None]] = {
    "ones": (1, None),
    "zeros": (1, None),
    "empty": (1, None),
    "full": (2, 1),
    "array": (1, 0),
    "asarray": (1, 0),
    "eye": (3, None),
    "identity": (1, None),
    "linspace": (5, None),
}
_NUMPYS = ("jax.numpy", "numpy")
_FIXED = ("float", "bfloat", "complex", "int", "uint", "half", "single", "double")
_DEEPEST = 20

Found = tuple[ast.expr, str]


def check_dtypes(facts: Facts, rule: Reference, code: Code) -> Iterator[Diagnostic]:
    """Look at each tangent that the rule's own `return`s show."""
    for value in code.returned():
        for slot in _slots(value):
            for node, what in _fixed(slot, code, 0):
                message = f"{what} in a tangent has a dtype of its own, whatever its primal's is"
                help_ = "use `jnp.ones_like`, `jnp.zeros_like`, or `dtype=` of the primal"
                yield at_part(facts, rule, "VJP304", message, node, help_)


def _slots(value: ast.expr) -> Iterator[ast.expr]:
    """The tangents in what is returned: of tuples, dicts and both branches of a condition."""
    match value:
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            pass
        case ast.Dict(values=parts):
            pass
        case ast.IfExp(body=body, orelse=orelse):
            parts = [body, orelse]
        case _:
            yield value
            return
    for part in parts:
        yield from _slots(part)


def _fixed(node: ast.expr, code: Code, depth: int) -> Iterator[Found]:
    """What gives an expression a fixed dtype, if anything does."""
    if _is_float(node):
        yield node, f"the number `{ast.unparse(node)}`"
    else:
        yield from _strong(node, code, depth)


def _strong(node: ast.expr, code: Code, depth: int) -> Iterator[Found]:
    """The same, but for weakly typed numbers."""
    if depth > _DEEPEST:
        return
    match node:
        case ast.BinOp(left=left, right=right):
            parts = [left, right]
        case ast.UnaryOp(operand=operand):
            parts = [operand]
        case ast.Subscript(value=array):
            parts = [array]
        case ast.IfExp(body=body, orelse=orelse):
            parts = [body, orelse]
        case ast.Name(id=name):
            parts = _assigned(name, code)
        case ast.Call():
            if (what := _constructor(node, code.scope)) is not None:
                yield node, f"`{what}`"
                return
            parts = _passed_through(node, code.scope)
        case _:
            return
    for part in parts:
        yield from _strong(part, code, depth + 1)


def _assigned(name: str, code: Code) -> list[ast.expr]:
    bindings = code.scope.bindings.get(name, [])
    value = bindings[0].value if len(bindings) == 1 else None
    return [] if value is None else [value]


def _passed_through(call: ast.Call, scope: Scope) -> list[ast.expr]:
    """The parts of a call that its result gets its dtype from."""
    func = call.func
    if resolved_path(func, scope) == "jax.numpy.where" and len(call.args) == 3:
        return call.args[1:]
    if isinstance(func, ast.Attribute) and func.attr in ("set", "add", "multiply", "min", "max"):
        place = func.value
        if isinstance(place, ast.Subscript) and isinstance(place.value, ast.Attribute):
            return [place.value.value] if place.value.attr == "at" else []
    return []


def _constructor(call: ast.Call, scope: Scope) -> str | None:
    """The name of a constructor whose dtype is fixed, as it is written."""
    path = resolved_path(call.func, scope) or ""
    library, _, name = path.rpartition(".")
    if library not in _NUMPYS:
        return None
    written = ast.unparse(call.func)
    if name in _CONSTRUCTORS:
        return written if _is_fixed(call, *_CONSTRUCTORS[name], scope) else None
    if name.startswith(_FIXED) and name != "float0":
        return written if call.args and all(_is_number(a) for a in call.args) else None
    only_numbers = call.args and not call.keywords and all(_is_float(a) for a in call.args)
    return written if library == "numpy" and only_numbers else None


def _is_fixed(call: ast.Call, dtype_at: int, value_at: int | None, scope: Scope) -> bool:
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        return False
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if None in keywords:
        return False
    given = keywords.get("dtype") or (call.args[dtype_at] if len(call.args) > dtype_at else None)
    if given is not None:
        return _names_dtype(given, scope)
    if value_at is None:
        return True
    value = call.args[value_at] if len(call.args) > value_at else keywords.get("fill_value")
    return value is not None and _is_number(value)


def _names_dtype(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression is one certain dtype: `jnp.float32`, `"float32"`, `float`."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.startswith(_FIXED)
    path = resolved_path(node, scope) or ""
    library, _, name = path.rpartition(".")
    is_known = library in (*_NUMPYS, "builtins") and name.startswith(_FIXED)
    return is_known and name != "float0"


def _is_float(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (float, complex)


def _is_number(node: ast.expr) -> bool:
    """A number, or a list of numbers as `jnp.array([1.0, 2.0])` has it."""
    if isinstance(node, ast.List | ast.Tuple):
        return all(_is_number(part) for part in node.elts)
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float, complex)
