"""VJP205: nondiff arguments that do not exist, are the module, or are given twice."""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.compiler.facts import Facts
from vjpgen.compiler.report import nearest
from vjpgen.compiler.targets import Target
from vjpgen.diagnostics import Diagnostic


def check_nondiff(facts: Facts, target: Target) -> Iterator[Diagnostic]:
    """Look at each nondiff argument in turn."""
    seen: set[str] = set()
    for key, item in _items(facts):
        name = _parameter(facts, item)
        if name is None and not facts.keeps_signature:
            continue
        if name is None:
            yield _unknown(facts, key, item)
        elif target.module_first and name == facts.signature.names[0]:
            message = f"`{name}` is the module, which is always differentiated"
            yield _finding(facts, key, message, f"leave `{item}` out")
        elif name in seen:
            message = f"the argument `{name}` is declared nondiff twice"
            yield _finding(facts, key, message, "name it once, by number or by name")
        if name is not None:
            seen.add(name)


def _items(facts: Facts) -> Iterator[tuple[str, int | str]]:
    for key in ("nondiff_argnums", "nondiff_argnames"):
        value = facts.value(key)
        for item in value if isinstance(value, tuple) else ():
            yield key, item


def _parameter(facts: Facts, item: int | str) -> str | None:
    """The parameter that a number or name means; one of `*args` or `**kwargs` by itself."""
    signature = facts.signature
    if isinstance(item, str):
        known = item in signature.names or signature.kwarg is not None
        return item if known else None
    if 0 <= item < len(signature.positional):
        return signature.positional[item]
    return f"*{item}" if item >= 0 and signature.vararg is not None else None


def _unknown(facts: Facts, key: str, item: int | str) -> Diagnostic:
    name = facts.node.name
    if isinstance(item, str):
        guess = nearest(item, facts.signature.names)
        help_ = f"did you mean `{guess}`?" if guess else None
        return _finding(facts, key, f"`{name}` has no argument `{item}`", help_)
    count = len(facts.signature.positional)
    message = f"`{name}` has no argument number {item}"
    listed = ", ".join(f"{i} is `{n}`" for i, n in enumerate(facts.signature.positional))
    return _finding(facts, key, message, f"count from 0: {listed}" if count else None)


def _finding(facts: Facts, key: str, message: str, help_: str | None) -> Diagnostic:
    span = facts.annotation.keys[key].span
    return Diagnostic("VJP205", message, facts.source.filename, span, help_)
