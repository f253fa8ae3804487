"""The server as an editor meets it: a real client, over standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from lsprotocol import types

from tests.lsp.editor import SECONDS, SERVER, Editor, editing
from vjpgen.compiler import Options, compile_source

RULE = "def scale_bwd(vjp_fn, y_t):\n    return vjp_fn(y_t)\n\n\n"
GOOD = RULE + "# custom-vjp: bwd=scale_bwd\ndef scale(x):\n    return 3 * x\n"
BAD = GOOD.replace("bwd=scale_bwd", "bwd=scale_bwdd")
EMOJI = GOOD.replace(
    "# custom-vjp: bwd=scale_bwd\ndef scale(x):",
    'def scale(x, é="一😀"):  # custom-vjp: bwd=scale_bwdd',
)

Scene = Callable[[Editor], Awaitable[None]]
WATCHING = types.ClientCapabilities(
    workspace=types.WorkspaceClientCapabilities(
        workspace_edit=types.WorkspaceEditClientCapabilities(document_changes=True),
        did_change_watched_files=types.DidChangeWatchedFilesClientCapabilities(
            dynamic_registration=True
        ),
    )
)


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Act a scene in an editor with an empty project open."""
    (tmp_path / "pyproject.toml").write_text("")

    def act(scene: Scene, **options: object) -> None:
        async def run() -> None:
            async with editing(tmp_path, **options) as editor:  # pyright: ignore
                await scene(editor)

        asyncio.run(run())

    return act


Play = Callable[..., None]


