"""What the server answers: one short function for each message of the protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from lsprotocol import types

from vjpgen.building.paths import SETTINGS
from vjpgen.lsp import convert
from vjpgen.lsp.actions import Action, actions
from vjpgen.lsp.completion import completions
from vjpgen.lsp.definition import definitions
from vjpgen.lsp.hover import hover
from vjpgen.lsp.server import Server
from vjpgen.lsp.view import View

_WATCHED = ("**/*.py", *(f"**/{name}" for name in SETTINGS))
_TRIGGERS = ["#", " ", ":", ",", "=", "(", ".", "["]
_KINDS = [types.CodeActionKind.QuickFix, types.CodeActionKind.RefactorRewrite]


async def _hover(server: Server, params: types.HoverParams) -> types.Hover | None:
    def question(view: View) -> types.Hover | None:
        found = hover(view, convert.place(view.document, params.position, server.client))
        return None if found is None else convert.hover(view.document, found, server.client)

    return await server.ask(params.text_document.uri, question)


async def _definition(
    server: Server, params: types.DefinitionParams
) -> list[types.Location] | None:
    def question(view: View) -> list[types.Location]:
        place = convert.place(view.document, params.position, server.client)
        return [convert.location(each, server.client) for each in definitions(view, place)]

    return await server.ask(params.text_document.uri, question)


async def _completion(
    server: Server, params: types.CompletionParams
) -> types.CompletionList | None:
    def question(view: View) -> types.CompletionList:
        place = convert.place(view.document, params.position, server.client)
        items = [
            convert.completion(view.document, item, place, server.client)
            for item in completions(view, place)
        ]
        return types.CompletionList(is_incomplete=False, items=items)

    return await server.ask(params.text_document.uri, question)


async def _code_action(
    server: Server, params: types.CodeActionParams
) -> list[types.CodeAction] | None:
    def question(view: View) -> list[types.CodeAction]:
        document, client = view.document, server.client
        first = convert.place(document, params.range.start, client)[0]
        last = convert.place(document, params.range.end, client)[0]
        found = (_action(view, item, params, server) for item in actions(view, first, last))
        wanted = params.context.only
        return [each for each in found if wanted is None or _is_wanted(each, wanted)]

    return await server.ask(params.text_document.uri, question)


def _action(
    view: View, item: Action, params: types.CodeActionParams, server: Server
) -> types.CodeAction:
    """An action with those of the client's diagnostics that it is about."""
    shown = []
    if item.finding is not None:
        own = convert.diagnostic(view.document, item.finding, server.client)
        shown = [
            each
            for each in params.context.diagnostics
            if each.code == own.code and each.range == own.range
        ]
    return convert.action(view.document, item, shown, server.client)


def _is_wanted(action: types.CodeAction, kinds: Any) -> bool:
    kind = str(getattr(action.kind, "value", action.kind))
    wanted = [str(getattr(each, "value", each)) for each in kinds]
    return any(not each or kind == each or kind.startswith(f"{each}.") for each in wanted)


async def _initialize(server: Server, params: types.InitializeParams) -> None:
    server.begin(params)


async def _initialized(server: Server, params: types.InitializedParams) -> None:
    """Ask to be told of changes on disk, where the client can tell."""
    if not server.client.registers_watchers:
        return
    watchers = [types.FileSystemWatcher(glob_pattern=pattern) for pattern in _WATCHED]
    options = types.DidChangeWatchedFilesRegistrationOptions(watchers=watchers)
    method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
    registration = types.Registration(id="files", method=method, register_options=options)
    await server.client_register_capability_async(types.RegistrationParams([registration]))


async def _did_save(server: Server, params: types.DidSaveTextDocumentParams) -> None:
    """Look again, unless the client will tell of the change on disk anyway."""
    if not server.client.registers_watchers:
        server.look_again()


async def _look_again(server: Server, params: Any) -> None:
    server.look_again()


async def _folders(server: Server, params: types.DidChangeWorkspaceFoldersParams) -> None:
    server.set_folders()
    server.look_again()


_Handler = Callable[[Server, Any], Awaitable[Any]]
_FEATURES: tuple[tuple[str, _Handler, Any], ...] = (
    (types.INITIALIZE, _initialize, None),
    (types.INITIALIZED, _initialized, None),
    (types.TEXT_DOCUMENT_DID_SAVE, _did_save, None),
    (types.WORKSPACE_DID_CHANGE_CONFIGURATION, _look_again, None),
    (types.WORKSPACE_DID_CHANGE_WATCHED_FILES, _look_again, None),
    (types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS, _folders, None),
    (types.TEXT_DOCUMENT_HOVER, _hover, None),
    (types.TEXT_DOCUMENT_DEFINITION, _definition, None),
    (
        types.TEXT_DOCUMENT_COMPLETION,
        _completion,
        types.CompletionOptions(trigger_characters=_TRIGGERS),
    ),
    (
        types.TEXT_DOCUMENT_CODE_ACTION,
        _code_action,
        types.CodeActionOptions(code_action_kinds=_KINDS),
    ),
)


def add_features(server: Server) -> None:
    """Let a server answer every message that it has an answer to.

    pygls's own documents are replaced: they split lines where neither Python nor the protocol does.
    """
    own = server.protocol.fm
    own.add_builtin_feature(types.TEXT_DOCUMENT_DID_OPEN, server.opened)
    own.add_builtin_feature(types.TEXT_DOCUMENT_DID_CHANGE, server.changed)
    own.add_builtin_feature(types.TEXT_DOCUMENT_DID_CLOSE, server.closed)
    for method, handler, options in _FEATURES:
        server.feature(method, options)(partial(handler, server))
