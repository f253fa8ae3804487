"""The family VJP1xx: the names that an annotation uses."""

from __future__ import annotations

from vjpgen.diagnostics.catalogue.entry import Entry

ENTRIES = (
    Entry(
        "VJP101",
        "`fwd`, `bwd` or `example` names nothing that is defined there",
        "Names are looked up as Python would where the annotation stands: for a method the class "
        "body, then enclosing functions, then the module; for a nested function the enclosing "
        "functions, then the module. The rule may be defined after the function that names it.",
        bad="""\
def scale_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=scale_bwdd
def scale(x):
    return 3 * x
""",
        good="""\
def scale_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
    ),
    Entry(
        "VJP102",
        "it names something that is not a function",
        "The name is defined, but as something that cannot be called: a number, a string, "
        "a module. A rule is a function, or an expression that gives one.",
        bad="""\
scale_bwd = 2.0


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
        good="""\
def scale_bwd(vjp_fn, y_t):
    return vjp_fn(2.0 * y_t)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
""",
    ),
    Entry(
        "VJP103",
        "a rule is bound only after the annotated function's first use",
        "The rule is a local name of the function that encloses the annotated one, and it gets "
        "its value after the annotated function was first used. At that use Python would find no "
        "such name. Define the rule first.",
        bad="""\
def loss(x):
    # custom-vjp: bwd=scale_bwd
    def scale(x):
        return 3 * x

    y = scale(x)

    def scale_bwd(vjp_fn, y_t):
        return vjp_fn(2 * y_t)

    return y
""",
        good="""\
def loss(x):
    def scale_bwd(vjp_fn, y_t):
        return vjp_fn(2 * y_t)

    # custom-vjp: bwd=scale_bwd
    def scale(x):
        return 3 * x

    return scale(x)
""",
    ),
)