def test_findings_as_one_types(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("model.py", BAD)
        (found,) = await editor.findings("model.py")
        assert (found.code, found.source) == ("VJP101", "vjpgen")
        assert found.severity == types.DiagnosticSeverity.Error
        assert found.message.endswith("\nhelp: did you mean `scale_bwd`?")
        assert editor.text_of("model.py", found.range) == "scale_bwdd"
        editor.type("model.py", ("bwdd", "bwd"))
        assert await editor.findings("model.py") == []
        editor.type("model.py", ("bwd=scale_bwd", "bwd=nowhere"), ("nowhere", "neverwhere"))
        (found,) = await editor.findings("model.py")
        assert editor.text_of("model.py", found.range) == "neverwhere"
        editor.replace("model.py", GOOD)
        assert await editor.findings("model.py") == []
        assert not (editor.folder / "model.py").exists()

    play(scene)


def test_closing_clears_the_findings(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("model.py", BAD)
        assert await editor.codes("model.py") == ["VJP101"]
        editor.close("model.py")
        await editor.until_codes("model.py", [])

    play(scene)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-32", None])
def test_columns_in_the_clients_encoding(play: Play, encoding: str | None) -> None:
    async def scene(editor: Editor) -> None:
        known = encoding if encoding in ("utf-8", "utf-32") else "utf-16"
        assert editor.units.name == known
        editor.open("model.py", EMOJI)
        (found,) = await editor.findings("model.py")
        assert editor.text_of("model.py", found.range) == "scale_bwdd"
        width = {"utf-8": 1 + 3 + 4, "utf-16": 0 + 1 + 2, "utf-32": 0 + 1 + 1}[known]
        line = 'def scale(x, é="'
        start = len(line) + width + len('"):  # custom-vjp: bwd=')
        assert found.range.start.character == start
        editor.type("model.py", ("一😀", "😀😀"), ("scale_bwdd", "scale_bwd"))
        assert await editor.findings("model.py") == []
        assert (await editor.definition("model.py", "bwd=sca"))[0].range.start.line == 0

    offered = None if encoding is None else [encoding]
    general = types.GeneralClientCapabilities(position_encodings=offered)
    play(scene, capabilities=types.ClientCapabilities(general=general))


@pytest.mark.parametrize(
    ("head", "rows"), [("a = 1\r\n", 1), ("a = 1\r", 1), ("a = '\f\u2028\x1c\x85'\n", 1)]
)
def test_lines_are_split_as_python_does(play: Play, head: str, rows: int) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("model.py", head + BAD)
        (found,) = await editor.findings("model.py")
        assert found.range.start.line == rows + 4
        start = types.Position(rows + 4, len("# custom-vjp: bwd=scale_bwd"))
        end = types.Position(rows + 4, start.character + 1)
        identifier = types.VersionedTextDocumentIdentifier(2, editor.uri("model.py"))
        change = types.TextDocumentContentChangePartial(types.Range(start, end), "")
        editor.text_document_did_change(types.DidChangeTextDocumentParams(identifier, [change]))
        await editor.until_codes("model.py", [])

    play(scene)


def test_a_syntax_error_while_typing(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("model.py", GOOD)
        assert await editor.codes("model.py") == []
        editor.type("model.py", ("def scale(x):", "def scale(x"))
        assert await editor.codes("model.py") == ["VJP008"]
        items = await editor.completion("model.py", "custom-vjp: bwd=")
        assert items[0].label == "scale_bwd"
        assert await editor.definition("model.py", "custom-vjp: bwd=sc")
        assert "backward rule" in await editor.hover("model.py", "custom-vjp: b")
        editor.type("model.py", ("def scale(x", "def scale(x):"))
        assert await editor.codes("model.py") == []

    play(scene)


def test_tags_and_severities(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        text = GOOD.replace("bwd=scale_bwd\n", "bwd=scale_bwd  # vjpgen: ignore[VJP302]\n")
        editor.open("model.py", text)
        (found,) = await editor.findings("model.py")
        assert found.code == "VJP009"
        assert found.severity == types.DiagnosticSeverity.Warning
        assert list(found.tags or ()) == [types.DiagnosticTag.Unnecessary]

    play(scene)


def test_a_finding_about_the_whole_file(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("pkg/__init__.py", GOOD)
        assert await editor.codes("pkg/__init__.py") == ["VJP401"]

    play(scene)


def test_what_the_commands_pass_over_has_no_findings(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        output = compile_source(GOOD.encode(), "m.py", options=Options("m.py")).output
        assert output is not None
        editor.write("pyproject.toml", '[tool.vjpgen]\nexclude = ["old"]\n')
        for name, text in (
            ("old/model.py", BAD),
            ("m_vjp.py", output.decode()),
            ("plain.py", "x = 1\n"),
            (".venv/lib/model.py", BAD),
        ):
            editor.open(name, text)
            assert await editor.findings(name) == []

    play(scene)


def test_the_configuration_is_respected_and_followed(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        warns = GOOD + "# custom_vjp: bwd=scale_bwd\n"
        editor.write("pyproject.toml", '[tool.vjpgen]\nignore = ["VJP004"]\nmissing = "zero"\n')
        editor.open("model.py", warns)
        assert await editor.codes("model.py") == []
        assert "`zero`, as configured" in await editor.hover("model.py", "custom-vjp: bwd=s")
        editor.write("pyproject.toml", "[tool.vjpgen]\n")
        editor.workspace_did_change_configuration(types.DidChangeConfigurationParams({}))
        await editor.until_codes("model.py", ["VJP004"])
        lines = '[tool.vjpgen.per-file-ignores]\n"model.py" = ["VJP004"]\n'
        editor.write("pyproject.toml", lines)
        editor.touched("pyproject.toml")
        await editor.until_codes("model.py", [])
        editor.write("pyproject.toml", '[tool.vjpgen]\nextend-select = ["VJP3"]\n')
        editor.type("model.py", ("3 * x", "4 * x"))  # nobody said anything
        assert await editor.codes("model.py") == ["VJP004"]

    play(scene)


def test_a_wrong_configuration_is_shown_once(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("model.py", BAD)
        assert await editor.codes("model.py") == ["VJP101"]
        editor.write("pyproject.toml", '[tool.vjpgen]\nsufix = "_x"\n')
        editor.touched("pyproject.toml")
        await editor.until(lambda: bool(editor.shown))
        editor.type("model.py", ("3 * x", "4 * x"))
        assert await editor.codes("model.py") == ["VJP101"]
        (message,) = editor.shown
        assert "did you mean `suffix`?" in message
        editor.write("pyproject.toml", "")
        editor.touched("pyproject.toml")
        editor.type("model.py", ("bwdd", "bwd"))
        assert await editor.codes("model.py") == []

    play(scene)


def test_siblings_are_followed(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.write("pkg/rules.py", GOOD)
        text = GOOD.replace("bwd=scale_bwd", "bwd=pkg.rules.scale_bwd")
        editor.open("model.py", "import pkg.rules\n\n\n" + text)
        assert await editor.codes("model.py") == []
        assert "bwd=lambda: pkg.rules_vjp.scale_bwd" in await editor.hover("model.py", "# custom")
        editor.write("pkg/rules.py", RULE)
        editor.touched("pkg/rules.py")
        assert "bwd=lambda: pkg.rules.scale_bwd" in await editor.hover("model.py", "# custom")
        (found,) = await editor.definition("model.py", "bwd=pkg.rules.sc")
        assert (found.uri, found.range.start.line) == (editor.uri("pkg/rules.py"), 0)
        editor.open("pkg/rules.py", "\n\n" + RULE)  # as its buffer has it, not the disk
        (found,) = await editor.definition("model.py", "bwd=pkg.rules.sc")
        assert found.range.start.line == 2

    play(scene)


def test_watchers_are_asked_for(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        await editor.until(lambda: bool(editor.registered))
        (registered,) = editor.registered
        assert registered.method == "workspace/didChangeWatchedFiles"
        editor.open("model.py", GOOD)
        assert await editor.codes("model.py") == []
        editor.save("model.py")
        editor.type("model.py", ("bwd=scale_bwd", "bwd=nowhere"))
        assert await editor.codes("model.py") == ["VJP101"]

    play(scene, capabilities=WATCHING)


def test_saving_looks_at_the_disk_where_nobody_watches(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.write("pyproject.toml", '[tool.vjpgen]\nextend-select = ["VJP402"]\n')
        editor.write("rules.py", RULE)
        editor.open("user.py", "import rules\n")
        assert await editor.codes("user.py") == []
        editor.open("rules.py", GOOD)
        editor.save("rules.py")
        await editor.until_codes("user.py", ["VJP402"])
        found = editor.published[editor.uri("user.py")].diagnostics[0]
        assert found.severity == types.DiagnosticSeverity.Information

    play(scene)


def test_hover_and_completion(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("model.py", GOOD.replace("bwd=scale_bwd\n", "bwd=scale_bwd, \n"))
        assert "_vjp_lifted_scale" in await editor.hover("model.py", "# custom-v")
        assert "**`bwd`**" in await editor.hover("model.py", "custom-vjp: bw")
        assert await editor.hover("model.py", "return 3") == ""
        items = await editor.completion("model.py", "bwd=scale_bwd, ")
        assert [item.label for item in items][:2] == ["fwd", "grad_vars"]
        assert isinstance(items[0].text_edit, types.TextEdit)
        assert items[0].text_edit.new_text == "fwd="
        items = await editor.completion("model.py", "custom-vjp: bwd=sca")
        assert isinstance(items[0].text_edit, types.TextEdit)
        assert editor.text_of("model.py", items[0].text_edit.range) == "sca"

    play(scene)


def gradient_of(text: str) -> jax.Array:
    namespace: dict[str, object] = {}
    exec(compile(text, "model.py", "exec"), namespace)
    function = namespace["scale"]
    assert callable(function)
    return jax.grad(lambda x: jnp.sum(function(x) ** 2))(jnp.arange(3.0))


@pytest.mark.parametrize(
    ("keys", "capabilities"),
    [
        ("", types.ClientCapabilities()),
        ("bwd=own_bwd", WATCHING),
        ("fwd=own_fwd", types.ClientCapabilities()),
        ("fwd=own_fwd, bwd=own_bwd", WATCHING),
    ],
)
def test_a_missing_rule_is_written(
    play: Play, tmp_path: Path, keys: str, capabilities: types.ClientCapabilities
) -> None:
    source = f'import numpy\n\nflag = "😀"\n# custom-vjp: {keys}\ndef scale(x):\n    return 3 * x\n'

    async def scene(editor: Editor) -> None:
        editor.open("model.py", source)
        codes = await editor.codes("model.py")
        assert set(codes) <= {"VJP101", "VJP006"}
        found = await editor.actions("model.py", "# custom-vjp:", "quickfix")
        chosen = [each for each in found if each.title.startswith("Write ")]
        action = max(chosen, key=lambda each: len(each.title))
        assert action.diagnostics
        assert action.edit is not None
        text = editor.apply("model.py", action.edit)
        assert await editor.findings("model.py") == [], text
        result = compile_source(text.encode(), "model.py", options=Options("model.py"))
        assert result.output is not None
        (tmp_path / "lifted.py").write_bytes(result.output)
        assert (gradient_of(result.output.decode()) == gradient_of(source)).all()

    play(scene, capabilities=capabilities)


def test_quick_fixes_and_what_kinds_are_wanted(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("model.py", BAD)
        (found,) = await editor.findings("model.py")
        actions = await editor.actions("model.py", "# custom-vjp:")
        titles = [action.title for action in actions]
        assert titles == [
            "Replace `scale_bwdd` with `scale_bwd`",
            "Write the backward rule `scale_bwdd`",
        ]
        assert actions[0].is_preferred
        assert list(actions[0].diagnostics or ()) == [found]
        assert await editor.actions("model.py", "# custom-vjp:", "source") == []
        assert await editor.actions("model.py", "# custom-vjp:", "refactor") == []
        assert actions[0].edit is not None
        assert editor.apply("model.py", actions[0].edit) == GOOD
        assert await editor.findings("model.py") == []
        (action,) = await editor.actions("model.py", "# custom-vjp:", "refactor")
        assert action.title == "Write the forward rule `scale_fwd`"

    play(scene)


def test_a_buffer_without_a_file_or_folder(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        item = types.TextDocumentItem("untitled:Untitled-1", "python", 1, BAD)
        editor.text_document_did_open(types.DidOpenTextDocumentParams(item))
        await editor.until(lambda: "untitled:Untitled-1" in editor.published)
        (found,) = editor.published["untitled:Untitled-1"].diagnostics
        assert found.code == "VJP101"

    play(scene, folders=False)


BROKEN = """
import sys
from vjpgen.lsp import handlers, view
from vjpgen.lsp.server import start

def boom(*args):
    raise RuntimeError("boom\\n  in two lines")

handlers.hover = boom
find = view.compile_job
view.compile_job = lambda job: boom() if b"BOOM" in job.data else find(job)
print("not part of the protocol")
sys.exit(start(None))
"""


def test_a_fault_in_a_handler_is_told_and_survived(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        editor.open("model.py", BAD)
        assert await editor.codes("model.py") == ["VJP101"]
        with pytest.raises(Exception, match="boom"):
            await editor.hover("model.py", "# custom")
        await editor.until(lambda: bool(editor.logged))
        assert "boom in two lines" in editor.logged[0]
        assert "\n" not in editor.logged[0]
        editor.type("model.py", ("3 * x", "3 * x  # BOOM"))
        await editor.until(lambda: len(editor.logged) > 1)
        editor.type("model.py", ("BOOM", ""), ("bwdd", "bwd"))
        assert await editor.findings("model.py") == []
        assert await editor.completion("model.py", "bwd=")

    # What is printed before the protocol starts is no business of the protocol's reader.
    play(scene, server=("-c", BROKEN.replace('print("not part of the protocol")\n', "")))


def test_deep_nesting_does_not_end_the_server(play: Play) -> None:
    async def scene(editor: Editor) -> None:
        for name, deep in (
            ("chained.py", "x = " + " + ".join(["1"] * 20_000)),
            ("nested.py", "x = " + "(" * 2000 + ")" * 2000),
            ("null.py", "x = '\0'"),
            ("signs.py", "x = " + "-" * 50_000 + "1"),
        ):
            editor.open(name, f"{GOOD}\n{deep}\n")
            assert set(await editor.codes(name)) <= {"VJP008", "VJP903"}
        editor.open("model.py", BAD)
        assert await editor.codes("model.py") == ["VJP101"]

    play(scene)


def frame(message: dict[str, object]) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def talk(
    *messages: dict[str, object], code: tuple[str, ...] = SERVER
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *code],
        input=b"".join(map(frame, messages)),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )


INITIALIZE = {"id": 1, "method": "initialize", "params": {"capabilities": {}}}
SHUTDOWN = {"id": 2, "method": "shutdown"}
EXIT = {"method": "exit"}


@pytest.mark.parametrize(
    ("messages", "status"),
    [((INITIALIZE, SHUTDOWN, EXIT), 0), ((INITIALIZE, EXIT), 1), ((INITIALIZE,), 1), ((), 1)],
)
def test_the_server_ends_with_its_client(
    messages: tuple[dict[str, object], ...], status: int
) -> None:
    done = talk(*messages)
    assert done.returncode == status
    assert done.stderr == b""


LOADED = """
import sys
sys.argv = ["vjpgen", *sys.argv[1:]]
from vjpgen.__main__ import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def test_nothing_but_the_protocol_is_printed_and_jax_is_not_imported() -> None:
    opened = {
        "method": "textDocument/didOpen",
        "params": {
            "textDocument": {
                "uri": "file:///nowhere/model.py",
                "languageId": "python",
                "version": 1,
                "text": GOOD,
            }
        },
    }
    hover = {
        "id": 3,
        "method": "textDocument/hover",
        "params": {
            "textDocument": {"uri": "file:///nowhere/model.py"},
            "position": {"line": 4, "character": 3},
        },
    }
    done = talk(INITIALIZE, opened, hover, code=("-c", LOADED, "lsp"))
    modules = set(done.stderr.decode().split())
    assert "pygls" in modules
    assert not modules & {"jax", "flax", "numpy"}
    rest, seen = done.stdout, 0
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        json.loads(rest[:length])
        rest, seen = rest[length:], seen + 1
    assert seen >= 1


def test_without_pygls_one_message_says_what_to_install() -> None:
    code = "import sys; sys.modules['pygls'] = None\n" + LOADED.rpartition("finally:")[0]
    done = talk(code=("-c", f"{code}except KeyError:\n    pass\n", "lsp"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [b"vjpgen lsp needs pygls: pip install 'vjpgen[lsp]'"]
    assert done.stdout == b""


def test_the_command_says_what_it_is() -> None:
    done = talk(code=(*SERVER, "--help"))
    assert done.returncode == 0
    assert b"pip install 'vjpgen[lsp]'" in done.stdout


def test_a_wrong_configuration_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[tool.vjpgen]\nnonsense = 1\n")
    done = talk(code=(*SERVER, "--config", str(tmp_path / "c.toml")))
    assert done.returncode == 2
    assert b"unknown key `nonsense`" in done.stderr


def test_the_clients_death_is_the_servers_end(tmp_path: Path) -> None:
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, *SERVER], stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        os.close(read)
        os.write(write, frame(INITIALIZE)[:20])
        os.close(write)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 1
