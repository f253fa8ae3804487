"""What a module hands on from an annotated one, used by the name of the module that does.

import pkg as p                import pkg.layers_vjp as _vjp_layers
                               import pkg as p
p.Dense(3)                     _vjp_layers.Dense(3)           `pkg` has Dense from its `layers`

A name counts where every import of the scope that has it brings in the same module. Its import
stays even where nothing uses the name any more, since it may do more than bind it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vjpgen.compiler.edits import Edit
from vjpgen.compiler.import_from import spelled, surroundings
from vjpgen.compiler.scopes import (
    Found,
    Scope,
    ScopeNode,
    look_up,
    own_nodes,
    quoted_names,
    scoped_nodes,
    statements,
)
from vjpgen.compiler.siblings import Origin, Siblings
from vjpgen.compiler.source import Source
from vjpgen.compiler.text import WIDTH
from vjpgen.compiler.values import dotted

Import = ast.Import | ast.ImportFrom
_KEPT = "  # noqa: F401"


@dataclass(frozen=True)
class _Imports:
    """The module that a name stands for, and the statements that bring it in."""

    module: str
    nodes: tuple[Import, ...]


@dataclass(frozen=True)
class _Use:
    """`p.Dense`, the imports that bring `p` in, and what it is."""

    node: ast.Attribute
    imports: tuple[Import, ...]
    origin: Origin


def carried(
    source: Source, tree: ast.Module, siblings: Siblings, suffix: str, prefix: str
) -> list[Edit]:
    """The edits that let such uses lead to generated modules."""
    modules = {
        module
        for node in statements(tree.body)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in _modules(node, siblings)
        if siblings.hands_on(module)
    }
    uses = list(_uses(tree, siblings, modules)) if modules else []
    if not uses:
        return []
    homes = sorted({use.origin[0] for use in uses})
    names = dict(zip(homes, _distinct(homes, prefix), strict=True))
    edits = [_replaced(source, use, names) for use in uses]
    wanted: dict[Import, set[str]] = {}
    for use in uses:
        for node in use.imports:
            wanted.setdefault(node, set()).add(use.origin[0])
    for node, needed in wanted.items():
        lines = [_import(node, siblings, home, suffix, names[home]) for home in sorted(needed)]
        edits.append(_before(source, node, lines))
    edits += _unused(source, tree, uses, wanted)
    return edits


def _modules(node: Import, siblings: Siblings) -> Iterator[str]:
    """The modules that a statement may bring in under some name; an annotated one is none."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
            if alias.asname is None and "." in alias.name:
                yield alias.name.split(".")[0]
        return
    base = siblings.absolute(node.module, node.level)
    for alias in node.names:
        if base is not None and alias.name != "*":
            yield f"{base}.{alias.name}"


def _uses(tree: ast.Module, siblings: Siblings, modules: set[str]) -> Iterator[_Use]:
    firsts = {module.split(".")[0] for module in modules} | _names_of(tree, siblings, modules)
    known: dict[tuple[ScopeNode, str], _Imports | None] = {}
    for node, scope, hidden in scoped_nodes(tree, Scope(tree, None, "")):
        name = dotted(node) if isinstance(node, ast.Attribute) else None
        first, *middle = (name or "").split(".")
        if not isinstance(node, ast.Attribute) or first not in firsts - hidden:
            continue
        found = look_up(first, scope)
        if found is None or found.scope is None or not isinstance(node.ctx, ast.Load):
            continue
        key = found.scope.node, first
        if key not in known:
            known[key] = _imports(found, first, siblings)
        if (imports := known[key]) is not None:
            origin = _origin(imports, middle, siblings, modules)
            if origin is not None:
                yield _Use(node, imports.nodes, origin)


def _names_of(tree: ast.Module, siblings: Siblings, modules: set[str]) -> set[str]:
    """The names that imports give to modules."""
    nodes = [n for n in statements(tree.body) if isinstance(n, ast.Import | ast.ImportFrom)]
    return {
        alias.asname or alias.name.split(".")[0]
        for node in nodes
        if not modules.isdisjoint(_modules(node, siblings))
        for alias in node.names
    }


