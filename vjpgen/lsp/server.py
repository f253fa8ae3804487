"""The server: what a client says is turned into views, and what features find into messages.

Buffers live in the event loop; everything that reads or compiles runs in one other thread, on
frozen views, so that the next key stroke is taken in meanwhile.
"""

from __future__ import annotations

import ast
import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from lsprotocol import types
from pygls.exceptions import JsonRpcMethodNotFound
from pygls.lsp.server import LanguageServer

from vjpgen._version import __version__
from vjpgen.building.files import read
from vjpgen.diagnostics.text import decode
from vjpgen.lsp import convert
from vjpgen.lsp.convert import Client
from vjpgen.lsp.document import UNITS, Document
from vjpgen.lsp.project import Workspace
from vjpgen.lsp.view import View

_PAUSE = 0.15
"""Seconds without a key stroke before a buffer is looked at."""

_LONGEST_PAUSE = 1.0
"""The same for a buffer that takes long to look at."""

_STACK = 256 * 1024 * 1024
"""Bytes of stack for the thread that compiles: deep nesting must not end the server."""

_CLIENT = Client(UNITS["utf-16"], markdown=True, versioned=False, registers_watchers=False)
_T = TypeVar("_T")


class Server(LanguageServer):
    """The language server.

    Args:
        config_file: a configuration that holds everywhere, or None for the nearest one.
    """

    def __init__(self, config_file: str | None = None) -> None:
        super().__init__("vjpgen", __version__)
        self.client = _CLIENT
        self.projects = Workspace(config_file, self._report_configuration)
        self._documents: dict[str, Document] = {}
        self._views: dict[str, View] = {}
        self._trees: dict[str, ast.Module] = {}
        self._looks = 0
        self._costs: dict[str, float] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker = _worker()

    # Buffers

    def opened(self, params: types.DidOpenTextDocumentParams) -> None:
        """Take in a buffer."""
        item = params.text_document
        path = convert.path_of(item.uri) or os.path.join(self._home(), "untitled.py")
        if item.language_id == "python" or path.endswith(".py"):
            self._put(Document(item.uri, os.path.abspath(path), item.text, item.version), 0)

    def changed(self, params: types.DidChangeTextDocumentParams) -> None:
        """Take in a buffer's changes, in their order."""
        document = self._documents.get(params.text_document.uri)
        if document is None:
            return
        for change in params.content_changes:
            text = change.text
            if isinstance(change, types.TextDocumentContentChangePartial):
                start = convert.place(document, change.range.start, self.client)
                end = convert.place(document, change.range.end, self.client)
                text = document.changed(start, end, text)
            document = Document(document.uri, document.path, text, params.text_document.version)
        self._put(document, _PAUSE)

    def closed(self, params: types.DidCloseTextDocumentParams) -> None:
        """Forget a buffer and clear what was said about it."""
        uri = params.text_document.uri
        if self._documents.pop(uri, None) is None:
            return
        self._views.pop(uri, None)
        self._trees.pop(uri, None)
        self._costs.pop(uri, None)
        handle = self._waiting.pop(uri, None)
        if handle is not None:
            handle.cancel()
        self._publish(uri, None, [])

    def look_again(self) -> None:
        """Look at the disk and at every buffer anew."""
        self._looks += 1
        self.projects.forget()
        for uri in list(self._documents):
            self._views.pop(uri, None)
            self._schedule(uri, _PAUSE)

    # Looking

    async def ask(self, uri: str, question: Callable[[View], _T]) -> _T | None:
        """What a feature finds in a buffer as it is now; None where there is no such buffer."""
        document = self._documents.get(uri)
        if document is None:
            return None
        return await asyncio.wrap_future(self._run(lambda: question(self._view(document))))

    def _run(self, work: Callable[[], _T]) -> Future[_T]:
        return self._worker.submit(work)

    def _view(self, document: Document) -> View:
        """The view of a document; made anew where the buffer or the disk has changed."""
        view, looks = self._views.get(document.uri), self._looks
        if view is None or view.document is not document:
            job = self.projects.job(document)
            roots = self.projects.roots(document.path)
            last = self._trees.get(document.uri)
            view = View(document, job, roots, self._read, last)
            if self._documents.get(document.uri) is document and looks == self._looks:
                self._views[document.uri] = view
            if "custom-vjp" in document.text and view.own_tree is not None:
                self._trees[document.uri] = view.own_tree
        return view

    def _read(self, path: str) -> Document | None:
        """Another file as its buffer has it, or else as it lies on disk."""
        for document in list(self._documents.values()):
            if document.path == path:
                return document
        try:
            return Document(convert.uri_of(path), path, decode(read(path)))
        except OSError:
            return None

    def _put(self, document: Document, pause: float) -> None:
        self._documents[document.uri] = document
        self._schedule(document.uri, pause)

    def _schedule(self, uri: str, pause: float) -> None:
        """Look at a buffer once it has been left alone for a while."""
        loop = asyncio.get_running_loop()
        handle = self._waiting.pop(uri, None)
        if handle is not None:
            handle.cancel()
        if pause:  # what takes long is not begun while someone types
            pause = max(pause, min(self._costs.get(uri, 0.0), _LONGEST_PAUSE))
        self._waiting[uri] = loop.call_later(pause, partial(self._diagnose, uri))

    def _diagnose(self, uri: str) -> None:
        self._waiting.pop(uri, None)
        document = self._documents.get(uri)
        if document is None:
            return
        loop = asyncio.get_running_loop()
        future = self._run(partial(self._found, document))
        future.add_done_callback(
            lambda done: loop.call_soon_threadsafe(self._deliver, document, done)
        )

    def _found(self, document: Document) -> list[types.Diagnostic]:
        start = time.monotonic()
        found = self._view(document).findings
        self._costs[document.uri] = time.monotonic() - start
        return [convert.diagnostic(document, item, self.client) for item in found]

    def _deliver(self, document: Document, done: Future[list[types.Diagnostic]]) -> None:
        """Publish, unless the buffer has changed meanwhile."""
        if self._documents.get(document.uri) is not document or done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._publish(document.uri, document.version, done.result())
        else:
            self.report(error)

    def _publish(self, uri: str, version: int | None, found: list[types.Diagnostic]) -> None:
        self.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(uri=uri, version=version, diagnostics=found)
        )

    # Saying what goes wrong

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Tell the client of a fault in a handler, in one line; the server goes on."""
        if not isinstance(error, JsonRpcMethodNotFound):  # the client has been told
            self.report(error)

    def report(self, error: BaseException) -> None:
        """Tell the client of a fault of the server's own."""
        text = " ".join(f"{type(error).__name__}: {error}".split())
        self._log(types.MessageType.Error, f"vjpgen failed: {text[:500]}")

    def _report_configuration(self, message: str) -> None:
        """A wrong configuration is the user's to mend: it is shown."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.show, f"vjpgen: {message}")

    def show(self, message: str) -> None:
        """Show the user a message."""
        self.window_show_message(
            types.ShowMessageParams(type=types.MessageType.Error, message=message)
        )

    def _log(self, kind: types.MessageType, message: str) -> None:
        self.window_log_message(types.LogMessageParams(type=kind, message=message))

    # Setting up

    def begin(self, params: types.InitializeParams) -> None:
        """Learn what the client can do and which folders it has open."""
        self._loop = asyncio.get_running_loop()
        self.client = _client_of(params.capabilities, self.workspace.position_encoding)
        self.set_folders()

    def set_folders(self) -> None:
        """Take over the folders that the client has open."""
        uris = [folder.uri for folder in self.workspace.folders.values()]
        uris += [self.workspace.root_uri] if self.workspace.root_uri else []
        paths = (convert.path_of(uri) for uri in uris)
        self.projects.folders = tuple(
            dict.fromkeys(os.path.abspath(path) for path in paths if path)
        )

    @property
    def left_well(self) -> bool:
        """Whether the client asked to shut down before it left."""
        return self.protocol._shutdown

    def stop(self) -> None:
        """Let the thread that compiles end."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _home(self) -> str:
        return next(iter(self.projects.folders), os.getcwd())


