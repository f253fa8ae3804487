"""`from ... import ...` of annotated modules, and of names that come from them by other modules.

from .b import X               from .b_vjp import X
from pkg import b              from pkg import b_vjp as b
from pkg import X              from pkg.b_vjp import X         `pkg` has X from its module `b`
from pkg import X, other       from pkg.b_vjp import X
                               from pkg import other
from pkg import *              from pkg import *
                               from pkg.b_vjp import X  # noqa: F401      where X is not used
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from vjpgen.compiler.edits import Edit
from vjpgen.compiler.siblings import Origin, Siblings
from vjpgen.compiler.source import Source
from vjpgen.compiler.text import WIDTH, bracketed

_UNIT = "    "


@dataclass(frozen=True)
class _Name:
    """One imported name and where it is to be imported from.

    Args:
        alias: its node.
        module: the module to import it from, as the statement spells it; None for where it is.
        text: how it is spelled there.
    """

    alias: ast.alias
    module: str | None
    text: str


def import_from(
    source: Source, node: ast.ImportFrom, siblings: Siblings, suffix: str, used: Collection[str]
) -> list[Edit]:
    """The edits that make one such import lead to generated modules.

    Args:
        source: the source.
        node: the import.
        siblings: the other modules of the project.
        suffix: what a generated module's name adds to its source's.
        used: the names that a linter sees used, where there is a star.
    """
    module = siblings.absolute(node.module, node.level)
    if module is None:
        return []
    if node.module is not None and siblings.annotated(module):
        end = _module_end(source, node)
        return _fitted(source, node, [Edit(end, end, suffix)])
    if node.names[0].name == "*":
        return _star(source, node, siblings, module, suffix, used)
    names = [_name(source, node, alias, siblings, module, suffix) for alias in node.names]
    if any(name.module is not None for name in names):
        return _parted(source, node, names)
    return _fitted(source, node, _in_place(source, names))


def _name(
    source: Source,
    node: ast.ImportFrom,
    alias: ast.alias,
    siblings: Siblings,
    module: str,
    suffix: str,
) -> _Name:
    origin = siblings.origin(module, alias.name)
    if origin is None:
        start, end = source.offset(source.start(alias)), source.offset(source.end(alias))
        return _Name(alias, None, source.text[start:end])
    home, name = _home(origin, suffix)
    bound = alias.asname or alias.name
    text = name if name == bound and not alias.asname else f"{name} as {bound}"
    return _Name(alias, None if home == module else spelled(node, siblings, home), text)


def _home(origin: Origin, suffix: str) -> Origin:
    """The module to import from, and the name there, for what comes from an annotated module."""
    module, name = origin
    if name:
        return module + suffix, name
    parent, _, own = module.rpartition(".")
    return parent, own + suffix


def spelled(node: ast.ImportFrom, siblings: Siblings, module: str) -> str:
    """A module's name as an import spells it, relative where the import given is."""
    package, parts = siblings.package.split("."), module.split(".")
    if node.level == 0 or not siblings.package or parts[0] != package[0]:
        return module
    common = 0
    while common < min(len(package), len(parts)) and package[common] == parts[common]:
        common += 1
    return "." * (len(package) - common + 1) + ".".join(parts[common:])


def _in_place(source: Source, names: Sequence[_Name]) -> list[Edit]:
    """What changes of names that stay in their statement."""
    edits = []
    for name in names:
        start = source.offset(source.start(name.alias))
        end = source.offset(source.end(name.alias))
        if name.module is None and source.text[start:end] != name.text:
            edits.append(_shortest(start, name.alias, name.text))
    return edits


def _shortest(start: int, alias: ast.alias, text: str) -> Edit:
    """An edit that leaves an `as` and what follows as it is."""
    if alias.asname is None:
        return Edit(start, start + len(alias.name), text)
    return Edit(start, start + len(alias.name), text.rpartition(" as ")[0])


