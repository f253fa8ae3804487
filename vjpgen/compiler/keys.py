"""What the keys of an annotation mean, in words: for the README's table and for editors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KeyText:
    """Keys that mean alike.

    Args:
        keys: their names.
        meaning: what they say, in Markdown.
        default: what holds where they are not given.
    """

    keys: tuple[str, ...]
    meaning: str
    default: str


KEY_TEXTS = (
    KeyText(
        ("bwd",),
        "the backward rule: a name, dotted name or expression. Takes `(*nondiff_arguments, "
        "residuals, output_tangents)`, returns one tangent for each slot: the module's, then one "
        "for each argument that is not nondiff",
        "required",
    ),
    KeyText(
        ("fwd",),
        "the forward rule: takes the function's arguments, returns `(output, residuals)`",
        "the primal through `vjp`; the residual is the vjp function",
    ),
    KeyText(
        ("grad_vars",),
        "the collections whose tangents the rule returns: `params`, `(params, adapters)`, `True`",
        "`params`",
    ),
    KeyText(
        ("nondiff_argnums",),
        "places of arguments without a tangent; the module counts as 0",
        "`()`",
    ),
    KeyText(("nondiff_argnames",), "names of arguments without a tangent", "`()`"),
    KeyText(
        ("missing",),
        "`error`, `zero` or `autodiff`: what becomes of tangents that the rule does not give",
        "strict",
    ),
    KeyText(("symbolic_zeros", "optimize_remat"), "as in `jax.custom_vjp.defvjp`", "`False`"),
    KeyText(("target",), "`linen` or `function`, where it cannot be inferred", "inferred"),
    KeyText(
        ("exact",),
        "a claim, kept for verification: the tangents of these slots are the true gradient; "
        "`True` for every slot, or names as `x`, `params`, `params.Dense_0.kernel`",
        "nothing claimed",
    ),
    KeyText(
        ("surrogate",),
        "a claim: the tangents of these slots differ from the true gradient on purpose",
        "nothing claimed",
    ),
    KeyText(("zero",), "a claim: the tangents of these slots are zero", "nothing claimed"),
    KeyText(
        ("state",),
        "a claim: the tangents of these slots carry new state back in place of a gradient",
        "nothing claimed",
    ),
    KeyText(
        ("example",),
        "a function that returns example arguments, for `vjpgen inspect` and verification",
        "none",
    ),
)


def text_of(key: str) -> KeyText | None:
    """What a key means; None for what is no key."""
    return next((text for text in KEY_TEXTS if key in text.keys), None)


def table() -> str:
    """The keys as a table in Markdown."""
    rows = [("key", "value", "default"), ("---", "---", "---")]
    for text in KEY_TEXTS:
        rows.append((", ".join(f"`{key}`" for key in text.keys), text.meaning, text.default))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines).replace("| --- | --- | --- |", "|---|---|---|")
