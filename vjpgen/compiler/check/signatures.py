"""VJP201, VJP202: how the rules are called, against what they take."""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.compiler.check.backward import nondiff_names, takes_self
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.references import Reference
from vjpgen.compiler.signature import Signature
from vjpgen.diagnostics import Diagnostic


def check_fwd(facts: Facts) -> Iterator[Diagnostic]:
    """`fwd` is called with every argument of the function."""
    fwd = facts.fwd
    if fwd is None or fwd.signature is None or (fwd.is_static and facts.is_method):
        return
    if not facts.keeps_signature:
        return
    why = _cannot_call(fwd.signature, facts.signature)
    if why is not None:
        yield Diagnostic(
            "VJP201",
            f"`{fwd.key.text}` cannot be called with the arguments of `{facts.node.name}`: {why}",
            facts.source.filename,
            fwd.key.span,
            f"give it the parameters of `{facts.node.name}`: "
            f"`({', '.join(facts.signature.names)})`",
        )


def check_bwd(facts: Facts) -> Iterator[Diagnostic]:
    """`bwd` is called with the nondiff arguments, the residuals and the output's tangents."""
    bwd = facts.bwd
    if bwd is None or bwd.signature is None or facts.signature.vararg in facts.nondiff:
        return
    names = nondiff_names(facts)
    if names is None or not facts.keeps_signature:
        return
    given = [*names, "residuals", "tangents"]
    if takes_self(facts, bwd):
        given.insert(0, "self")
    elif bwd.in_class and bwd.is_static != facts.is_static and not facts.is_method:
        return
    if not bwd.signature.takes(len(given)):
        takes, text = bwd.signature.describe(), bwd.key.text
        noun = "argument" if takes == "1" else "arguments"
        yield Diagnostic(
            "VJP202",
            f"`{text}` takes {takes} {noun} but is called with {len(given)}",
            facts.source.filename,
            bwd.key.span,
            _called_so(facts, bwd, given),
        )


def _called_so(facts: Facts, bwd: Reference, given: list[str]) -> str:
    """How to make a backward rule fit the arguments that it is given."""
    text, signature = bwd.key.text, bwd.signature
    owner, _, name = text.rpartition(".")
    own = facts.is_method and owner == facts.scope.name and not bwd.is_static
    if own and signature is not None and signature.takes(len(given) + 1):
        return f"write `bwd={name}`: by its plain name it is given a snapshot as `self`"
    if text.replace(".", "").isidentifier():
        return f"write `def {name}({', '.join(given)})`"
    return f"it is called with `({', '.join(given)})`"


def _cannot_call(fwd: Signature, function: Signature) -> str | None:
    """Why `fwd` does not bind the arguments that bind to the function."""
    count = len(function.positional)
    if fwd.vararg is None and count > len(fwd.positional):
        return f"it takes {fwd.describe()} positional, not {count}"
    by_keyword = set(function.keyword_only)
    if function.vararg is None and function.kwarg is None:
        lacking = [n for n in fwd.positional[count : fwd.required] if n not in by_keyword]
        lacking += sorted(fwd.keyword_required - by_keyword)
        if lacking:
            return f"its `{lacking[0]}` has no default and is not given"
    for name in function.keyword_only:
        accepts = name in fwd.keyword_only or name in fwd.positional[count:]
        if not accepts and fwd.kwarg is None:
            return f"it does not take `{name}`"
    return None
