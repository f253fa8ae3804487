"""Whether a compiled module's primal is the function that its source has."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType
from typing import Any

_LIFTED = "_vjp_lifted_"


def is_faithful(source: CodeType, generated: CodeType, name: str) -> bool:
    """Tell whether each function of a name in a source has the same code in the generated module.

    A function that holds a rule of its own cannot be compared so, and counts as the same.

    Args:
        source: the code of the source.
        generated: the code of the module generated from it.
        name: a function's qualified name.
    """
    found = list(_named(generated, name))
    if any(part.co_name.startswith(_LIFTED) for code in found for part in _inside(code)):
        return True
    there = [_meaning(code) for code in found]
    here = [_meaning(code) for code in _named(source, name)]
    return bool(here) and all(each in there for each in here)


def _named(code: CodeType, name: str) -> Iterator[CodeType]:
    """Yield the codes of this name."""
    return (each for each in _inside(code) if each.co_qualname == name)


def _inside(code: CodeType) -> Iterator[CodeType]:
    """Yield the codes of the functions and classes in another one."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _inside(each)


def _meaning(code: CodeType) -> tuple[Any, ...]:
    """Return what a code does, without the places of its lines."""
    constants = tuple(
        _meaning(each) if isinstance(each, CodeType) else (type(each), repr(each))
        for each in code.co_consts
    )
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    taken = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return code.co_code, constants, *names, *taken
