"""VJP402: a module without annotation imports an annotated one, and gets its plain version."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

from vjpgen.compiler.header import is_generated
from vjpgen.compiler.report import at_node
from vjpgen.compiler.scopes import is_for_type_checkers
from vjpgen.compiler.siblings import Siblings
from vjpgen.compiler.source import Source, decode
from vjpgen.diagnostics import Diagnostic

_WORD = re.compile(rb"\w+")


def plain_imports(
    data: bytes, filename: str, siblings: Siblings, suffix: str = "_vjp"
) -> tuple[Diagnostic, ...]:
    """Find the imports of annotated modules in a file that is not annotated itself.

    Imports for type checkers alone are no findings. A file that is not Python has none.

    Args:
        data: the file's bytes.
        filename: the file as the user named it.
        siblings: the annotated modules of the project, seen from this one.
        suffix: what a generated module's name adds to its source's.
    """
    if not _may_import(data, siblings.modules) or is_generated(data):
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source, tree = decode(data, filename), ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple(
        finding
        for node in _imports(tree)
        for place, module in _annotated(node, siblings)
        for finding in [_finding(source, place, module, suffix)]
    )


def _may_import(data: bytes, modules: frozenset[str]) -> bool:
    """Whether the file holds the words of such an import: what others need not be parsed."""
    return b"import" in data and not _last_names(modules).isdisjoint(_WORD.findall(data))


@lru_cache(maxsize=16)
def _last_names(modules: frozenset[str]) -> frozenset[bytes]:
    return frozenset(module.rpartition(".")[2].encode() for module in modules)


def _imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import below a node that is carried out when the program runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and is_for_type_checkers(child):
            yield from _imports(ast.Module(child.orelse, []))
        else:
            yield from _imports(child)


def _annotated(
    node: ast.Import | ast.ImportFrom, siblings: Siblings
) -> Iterator[tuple[ast.stmt | ast.alias, str]]:
    """The annotated modules that a statement imports, each with what names it there."""
    if isinstance(node, ast.Import):
        yield from ((alias, alias.name) for alias in node.names if siblings.annotated(alias.name))
        return
    module = siblings.absolute(node.module, node.level)
    if module is None or siblings.annotated(module):
        yield from [(node, module)] if module is not None else []
        return
    for alias in node.names:
        name = f"{module}.{alias.name}"
        if siblings.annotated(name) and siblings.origin(module, alias.name) == (name, ""):
            yield alias, name


def _finding(source: Source, place: ast.stmt | ast.alias, module: str, suffix: str) -> Diagnostic:
    message = f"`{module}` is annotated, but imported here it keeps its ordinary gradients"
    help_ = f"import `{module}{suffix}`, or annotate a function of this module, too"
    return at_node(source, "VJP402", message, place, help_)
