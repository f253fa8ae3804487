"""Code of a compiled module stands where its source stands."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any

import jax
import pytest

from tests.importing.conftest import Folder, Hooked
from vjpgen.compiler import Options, compile_source
from vjpgen.importing.compiling import places, to_code
from vjpgen.importing.places import move_code

ROOT = Path(__file__).parents[2]
SOURCES = [
    *sorted((ROOT / "tests/cases").glob("*.py")),
    *sorted((ROOT / "examples/models").glob("*.py")),
    *sorted((ROOT / "tests/runtime/sources").glob("*.py")),
]
GIVEN = {}
for _path in SOURCES:
    _data = _path.read_bytes()
    _result = compile_source(_data, _path.name, options=Options(_path.name))
    if _result.output is not None:
        GIVEN[_path.stem] = (_data, (_result.output, _result.rows))


def functions(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from functions(each)


def key(code: CodeType) -> tuple[str, str, bytes, int]:
    return code.co_qualname, code.co_filename, code.co_code, code.co_firstlineno


def is_inserted(code: CodeType) -> bool:
    return "_vjp" in code.co_qualname or code.co_name == "<lambda>"


@pytest.mark.parametrize("name", GIVEN)
def test_functions_of_the_source_are_the_same_code(name: str):
    data, generated = GIVEN[name]
    mine = {key(each): each for each in functions(to_code(name, data, generated))}
    theirs = list(functions(compile(data, name, "exec", dont_inherit=True)))
    same = [each for each in theirs if key(each) in mine]
    for each in same:
        twin = mine[key(each)]
        assert list(twin.co_positions()) == list(each.co_positions())
        assert list(twin.co_lines()) == list(each.co_lines())
    bodies = {each.co_qualname for each in theirs if each not in same}
    annotated = {rule.name for rule in compile_source(data, "", options=Options("")).rules}
    around = {name.rpartition(".")[0].removesuffix(".<locals>") or "<module>" for name in annotated}
    assert bodies <= around | {"<module>"}


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_inserted_stands_at_annotations(name: str):
    data, generated = GIVEN[name]
    result = compile_source(data, name, options=Options(name))
    rows = {rule.span.row for rule in result.rules}
    known = {key(each) for each in functions(compile(data, name, "exec", dont_inherit=True))}
    inserted = [each for each in functions(to_code(name, data, generated)) if is_inserted(each)]
    inserted = [each for each in inserted if key(each) not in known]
    assert inserted
    for each in inserted:
        assert {line for *_, line in each.co_lines() if line is not None} <= rows


@pytest.mark.parametrize("name", GIVEN)
def test_code_that_another_hook_made_is_placed_alike(name: str):
    data, generated = GIVEN[name]
    moved = move_code(
        compile(generated[0], name, "exec", dont_inherit=True), places(data, generated)
    )
    right = to_code(name, data, generated)
    inserted = {-row for row in generated[1] if row < 0}

    def spots(code: CodeType) -> list[tuple[int | None, ...]]:
        """Where the instructions are; of inserted ones the columns do not matter."""
        return [each[:1] if each[0] in inserted else each for each in code.co_positions()]

    for mine, theirs in zip(functions(moved), functions(right), strict=True):
        assert mine.co_firstlineno == theirs.co_firstlineno
        if mine.co_code == theirs.co_code:  # else one line more was one instruction more
            assert spots(mine) == spots(theirs)
        else:
            assert set(spots(mine)) == set(spots(theirs))


def deep(frames: int, call: Callable[[], Any]) -> Any:
    return deep(frames - 1, call) if frames else call()


def test_code_that_is_nested_too_deeply_for_a_tree():
    data = b"x = (" + b"\n+".join([b"y"] * 300) + b")\n"
    generated = (b"# first\n" + data, (-1, *range(1, 301)))
    right = list(compile(data, "name", "exec").co_positions())

    def parses(frames: int) -> bool:
        with suppress(RecursionError):
            return bool(deep(frames, lambda: ast.parse(data)))
        return False

    frames = [frames for frames in range(0, sys.getrecursionlimit(), 25) if parses(frames + 25)]
    assert len(frames) > 10
    for each in frames:
        assert list(deep(each, lambda: to_code("name", data, generated)).co_positions()) == right


def test_every_node_has_a_place_that_python_accepts():
    for data, generated in GIVEN.values():
        tree = ast.parse(data)
        end = tree.body[-1].end_lineno or 0
        for code in functions(to_code("name", data, generated)):
            assert all(line is None or 0 <= line <= end for *_, line in code.co_lines())


MODEL = """\
import jax


def good_fwd(x):
    return x, ()


def bad_fwd(x):
    raise ValueError("forward")


def good_bwd(residuals, y_t):
    return (y_t,)


def bad_bwd(residuals, y_t):
    raise ValueError(
        "backward"
    )


def decorated(function):
    return function


# custom-vjp: fwd=bad_fwd, bwd=good_bwd
def forward(x):
    return x


# custom-vjp: fwd=good_fwd,
# custom-vjp: bwd=bad_bwd
@decorated
def backward(x):
    return x