def _worker() -> ThreadPoolExecutor:
    """One thread with a deep stack."""
    worker = ThreadPoolExecutor(1, "vjpgen")
    try:
        usual = threading.stack_size(_STACK)
    except (ValueError, RuntimeError):  # the system has another limit
        return worker
    try:
        worker.submit(int).result()
    finally:
        threading.stack_size(usual)
    return worker


def _client_of(capabilities: types.ClientCapabilities, encoding: str | None) -> Client:
    """What a client says that it can take."""
    document, workspace = capabilities.text_document, capabilities.workspace
    hovers = document.hover if document is not None else None
    formats = hovers.content_format if hovers is not None else None
    edits = workspace.workspace_edit if workspace is not None else None
    watching = workspace.did_change_watched_files if workspace is not None else None
    return Client(
        units=UNITS.get(str(getattr(encoding, "value", encoding)), UNITS["utf-16"]),
        markdown=formats is None or types.MarkupKind.Markdown in formats,
        versioned=bool(edits is not None and edits.document_changes),
        registers_watchers=bool(watching is not None and watching.dynamic_registration),
    )


def start(config_file: str | None) -> int:
    """Serve standard input and output until the client leaves; return the exit status."""
    from vjpgen.lsp.handlers import add_features

    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    stdout = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing but the protocol may be printed there
    server = Server(config_file)
    add_features(server)
    try:
        server.start_io(sys.stdin.buffer, stdout)
    finally:
        server.stop()
    return 0 if server.left_well else 1
