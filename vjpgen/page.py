"""The frame of a page that opens from disk: it holds its styles and drawings, and loads nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

_CODE = re.compile("`([^`\n]+)`")
_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #60656c; --line: #e0e3e7;
  --page: #ffffff; --panel: #f6f7f9; --rule: #0b68cb; --autodiff: #d9730d; --good: #18794e;
  --bad: #cd2b31; --doubt: #8a6100; --other: #7c4ddb; }
@media (prefers-color-scheme: dark) { :root { --text: #e8eaed; --soft: #9ba1a8; --line: #33383e;
  --page: #15181b; --panel: #1e2226; --rule: #63aefc; --autodiff: #f5a359; --good: #4cc38a;
  --bad: #ff7b80; --doubt: #e5b94e; --other: #b79bff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font: 600 1.5rem/1.3 ui-monospace, monospace; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
p { margin: .25rem 0; }
code, pre { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: 1rem; background: var(--panel); border-radius: 8px;
  overflow-wrap: normal; }
.soft { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem;
  margin: 1.5rem 0; }
.figure { background: var(--panel); border-radius: 8px; padding: .9rem 1.1rem; }
.figure b { display: block; font-size: 1.6rem; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
.whole { white-space: nowrap; }
.mark { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .45em; }
.mark.rule { background: var(--rule); } .mark.autodiff { background: var(--autodiff); }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); }
svg .grid { stroke: var(--line); }
details { margin: .5rem 0; } summary { cursor: pointer; }
"""


def document(title: str, body: Iterable[str], style: str = "") -> str:
    """Return a page.

    Args:
        title: plain text.
        body: its lines of HTML.
        style: rules of CSS besides those that all pages share.
    """
    lines = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{_STYLE}{style}</style>\n</head>\n<body>\n{lines}\n</body>\n</html>\n"
    )


def code(text: str) -> str:
    """Return plain text as code."""
    return f"<code>{escape(text)}</code>"


def prose(text: str) -> str:
    """Return a plain sentence, in which what stands between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def soft(text: str) -> str:
    """Return plain text in the colour of what matters less."""
    return f'<span class="soft">{escape(text)}</span>'


def card(value: str, what: str, note: str = "") -> str:
    """Return a number that stands out, with plain text that says what it is."""
    below = f"<br>{soft(note)}" if note else ""
    return f'<div class="figure"><b>{escape(value)}</b>{escape(what)}{below}</div>'


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], classes: Mapping[str, str]
) -> Iterator[str]:
    """Yield the lines of a table, which scrolls where the page is too narrow.

    Args:
        headings: HTML.
        rows: HTML, a cell for each heading.
        classes: by heading, the class of its column's cells.
    """
    kinds = [classes.get(heading, "") for heading in headings]
    yield '<div class="wide"><table>'
    yield f"<tr>{cells('th', headings, kinds)}</tr>"
    for row in rows:
        yield f"<tr>{cells('td', row, kinds)}</tr>"
    yield "</table></div>"


def cells(tag: str, parts: Iterable[str], classes: Iterable[str]) -> str:
    """Return the cells of a row, each with its class."""
    return "".join(
        f'<{tag} class="{kind}">{part}</{tag}>' if kind else f"<{tag}>{part}</{tag}>"
        for part, kind in zip(parts, classes, strict=True)
    )