def _parted(source: Source, node: ast.ImportFrom, names: Sequence[_Name]) -> list[Edit]:
    """The statement where some of its names come from elsewhere: one for each such module."""
    homes = {name.module for name in names}
    if len(homes) == 1:
        return _moved(source, node, names)
    if _is_listed(source, node):
        return _parted_lines(source, node, names)
    head = "." * node.level + (node.module or "")
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: name.module is None):
        home = head if name.module is None else name.module
        groups.setdefault(home, []).append(name.text)
    start, end = source.offset(source.start(node)), source.offset(source.end(node))
    return [Edit(start, end, _joined(source, node, groups))]


def _joined(source: Source, node: ast.stmt, groups: dict[str, list[str]]) -> str:
    """Several imports in place of one, on lines of their own where it has its line to itself."""
    indent, alone, comment = surroundings(source, node)
    if not alone:
        return "; ".join(_statement(home, texts, "", 10**6) for home, texts in groups.items())
    plain = {home: [(text, "") for text in texts] for home, texts in groups.items()}
    lines = [line for home, texts in plain.items() for line in _listed(home, texts, indent)]
    ends = [f"{line}{comment}" if "\n" not in line else line for line in lines[:-1]]
    return f"\n{indent}".join([*ends, lines[-1]]).replace("\n", source.newline)


def _statement(module: str, texts: Sequence[str], indent: str, width: int) -> str:
    """One import as black and ruff format it; the first line has its indent already."""
    if not module:
        return "; ".join(f"import {text}" for text in texts)
    line = f"from {module} import {', '.join(texts)}"
    if len(indent) + len(line) <= width:
        return line
    lines = bracketed(f"from {module} import (", list(texts), ")", indent, _UNIT)
    return "\n".join(lines).removeprefix(indent)


def _moved(source: Source, node: ast.ImportFrom, names: Sequence[_Name]) -> list[Edit]:
    """The statement where all its names come from one other module."""
    module = names[0].module
    if not module:
        start, end = source.offset(source.start(node)), source.offset(source.end(node))
        return [Edit(start, end, _joined(source, node, {"": [name.text for name in names]}))]
    start = source.offset(source.start(node))
    end = _module_end(source, node)
    text = source.text[start:end]
    first = start + len(text) - len(text.removeprefix("from").lstrip())
    lead = "" if text[len("from") : len("from") + 1].isspace() else " "
    edits = [Edit(first, end, lead + module)]
    if node.module is None and source.text[end] == "i":  # `from .import b`
        edits = [Edit(first, end, f"{lead}{module} ")]
    for name in names:
        stays = _Name(name.alias, None, name.text)
        edits += _in_place(source, [stays])
    return _fitted(source, node, edits)


def _is_listed(source: Source, node: ast.ImportFrom) -> bool:
    """Whether each name has a line to itself, between brackets whose lines hold nothing else."""
    rows = [alias.lineno for alias in node.names]
    bounds = [node.lineno, *rows, node.end_lineno or 0]
    closed = source.line(bounds[-1]).strip().startswith(")")
    return bounds == sorted(set(bounds)) and closed and surroundings(source, node)[1]


def _parted_lines(source: Source, node: ast.ImportFrom, names: Sequence[_Name]) -> list[Edit]:
    """The same for such a list: lines are taken out, and stand in new lists with their comments."""
    indent, _, _ = surroundings(source, node)
    groups: dict[str, list[tuple[str, str]]] = {}
    edits = []
    for name in names:
        row = name.alias.lineno
        if name.module is None:
            continue
        rest = source.line(row)[source.end(name.alias)[1] :].lstrip(", \t")
        groups.setdefault(name.module, []).append((name.text, f"  {rest}" if rest else ""))
        edits.append(Edit(source.starts[row - 1], source.starts[row], ""))
    kept = [name for name in names if name.module is None]
    edits += _in_place(source, kept)
    lines = [line for home, listed in groups.items() for line in _listed(home, listed, indent)]
    start = source.offset(source.start(node))
    if not kept:
        last = source.offset(source.end(node))
        return [Edit(start, last, f"\n{indent}".join(lines).replace("\n", source.newline))]
    text = "".join(f"{line}\n{indent}" for line in lines).replace("\n", source.newline)
    return [Edit(start, start, text), *edits]


