"""Comments `# vjpgen: ignore[VJP302]`, which silence the findings of one line."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from vjpgen.diagnostics import Diagnostic, Span
from vjpgen.diagnostics.catalogue import CATALOGUE, fitting, nearest
from vjpgen.diagnostics.text import decode

_COMMENT = re.compile(r"#\s*vjpgen:\s*ignore(?![\w-])(?P<rest>[^#]*)")
_LIST = re.compile(r"\s*\[(?P<codes>[^\]]*)\]")
_ITEM = re.compile(r"[^\s,]+")
_CODE = re.compile(r"VJP\d{3}", re.IGNORECASE)
_SUPPRESSION = "VJP009"


@dataclass(frozen=True)
class Suppression:
    """One code that one comment silences.

    Args:
        code: the code; None where the comment silences nothing, whatever is found.
        span: its place.
        fault: why it silences nothing, and what to write instead.
    """

    code: str | None
    span: Span
    fault: tuple[str, str] | None = None


def read_suppressions(source: bytes) -> tuple[Suppression, ...]:
    """Find every suppression among the comments of a source file."""
    if b"vjpgen:" not in source or b"\0" in source:
        return ()
    return tuple(_in_comments(decode(source)))


def _in_comments(text: str) -> Iterator[Suppression]:
    readline = io.StringIO(text, newline="").readline
    try:
        for token in tokenize.generate_tokens(readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                yield from _in_comment(token.string, row, column + 1)
    except (tokenize.TokenError, SyntaxError, ValueError):
        return  # the compiler reports a file that is not Python


def _in_comment(comment: str, row: int, column: int) -> Iterator[Suppression]:
    for match in _COMMENT.finditer(comment):
        whole = Span(
            row, column + match.start(), row, column + len(match[0].rstrip()) + match.start()
        )
        listed = _LIST.match(match["rest"])
        if listed is None:
            yield Suppression(None, whole, _not_a_list(match["rest"]))
            continue
        items = list(_ITEM.finditer(listed["codes"]))
        if not items:
            yield Suppression(None, whole, _not_a_list(""))
        offset = column + match.start("rest") + listed.start("codes")
        for item in items:
            yield _one(item[0], Span(row, offset + item.start(), row, offset + item.end()))


def _one(text: str, span: Span) -> Suppression:
    if text in CATALOGUE:
        return Suppression(text, span)
    guess = nearest(text)
    if fitting(text) and text.upper() not in CATALOGUE:
        help_ = "write out each code, as in `# vjpgen: ignore[VJP302, VJP303]`"
    elif guess:
        help_ = f"did you mean `{guess}`?"
    else:
        help_ = "`vjpgen explain --all` lists the codes"
    return Suppression(None, span, (f"no finding has the code `{text}`", help_))


def _not_a_list(rest: str) -> tuple[str, str]:
    """Say what is wrong with a suppression that lists nothing in brackets."""
    codes = ", ".join(dict.fromkeys(code.upper() for code in _CODE.findall(rest)))
    what = "names no code in brackets" if codes else "names no code"
    return f"this suppression {what}, and silences nothing", (
        f"write `# vjpgen: ignore[{codes or 'VJP302'}]`"
    )


def suppress(
    diagnostics: Iterable[Diagnostic],
    suppressions: tuple[Suppression, ...],
    filename: str,
    can_silence: Callable[[Diagnostic], bool],
    *,
    complete: bool = True,
) -> tuple[Diagnostic, ...]:
    """Drop the silenced findings, and add a VJP009 for each suppression that silences none.

    A suppression stands on a line of the finding, or of the annotation that it is about. One of
    VJP009 silences what there is to say about the others on its line.

    Args:
        diagnostics: the findings of one file.
        suppressions: the suppressions of that file.
        filename: the file as the user named it.
        can_silence: tells the findings that a suppression can silence from those that stay.
        complete: whether all was looked for; else one that fits none may yet be of use.
    """
    used: set[Suppression] = set()
    vain: set[Suppression] = set()
    kept = []
    for item in diagnostics:
        hits = [each for each in suppressions if each.code == item.code and _fits(each, item)]
        silences = bool(hits) and can_silence(item)
        (used if silences else vain).update(hits)
        if not silences:
            kept.append(item)
    left = [_in_vain(each) if each in vain else each for each in suppressions if each not in used]
    return (*kept, *(_unused(each, filename) for each in _to_report(left, complete)))


def _in_vain(item: Suppression) -> Suppression:
    message = f"{item.code} is an error here, which cannot be silenced: no module could be written"
    return replace(item, fault=(message, "mend what it says, and remove this"))


def _fits(suppression: Suppression, item: Diagnostic) -> bool:
    row = suppression.span.row
    return row in item.span.rows or (item.annotation is not None and row in item.annotation.rows)


def _to_report(left: list[Suppression], complete: bool) -> Iterator[Suppression]:
    """Yield those to complain about, without those that one of VJP009 on their line speaks for."""
    idle = [each for each in left if each.fault or (complete and each.code != _SUPPRESSION)]
    rows = {each.span.row for each in idle}
    silent = {each.span.row for each in left if each.code == _SUPPRESSION}
    yield from (each for each in idle if each.span.row not in silent)
    if complete:
        yield from (
            each for each in left if each.code == _SUPPRESSION and each.span.row not in rows
        )


def _unused(item: Suppression, filename: str) -> Diagnostic:
    message = f"nothing on this line is a {item.code}, so this suppression silences nothing"
    help_ = "remove it, or put it at the end of the line of the finding or of its annotation"
    message, help_ = item.fault or (message, help_)
    return Diagnostic(_SUPPRESSION, message, filename, item.span, help_)
