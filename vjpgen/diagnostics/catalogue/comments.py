"""The family VJP0xx: the annotation as text."""

from __future__ import annotations

from vjpgen.diagnostics import Severity
from vjpgen.diagnostics.catalogue.entry import Entry

_RULE = """\
def scale_bwd(vjp_fn, y_t):
    (x_t,) = vjp_fn(y_t)
    return (2 * x_t,)


"""

_GOOD = (
    _RULE
    + """\
# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
"""
)

ENTRIES = (
    Entry(
        "VJP001",
        "the annotation does not parse",
        "What follows `# custom-vjp:` is read as the keywords of a Python call: `KEY=VALUE` pairs "
        "with commas between them, each value a Python expression. Several adjacent "
        "`# custom-vjp:` lines are one annotation, and a second `#` ends it.",
        bad=_RULE
        + """\
# custom-vjp: bwd=(scale_bwd
def scale(x):
    return 3 * x
""",
        good=_GOOD,
    ),
    Entry(
        "VJP002",
        "unknown key",
        "The annotation has a key that vjpgen does not know. A misspelt key would otherwise be "
        "a rule that silently does something else.",
        bad=_RULE
        + """\
# custom-vjp: bwd=scale_bwd, mising=zero
def scale(x):
    return 3 * x
""",
        good=_RULE
        + """\
# custom-vjp: bwd=scale_bwd, missing=zero
def scale(x):
    return 3 * x
""",
    ),
    Entry(
        "VJP003",
        "key given twice",
        "A key may stand once in an annotation, over all its lines.",
        bad=_RULE
        + """\
# custom-vjp: bwd=scale_bwd
# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
        good=_GOOD,
    ),
    Entry(
        "VJP004",
        "a comment that looks like an annotation but is not one",
        "An annotation begins with `# custom-vjp:`, spelt exactly so: a hash, one space, "
        "`custom-vjp`, a colon. A comment that nearly says that is taken for a plain comment, "
        "and the function keeps its ordinary gradient.",
        bad=_RULE
        + """\
# custom_vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
        good=_GOOD,
        severity=Severity.WARNING,
    ),
    Entry(
        "VJP005",
        "an annotation attached to no function",
        "An annotation stands directly above a function or its decorators, between or below the "
        "decorators, or at the end of the line that ends the signature. Other comments may stand "
        "between; a blank line or another statement parts it from the function.",
        bad=_RULE
        + """\
# custom-vjp: bwd=scale_bwd

def scale(x):
    return 3 * x
""",
        good=_GOOD,
    ),
    Entry(
        "VJP006",
        "`bwd` missing",
        "A rule needs a backward function. `fwd` may be left out: then the primal is run through "
        "`vjp`, and the residual that `bwd` receives is the vjp function.",
        bad="""\
def scale_fwd(x):
    return 3 * x, None


# custom-vjp: fwd=scale_fwd
def scale(x):
    return 3 * x
""",
        good="""\
def scale_fwd(x):
    return 3 * x, None


def scale_bwd(residuals, y_t):
    return (2 * y_t,)


# custom-vjp: fwd=scale_fwd, bwd=scale_bwd
def scale(x):
    return 3 * x
""",
    ),
    Entry(
        "VJP007",
        "a value of the wrong kind",
        "The key is known but its value is not one that it can take: `nondiff_argnums` is an "
        "integer or a tuple of integers, `missing` is `error`, `zero` or `autodiff`, and so on.",
        bad=_RULE
        + """\
# custom-vjp: bwd=scale_bwd, missing=maybe
def scale(x):
    return 3 * x
""",
        good=_RULE
        + """\
# custom-vjp: bwd=scale_bwd, missing=autodiff
def scale(x):
    return 3 * x
""",
    ),
    Entry(
        "VJP008",
        "the source file does not parse, or cannot be decoded",
        "The file has an annotation, but Python itself would not compile it. The place is the one "
        "that Python reports. What was generated from it before is left as it is.",
        bad=_RULE
        + """\
# custom-vjp: bwd=scale_bwd
def scale(x)
    return 3 * x
""",
        good=_GOOD,
    ),
    Entry(
        "VJP009",
        "a suppression that silences nothing",
        "A comment `# vjpgen: ignore[CODE, CODE]` silences the findings of those codes on its "
        "line, and those about the annotation on its line. Here there is none, or the comment "
        "names no code that there is, so it can go: left in place it would hide the next finding. "
        "A finding without which no module can be written cannot be silenced.",
        bad=_RULE
        + """\
# custom-vjp: bwd=scale_bwd  # vjpgen: ignore[VJP202]
def scale(x):
    return 3 * x
""",
        good=_GOOD,
        severity=Severity.WARNING,
    ),
)
