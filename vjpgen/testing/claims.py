"""What a rule claims of its gradients, slot by slot and leaf by leaf.

A claim names an argument, the module's slot by its first parameter's name, a collection
(`params`), a leaf (`params.Dense_0.kernel`) or a subtree; True stands for every slot. Where several
claims name a leaf, the one that names it most closely counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from vjpgen.testing.report import Claim, Finding

KINDS: tuple[Claim, ...] = tuple(kind for kind in get_args(Claim) if kind)
_MISSED = "the claim `"


@dataclass(frozen=True)
class Named:
    """What a claim can name.

    Args:
        slot: the argument.
        path: the leaf's path.
        differentiated: whether the leaf has a gradient.
    """

    slot: str
    path: str
    differentiated: bool


@dataclass(frozen=True)
class Claimed:
    """One name of one claim.

    Args:
        kind: exact, surrogate, zero or state.
        name: a slot or path; for True, each slot.
        outright: whether the name was written, not meant by True.
    """

    kind: Claim
    name: str
    outright: bool


@dataclass(frozen=True)
class Resolved:
    """Claims, brought to leaves.

    Args:
        by_leaf: the claim on each differentiated leaf, in order; None where there is none.
        problems: what is wrong with the claims themselves.
    """

    by_leaf: tuple[Claimed | None, ...]
    problems: tuple[Finding, ...]


def resolve(
    claims: Mapping[str, Any],
    leaves: Sequence[Named],
    *,
    parameters: Collection[str] = (),
    untested: Collection[str] = (),
) -> Resolved:
    """Bring claims to leaves.

    Args:
        claims: for each kind True, a name or several names, or nothing.
        leaves: all arrays that the function takes, those without a gradient, too.
        parameters: the function's, which may hold no array.
        untested: the arguments of which it is told elsewhere that nothing can be tested.
    """
    problems: list[Finding] = []
    names: list[Claimed] = []
    for kind in KINDS:
        for name in _names(claims.get(kind, ())):
            covered = [leaf for leaf in leaves if _covers(name, leaf)]
            if not covered and name in parameters:
                if name not in untested and kind != "zero":
                    problems.append(_without_arrays(kind, name))
            elif not covered:
                problems.append(_unknown(kind, name, leaves))
            elif kind != "zero" and not any(leaf.differentiated for leaf in covered):
                problems.append(_without_gradient(kind, name))
            names.append(Claimed(kind, name, True))
    wide: list[Claim] = [kind for kind in KINDS if claims.get(kind) is True]
    if len(wide) > 1:
        both = " and ".join(f"`{kind}`" for kind in wide)
        problems.append(_problem(f"{both} are claimed for every slot; name the slots of one"))
    by_leaf = [
        _closest(leaf, names, wide[0] if wide else None, problems)
        for leaf in leaves
        if leaf.differentiated
    ]
    return Resolved(tuple(by_leaf), tuple(dict.fromkeys(problems)))


def _names(value: Any) -> Sequence[str]:
    if value is True or not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def names_leaf(name: str, slot: str, path: str) -> bool:
    """Tell whether a claim's name stands for a leaf."""
    return name == slot or _is_prefix(name, path)


def missed(finding: Finding) -> str:
    """Return the claim of which a finding says that this set of arguments has nothing for it.

    Another set may have: an argument that is None here is an array there.
    """
    is_claim = finding.check == "claim" and finding.message.startswith(_MISSED)
    return finding.message.partition(",")[0] if is_claim else ""


def _covers(name: str, leaf: Named) -> bool:
    return names_leaf(name, leaf.slot, leaf.path)


def _is_prefix(name: str, path: str) -> bool:
    rest = path.removeprefix(name)
    return path.startswith(name) and (not rest or rest[0] in ".[")


def _closest(
    leaf: Named, names: Sequence[Claimed], wide: Claim | None, problems: list[Finding]
) -> Claimed | None:
    """Return the claim that names a leaf most closely."""
    found = [claimed for claimed in names if _covers(claimed.name, leaf)]
    if not found:
        return Claimed(wide, leaf.slot, False) if wide else None
    found.sort(key=lambda claimed: len(claimed.name) if _is_prefix(claimed.name, leaf.path) else 0)
    best = [claimed for claimed in found if claimed.name == found[-1].name]
    kinds = sorted({claimed.kind for claimed in best})
    if len(kinds) > 1:
        both = " and ".join(f"`{kind}`" for kind in kinds)
        problems.append(_problem(f"`{best[0].name}` is claimed to be {both}", leaf=best[0].name))
    return best[-1]


def _unknown(kind: str, name: str, leaves: Sequence[Named]) -> Finding:
    known = dict.fromkeys(each for leaf in leaves for each in (leaf.slot, *_prefixes(leaf.path)))
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    slots = ", ".join(f"`{slot}`" for slot in dict.fromkeys(leaf.slot for leaf in leaves))
    hint = f"did you mean `{close[0]}`?" if close else f"the slots are {slots}"
    return _problem(f"{_MISSED}{kind}` names `{name}`, which is nothing here; {hint}", leaf=name)


def _without_arrays(kind: str, name: str) -> Finding:
    message = f"{_MISSED}{kind}` names `{name}`, which holds no array, so that nothing is tested"
    return Finding("claim", "warning", message, leaf=name)


def _prefixes(path: str) -> Sequence[str]:
    places = [place for place, char in enumerate(path) if char in ".[" and place]
    return [*(path[:place] for place in places), path]


def _without_gradient(kind: str, name: str) -> Finding:
    return _problem(
        f"{_MISSED}{kind}` names `{name}`, which has no gradient: it is nondiff, of an "
        "integer or key dtype, or in a collection outside `grad_vars`",
        leaf=name,
    )


def _problem(message: str, leaf: str = "") -> Finding:
    return Finding("claim", "error", message, leaf=leaf)
