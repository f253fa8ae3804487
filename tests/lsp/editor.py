"""An editor: pygls' client, the buffers that it has open, and what it was told about them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from vjpgen.lsp.document import UNITS, Document

SECONDS = 60
"""How long a test waits for what must come; far more than it takes."""

SERVER = ("-m", "vjpgen", "lsp")


class Editor(LanguageClient):
    """A client with buffers."""

    def __init__(self, folder: Path) -> None:
        super().__init__("editor", "1")
        self.folder = folder
        self.units = UNITS["utf-16"]
        self.capabilities = types.ServerCapabilities()
        self.buffers: dict[str, Document] = {}
        self.published: dict[str, types.PublishDiagnosticsParams] = {}
        self.logged: list[str] = []
        self.shown: list[str] = []
        self.registered: list[types.Registration] = []
        self._news = asyncio.Condition()
        self._told: set[asyncio.Task[None]] = set()
        self._listen()

    def _listen(self) -> None:
        @self.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def published(params: types.PublishDiagnosticsParams) -> None:
            self.published[params.uri] = params
            self._tell()

        @self.feature(types.WINDOW_LOG_MESSAGE)
        def logged(params: types.LogMessageParams) -> None:
            self.logged.append(params.message)
            self._tell()

        @self.feature(types.WINDOW_SHOW_MESSAGE)
        def shown(params: types.ShowMessageParams) -> None:
            self.shown.append(params.message)
            self._tell()

        @self.feature(types.CLIENT_REGISTER_CAPABILITY)
        def registered(params: types.RegistrationParams) -> None:
            self.registered += params.registrations
            self._tell()

    def _tell(self) -> None:
        async def notify() -> None:
            async with self._news:
                self._news.notify_all()

        task = asyncio.ensure_future(notify())
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until what was told makes this true."""
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(happened), SECONDS)

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def write(self, name: str, text: str) -> None:
        """Put a file on disk, behind the editor's back."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def open(self, name: str, text: str) -> None:
        """Open a buffer, which need not be on disk."""
        uri = self.uri(name)
        self.buffers[name] = Document(uri, str(self.folder / name), text, 1)
        item = types.TextDocumentItem(uri, "python", 1, text)
        self.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def type(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace each first text by the second, one stretch after the other."""
        events: list[types.TextDocumentContentChangeEvent] = []
        buffer = self.buffers[name]
        for old, new in changes:
            offset = buffer.text.index(old)
            start, end = self._place(buffer, offset), self._place(buffer, offset + len(old))
            events.append(types.TextDocumentContentChangePartial(types.Range(start, end), new))
            text = buffer.text.replace(old, new, 1)
            buffer = Document(buffer.uri, buffer.path, text, buffer.version)
        self._changed(name, buffer.text, events)

    def replace(self, name: str, text: str) -> None:
        """Replace all of a buffer."""
        self._changed(name, text, [types.TextDocumentContentChangeWholeDocument(text)])

    def apply(self, name: str, edit: types.WorkspaceEdit) -> str:
        """Make the edits of a code action, last one first, as editors do."""
        buffer, edits = self.buffers[name], []
        for change in edit.document_changes or ():
            assert isinstance(change, types.TextDocumentEdit)
            assert change.text_document.version == buffer.version
            edits += change.edits
        for uri, listed in (edit.changes or {}).items():
            assert uri == buffer.uri
            edits += listed
        text = buffer.text
        for each in reversed(edits):
            start = buffer.offset(self.place(buffer, each.range.start))
            end = buffer.offset(self.place(buffer, each.range.end))
            text = text[:start] + each.new_text + text[end:]
        self.replace(name, text)
        return text

    def save(self, name: str) -> None:
        self.write(name, self.buffers[name].text)
        identifier = types.TextDocumentIdentifier(self.uri(name))
        self.text_document_did_save(types.DidSaveTextDocumentParams(identifier))

    def close(self, name: str) -> None:
        del self.buffers[name]
        identifier = types.TextDocumentIdentifier(self.uri(name))
        self.text_document_did_close(types.DidCloseTextDocumentParams(identifier))

    def touched(self, *names: str) -> None:
        """Say that files have changed on disk."""
        changes = [types.FileEvent(self.uri(n), types.FileChangeType.Changed) for n in names]
        params = types.DidChangeWatchedFilesParams(changes)
        self.workspace_did_change_watched_files(params)

    async def findings(self, name: str) -> list[types.Diagnostic]:
        """What is said about the buffer as it now is."""
        uri, version = self.uri(name), self.buffers[name].version
        await self.until(lambda: uri in self.published and self.published[uri].version == version)
        return list(self.published[uri].diagnostics)

    async def codes(self, name: str) -> list[str]:
        return [str(each.code) for each in await self.findings(name)]

    async def until_codes(self, name: str, codes: list[str]) -> None:
        """Wait until this is said about a buffer."""

        def said() -> bool:
            last = self.published.get(self.uri(name))
            return last is not None and [each.code for each in last.diagnostics] == codes

        await self.until(said)

    def at(self, name: str, before: str) -> tuple[types.TextDocumentIdentifier, types.Position]:
        """The place in a buffer after this text."""
        buffer = self.buffers[name]
        offset = buffer.text.index(before) + len(before)
        return types.TextDocumentIdentifier(buffer.uri), self._place(buffer, offset)

    async def hover(self, name: str, before: str) -> str:
        found = await self._ask(
            self.text_document_hover_async(types.HoverParams(*self.at(name, before)))
        )
        return "" if found is None else found.contents.value

    async def definition(self, name: str, before: str) -> Any:
        params = types.DefinitionParams(*self.at(name, before))
        return await self._ask(self.text_document_definition_async(params))

    async def completion(self, name: str, before: str) -> list[types.CompletionItem]:
        params = types.CompletionParams(*self.at(name, before))
        found = await self._ask(self.text_document_completion_async(params))
        return sorted(found.items, key=lambda item: item.sort_text)

    async def actions(self, name: str, before: str, *only: str) -> list[types.CodeAction]:
        identifier, place = self.at(name, before)
        shown = self.published[identifier.uri].diagnostics
        context = types.CodeActionContext(shown, only=list(only) or None)
        params = types.CodeActionParams(identifier, types.Range(place, place), context)
        return list(await self._ask(self.text_document_code_action_async(params)))

    def text_of(self, name: str, stretch: types.Range) -> str:
        """The text in a stretch that the server named."""
        buffer = self.buffers[name]
        start, end = self.place(buffer, stretch.start), self.place(buffer, stretch.end)
        return buffer.text[buffer.offset(start) : buffer.offset(end)]

    def place(self, buffer: Document, position: types.Position) -> tuple[int, int]:
        return buffer.from_client(position.line, position.character, self.units)

    def _place(self, buffer: Document, offset: int) -> types.Position:
        before = buffer.text[:offset]
        place = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
        return types.Position(*buffer.to_client(place, self.units))

    def _changed(self, name: str, text: str, events: list[Any]) -> None:
        buffer = self.buffers[name]
        version = (buffer.version or 0) + 1
        self.buffers[name] = Document(buffer.uri, buffer.path, text, version)
        identifier = types.VersionedTextDocumentIdentifier(version, buffer.uri)
        params = types.DidChangeTextDocumentParams(identifier, events)
        self.text_document_did_change(params)

    async def _ask(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wait_for(answer, SECONDS)


@asynccontextmanager
async def editing(
    folder: Path,
    *,
    capabilities: types.ClientCapabilities | None = None,
    server: tuple[str, ...] = SERVER,
    folders: bool = True,
) -> AsyncIterator[Editor]:
    """An editor with a folder open and a server of its own, which is gone afterwards."""
    editor = Editor(folder)
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    await editor.start_io(
        sys.executable, *server, cwd=str(folder), env={**os.environ, "PYTHONPATH": path}
    )
    process = editor._server
    assert process is not None
    assert process.stderr is not None
    try:
        params = types.InitializeParams(
            capabilities=capabilities or types.ClientCapabilities(),
            workspace_folders=[types.WorkspaceFolder(folder.as_uri(), "folder")] * folders,
        )
        result = await asyncio.wait_for(editor.initialize_async(params), SECONDS)
        editor.capabilities = result.capabilities
        encoding = result.capabilities.position_encoding
        editor.units = UNITS[str(getattr(encoding, "value", encoding))]
        editor.initialized(types.InitializedParams())
        yield editor
        await asyncio.wait_for(editor.shutdown_async(None), SECONDS)
        editor.exit(None)
        await asyncio.wait_for(process.wait(), SECONDS)
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.stderr.read()
        await editor.stop()
        process._transport.close()  # pyright: ignore[reportAttributeAccessIssue]
        await asyncio.sleep(0)