def _listed(module: str, names: Sequence[tuple[str, str]], indent: str) -> Iterator[str]:
    """Imports of names that have comments, or none."""
    if not module:
        yield from (f"import {text}{comment}" for text, comment in names)
    elif any(comment for _, comment in names):
        inner = "".join(f"\n{indent}{_UNIT}{text},{comment}" for text, comment in names)
        yield f"from {module} import ({inner}\n{indent})"
    else:
        yield _statement(module, [text for text, _ in names], indent, WIDTH)


def _star(
    source: Source,
    node: ast.ImportFrom,
    siblings: Siblings,
    module: str,
    suffix: str,
    used: Collection[str],
) -> list[Edit]:
    """After the star, the names that it has from annotated modules, from the generated ones."""
    groups: dict[str, list[str]] = {}
    unused: set[str] = set()
    for bound, origin in siblings.starred(module):
        home, name = _home(origin, suffix)
        text = name if name == bound else f"{name} as {bound}"
        groups.setdefault(spelled(node, siblings, home), []).append(text)
        if bound not in used:
            unused.add(text)
    indent, alone, _ = surroundings(source, node)
    end = source.offset(source.end(node))
    if not groups:
        return []
    if not alone:
        more = "".join(f"; {_statement(home, t, '', 10**6)}" for home, t in groups.items())
        return [Edit(end, end, more)]
    row = node.end_lineno or node.lineno
    end = source.starts[row - 1] + len(source.line(row))
    ends = {text: "  # noqa: F401" if text in unused else "" for t in groups.values() for text in t}
    more = "".join(
        f"\n{indent}from {home} import {text}{ends[text]}"
        for home, texts in groups.items()
        for text in texts
        if home
    )
    more += "".join(f"\n{indent}import {text}{ends[text]}" for text in groups.get("", []))
    return [Edit(end, end, more.replace("\n", source.newline))]


def surroundings(source: Source, node: ast.stmt) -> tuple[str, bool, str]:
    """A statement's indent, whether its lines are its own, and the comment that ends them."""
    row, column = source.start(node)
    indent = source.line(row)[:column]
    end_row, end_column = source.end(node)
    rest = source.line(end_row)[end_column:]
    comment = rest.strip()
    alone = not indent.strip() and (not comment or comment.startswith("#"))
    return indent, alone, rest.rstrip() if alone else ""


def _module_end(source: Source, node: ast.ImportFrom) -> int:
    """The offset at which the module's name ends in `from <module> import`."""
    start = source.offset(source.start(node))
    end = source.offset(source.start(node.names[0]))
    head = source.text[start:end]
    last = (node.module or "." * node.level).split(".")[-1] or "."
    return start + head.rindex(last, 0, head.rindex("import")) + len(last)


def _fitted(source: Source, node: ast.ImportFrom, edits: list[Edit]) -> list[Edit]:
    """The edits, or one that breaks the line where they make it too long."""
    return [_broken(source, node, edits)] if _too_long(source, node, edits) else edits


def _too_long(source: Source, node: ast.ImportFrom, edits: list[Edit]) -> bool:
    """Whether an import that fitted on its line does no more."""
    if not edits or node.lineno != node.end_lineno or node.names[0].name == "*":
        return False
    line = source.line(node.lineno)
    grown = sum(len(edit.text) - (edit.end - edit.start) for edit in edits)
    alone = line.strip() == line[source.start(node)[1] : source.end(node)[1]]
    return alone and "(" not in line and len(line) <= WIDTH < len(line) + grown


def _broken(source: Source, node: ast.ImportFrom, edits: list[Edit]) -> Edit:
    """The import with one name a line, as black and ruff break it."""
    start, end = source.offset(source.start(node)), source.offset(source.end(node))
    text = source.text[start:end]
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start - start] + edit.text + text[edit.end - start :]
    head, names = re.split(r"\s*\bimport\s+", text, maxsplit=1)
    indent = source.line(node.lineno)[: source.start(node)[1]]
    lines = [f"{head} import ("]
    lines += [f"{indent}{_UNIT}{name.strip()}," for name in names.split(",")]
    return Edit(start, end, source.newline.join([*lines, f"{indent})"]))
