"""Results as the protocol has them, in the client's own positions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lsprotocol import types

from vjpgen.compiler.source import Position
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic, Severity, Span
from vjpgen.lsp.actions import Action
from vjpgen.lsp.completion import Item
from vjpgen.lsp.definition import Location
from vjpgen.lsp.document import Document, Units
from vjpgen.lsp.edits import TextEdit, in_order
from vjpgen.lsp.hover import Hover

_SEVERITIES = {
    Severity.ERROR: types.DiagnosticSeverity.Error,
    Severity.WARNING: types.DiagnosticSeverity.Warning,
    Severity.NOTE: types.DiagnosticSeverity.Information,
}
_UNNECESSARY = ("VJP009", "VJP302")
_KINDS = {
    "annotation": types.CompletionItemKind.Snippet,
    "class": types.CompletionItemKind.Class,
    "code": types.CompletionItemKind.Constant,
    "function": types.CompletionItemKind.Function,
    "key": types.CompletionItemKind.Keyword,
    "module": types.CompletionItemKind.Module,
    "parameter": types.CompletionItemKind.Variable,
    "value": types.CompletionItemKind.EnumMember,
}


@dataclass(frozen=True)
class Client:
    """What a client can take.

    Args:
        units: how it counts columns.
        markdown: whether hovers may be Markdown.
        versioned: whether edits may name the version of a document that they are for.
        registers_watchers: whether it can be asked to report changes of files.
    """

    units: Units
    markdown: bool
    versioned: bool
    registers_watchers: bool


def path_of(uri: str) -> str | None:
    """The absolute path that a `file:` URI names; None for another URI."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return None
    path = unquote(parts.path)
    if len(path) > 2 and path[0] == "/" and path[2] == ":":  # a drive letter
        path = path[1:]
    return str(Path(f"//{parts.netloc}{path}" if parts.netloc else path))


def uri_of(path: str) -> str:
    """The URI of an absolute path."""
    return Path(path).as_uri()


def position(document: Document, place: Position, client: Client) -> types.Position:
    """A place as the client counts."""
    line, character = document.to_client(place, client.units)
    return types.Position(line, character)


def place(document: Document, at: types.Position, client: Client) -> Position:
    """The place that a client means."""
    return document.from_client(at.line, at.character, client.units)


def range_of(document: Document, span: Span, client: Client) -> types.Range:
    """A stretch as the client counts; what is about the whole file is shown in its first line."""
    start, end = (span.row, span.column - 1), (span.end_row, span.end_column - 1)
    if span == WHOLE_FILE:
        end = (1, len(document.line(1)))
    return types.Range(position(document, start, client), position(document, end, client))


def diagnostic(document: Document, item: Diagnostic, client: Client) -> types.Diagnostic:
    """One finding."""
    unnecessary = [types.DiagnosticTag.Unnecessary] if item.code in _UNNECESSARY else None
    return types.Diagnostic(
        range=range_of(document, item.span, client),
        message=item.message if item.help is None else f"{item.message}\nhelp: {item.help}",
        severity=_SEVERITIES[item.severity],
        code=item.code,
        source="vjpgen",
        tags=unnecessary,
    )


def hover(document: Document, shown: Hover, client: Client) -> types.Hover:
    """What is shown for a place."""
    kind = types.MarkupKind.Markdown if client.markdown else types.MarkupKind.PlainText
    content = types.MarkupContent(kind, shown.markdown)
    return types.Hover(content, range_of(document, shown.span, client))


def location(found: Location, client: Client) -> types.Location:
    """A place in some file."""
    return types.Location(found.document.uri, range_of(found.document, found.span, client))


def completion(
    document: Document, item: Item, at: Position, client: Client
) -> types.CompletionItem:
    """One thing that can be written."""
    replaced = types.Range(position(document, item.start, client), position(document, at, client))
    documentation = None
    if item.documentation:
        kind = types.MarkupKind.Markdown if client.markdown else types.MarkupKind.PlainText
        documentation = types.MarkupContent(kind, item.documentation)
    return types.CompletionItem(
        label=item.label,
        kind=_KINDS[item.kind],
        detail=item.detail or None,
        documentation=documentation,
        sort_text=f"{item.rank + 1:04d}{item.label}",
        filter_text=item.text or item.label,
        text_edit=types.TextEdit(replaced, item.text or item.label),
    )


def action(
    document: Document, item: Action, shown: Iterable[types.Diagnostic], client: Client
) -> types.CodeAction:
    """Something to do; `shown` are the client's diagnostics that it is about."""
    fixed = list(shown)
    kind = types.CodeActionKind.QuickFix if item.finding else types.CodeActionKind.RefactorRewrite
    return types.CodeAction(
        title=item.title,
        kind=kind,
        diagnostics=fixed or None,
        is_preferred=item.preferred or None,
        edit=_workspace_edit(document, item.edits, client),
    )


def _workspace_edit(
    document: Document, edits: Iterable[TextEdit], client: Client
) -> types.WorkspaceEdit:
    changes = [
        types.TextEdit(
            types.Range(
                position(document, edit.start, client), position(document, edit.end, client)
            ),
            edit.text,
        )
        for edit in in_order(edits)
    ]
    if not client.versioned:
        return types.WorkspaceEdit(changes={document.uri: changes})
    identifier = types.OptionalVersionedTextDocumentIdentifier(document.uri, document.version)
    return types.WorkspaceEdit(document_changes=[types.TextDocumentEdit(identifier, list(changes))])