def _origin(
    imports: _Imports, attributes: Sequence[str], siblings: Siblings, modules: set[str]
) -> Origin | None:
    """What an attribute of an imported module is, where that module has it from another."""
    *middle, last = attributes
    module = ".".join([imports.module, *middle])
    if module not in modules or (middle and not _is_dotted(imports.nodes, module)):
        return None
    origin = siblings.origin(module, last)
    return None if origin == (f"{module}.{last}", "") else origin


def _imports(found: Found, name: str, siblings: Siblings) -> _Imports | None:
    """The one module that a name stands for, and the statements that bring it in."""
    if found.scope is None:
        return None
    own = _own_imports(found.scope.node)
    nodes = [binding.node for binding in found.bindings]
    imports = tuple(n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) and n in own)
    modules = {module for node in imports for module in _bound(node, name, siblings)}
    if len(imports) != len(nodes) or len(modules) != 1:
        return None
    return _Imports(modules.pop(), imports)


def _own_imports(node: ScopeNode) -> set[ast.AST]:
    return {item for item in own_nodes(node) if isinstance(item, ast.Import | ast.ImportFrom)}


def _bound(node: Import, name: str, siblings: Siblings) -> Iterator[str]:
    """The modules that a statement binds to a name."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if (alias.asname or alias.name.split(".")[0]) == name:
                yield alias.name if alias.asname else name
        return
    base = siblings.absolute(node.module, node.level)
    for alias in node.names:
        if (alias.asname or alias.name) == name:
            yield f"{base}.{alias.name}"


def _is_dotted(imports: Sequence[Import], module: str) -> bool:
    """Whether one of the statements is `import a.b`, so that `a.b` is that module."""
    aliases = (alias for node in imports for alias in node.names if isinstance(node, ast.Import))
    return any(alias.asname is None and alias.name == module for alias in aliases)


def _distinct(homes: Sequence[str], prefix: str) -> Iterator[str]:
    """A name for each module: its own, and a number where that is taken."""
    taken: set[str] = set()
    for home in homes:
        name = wanted = f"{prefix}_{home.rpartition('.')[2]}"
        while name in taken:
            name = f"{wanted}_{len(taken)}"
        taken.add(name)
        yield name


def _replaced(source: Source, use: _Use, names: dict[str, str]) -> Edit:
    home, name = use.origin
    start, end = source.offset(source.start(use.node)), source.offset(source.end(use.node))
    return Edit(start, end, f"{names[home]}.{name}" if name else names[home])


def _import(node: Import, siblings: Siblings, home: str, suffix: str, name: str) -> str:
    """The import of a generated module, relative where the one beside it is."""
    parent, _, own = home.rpartition(".")
    if isinstance(node, ast.Import) or node.level == 0 or not parent:
        return f"import {home}{suffix} as {name}"
    return f"from {spelled(node, siblings, parent)} import {own}{suffix} as {name}"


def _unused(
    source: Source, tree: ast.Module, uses: Sequence[_Use], nodes: Iterable[Import]
) -> Iterator[Edit]:
    """What tells linters that an import stays on purpose, where all uses of its name are gone."""
    gone = Counter((dotted(use.node) or "").split(".")[0] for use in uses)
    left = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    quoted = quoted_names(tree)
    for node in nodes:
        alias, end = node.names[0], source.offset(source.end(node))
        name = alias.asname or alias.name.split(".")[0]
        if len(node.names) > 1 or alias.asname == alias.name or name in quoted:
            continue
        _, alone, comment = surroundings(source, node)
        line = source.line(node.lineno)
        short = node.lineno == node.end_lineno and len(line) + len(_KEPT) <= WIDTH
        if alone and not comment and short and gone[name] == left[name]:
            yield Edit(end, end, _KEPT)


def _before(source: Source, node: Import, lines: Sequence[str]) -> Edit:
    indent, alone, _ = surroundings(source, node)
    start = source.offset(source.start(node))
    between = f"{source.newline}{indent}" if alone else "; "
    return Edit(start, start, "".join(f"{line}{between}" for line in lines))