# custom-vjp: fwd=good_fwd, bwd=good_bwd
def primal(x):
    raise ValueError("primal")


class Holder:
    def method(self):
        def inner(x):  # custom-vjp: fwd=good_fwd, bwd=bad_bwd
            return x

        return jax.grad(inner)(1.0)


def after(
    x,
):
    raise ValueError(
        "after"
    )
"""


def frames(call: Callable[[], Any]) -> list[tuple[int, str, str]]:
    with pytest.raises(ValueError, match=r"forward|backward|primal|after") as caught:
        call()
    stack = traceback.extract_tb(caught.value.__traceback__)
    return [
        (frame.lineno or 0, frame.name, frame.line or "")
        for frame in stack
        if frame.filename.endswith("model.py")
    ]


def test_tracebacks_show_the_source(folder: Folder, hooked: Hooked):
    path = folder.write("model.py", MODEL)
    lines = MODEL.splitlines()
    m = hooked("model")
    fwd, bwd, primal, after, inner = (
        frames(lambda: jax.grad(m.forward)(1.0)),
        frames(lambda: jax.grad(m.backward)(1.0)),
        frames(lambda: m.primal(1.0)),
        frames(lambda: m.after(1.0)),
        frames(lambda: m.Holder().method()),
    )
    at = lines.index("# custom-vjp: fwd=bad_fwd, bwd=good_bwd") + 1
    assert fwd[0] == (at, "_vjp_lifted_forward", lines[at - 1])
    assert fwd[-2] == (at, "_vjp_forward", lines[at - 1])
    assert fwd[-1] == (9, "bad_fwd", 'raise ValueError("forward")')
    at = lines.index("# custom-vjp: fwd=good_fwd,") + 1
    assert bwd[-2] == (at, "_vjp_backward", lines[at - 1])
    assert bwd[-1] == (17, "bad_bwd", "raise ValueError(")
    at = lines.index('    raise ValueError("primal")') + 1
    assert primal[-1] == (at, "primal", 'raise ValueError("primal")')
    at = lines.index("def after(") + 4
    assert after == [(at, "after", "raise ValueError(")]
    at = lines.index("        return jax.grad(inner)(1.0)") + 1
    assert inner[0] == (at, "method", "return jax.grad(inner)(1.0)")
    assert inner[1][:2] in {(at - 3, "_vjp_lifted_inner"), (at - 3, "_vjp_backward")}
    assert inner[-1][:2] == (17, "bad_bwd")
    assert m.after.__code__.co_filename == str(path)


def test_jax_names_the_line_of_the_source(folder: Folder, hooked: Hooked):
    folder.write(
        "model.py",
        "import jax.numpy as jnp\n\n" + MODEL.replace("return x, ()", "return jnp.sin(x), ()"),
    )
    m = hooked("model")
    text = (
        jax.jit(jax.grad(lambda x: m.Holder and m.good_fwd(x)[0]))
        .lower(1.0)
        .as_text(debug_info=True)
    )
    assert 'model.py":7:' in text


def test_lines_that_are_run_are_lines_of_the_source(folder: Folder, hooked: Hooked):
    folder.write("model.py", MODEL)
    m = hooked("model")
    seen: list[int] = []

    def trace(frame: Any, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.endswith("model.py"):
            return None
        if event == "line":
            seen.append(frame.f_lineno)
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(ValueError, match="backward"):
            jax.grad(m.backward)(1.0)
    finally:
        sys.settrace(old)
    lines = [MODEL.splitlines()[row - 1].strip() for row in seen]
    assert lines.count("return x, ()") == 1
    assert set(lines) == {
        "# custom-vjp: fwd=good_fwd,",
        "return x, ()",
        "raise ValueError(",
        '"backward"',
    }


def debugged(folder: Folder, script: str, commands: str) -> str:
    folder.write("script.py", script)
    env = {**os.environ, "PYTHONPATH": f"{folder.path}{os.pathsep}{ROOT}", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "script.py"],
        input=commands,
        env=env,
        cwd=folder.path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_debugger_stops_at_lines_of_the_source(folder: Folder):
    path = folder.write("model.py", MODEL)
    script = (
        "import pdb, vjpgen\nvjpgen.install_import_hook('model')\nimport jax, model\n"
        "pdb.Pdb(nosigint=True, readrc=False).set_trace()\n"
        "try:\n    jax.grad(model.backward)(1.0)\nexcept ValueError:\n    pass\n"
        "try:\n    model.after(2.0)\nexcept ValueError:\n    pass\n"
    )
    rows = {text: row for row, text in enumerate(MODEL.splitlines(), 1)}
    after = rows["def after("] + 3
    commands = f"tbreak {path}:17\ntbreak {path}:{after}\nc\nw\np y_t.dtype\nc\np x\nc\n"
    text = debugged(folder, script, commands)
    assert f"> {path}(17)bad_bwd()\n-> raise ValueError(" in text
    assert f"{path}({rows['# custom-vjp: fwd=good_fwd,']})_vjp_backward()" in text
    assert "dtype('float32')" in text
    assert f"> {path}({after})after()\n-> raise ValueError(" in text
    assert "(Pdb) 2.0" in text
