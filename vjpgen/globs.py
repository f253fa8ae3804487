"""File patterns of the configuration, read as ruff reads those of `per-file-ignores`."""

from __future__ import annotations

import re
from functools import cache

_TOKEN = re.compile(
    r"(?P<folders>(?:^|(?<=/))\*\*/)|(?P<below>/\*\*$)|(?P<any>\*+)|(?P<one>\?)"
    r"|(?P<set>\[[!^]?\]?[^\]]*\])|(?P<open>\{)|(?P<close>\})|(?P<comma>,)|(?P<rest>\\?.)",
    re.DOTALL,
)
_PLAIN = {"folders": "(?:.*/)?", "below": "/.+", "any": ".*", "one": ".", "open": "(?:"}


def fits(pattern: str, relative: str) -> bool:
    """Whether a file fits a pattern by its name or by its path from the project, with "/".

    A star stands for any text, slashes too; `**/` for any folders, none too; `{a,b}` for either.
    """
    name = relative.rpartition("/")[2]
    compiled = _compiled(pattern.removeprefix("./"))
    return bool(compiled.fullmatch(name) or compiled.fullmatch(relative))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    pieces, depth = [], 0
    for match in _TOKEN.finditer(pattern):
        kind, text = match.lastgroup or "rest", match[0]
        piece = re.escape(text[-1])
        if kind in _PLAIN:
            depth += kind == "open"
            piece = _PLAIN[kind]
        elif kind == "set":
            piece = _set(text)
        elif depth and kind in ("close", "comma"):
            depth -= kind == "close"
            piece = ")" if kind == "close" else "|"
        pieces.append(piece)
    try:
        return re.compile("".join(pieces) + ")" * depth, re.DOTALL)
    except re.error:
        return re.compile(re.escape(pattern), re.DOTALL)


def _set(text: str) -> str:
    inside = text[1:-1]
    negated = inside[:1] in ("!", "^")
    chosen = re.sub(r"--+|[^-]", lambda match: re.escape(match[0]), inside[negated:])
    return f"[{'^' * negated}{chosen}]"
