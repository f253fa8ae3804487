"""`vjpgen run`: as python would, with annotated modules compiled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import BAD, GOOD, WARNS, Folder

ROOT = Path(__file__).parents[2]
SLOPE = "import jax\n\nprint(float(jax.grad(scale)(1.0)))\n"
ABOUT = """\
import sys
print(__name__, __file__, __package__, __spec__ and __spec__.name, sys.argv, sys.path[0])
print(sys.modules["__main__"].__dict__ is globals(), sorted(k for k in globals() if k[:2] == "__"))
"""


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)


def python(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # pyright: ignore


def run(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    return python("-m", "vjpgen", "run", *args, **options)


def test_a_script_and_what_it_imports_are_compiled(folder: Folder):
    folder.write(
        "script.py",
        "from pkg.model import scale as inner\n\n\n"
        + GOOD
        + SLOPE
        + "print(float(jax.grad(inner)(1.0)))\n",
    )
    folder.write("pkg/model.py")
    assert run("script.py").stdout == "6.0\n6.0\n"
    assert python("script.py").stdout == "3.0\n3.0\n"


def test_a_module_is_compiled(folder: Folder):
    folder.write("pkg/__init__.py", "")
    folder.write(
        "pkg/train.py",
        "from .model import scale as inner\n\n\n"
        + GOOD
        + SLOPE
        + "print(float(jax.grad(inner)(1.0)))\n",
    )
    folder.write("pkg/model.py")
    assert run("-m", "pkg.train").stdout == "6.0\n6.0\n"
    assert python("-m", "pkg.train").stdout == "3.0\n3.0\n"


def test_it_compiles_the_sources_of_the_project_and_no_others(folder: Folder):
    folder.write("work/pyproject.toml", "")
    for name in ("work/src/own.py", "work/.venv/site-packages/installed.py", "other/foreign.py"):
        folder.write(name)
    folder.write(
        "work/scripts/script.py",
        (
            "import sys\nsys.path += [f'{sys.path[0]}/../{each}' for each in"
            " ('src', '.venv/site-packages', '../other')]\n"
            "import own, installed, foreign\n"
            "print(*(type(each.__loader__).__name__ for each in (own, installed, foreign)))\n"
        ),
    )
    done = run("work/scripts/script.py")
    assert done.stdout.split() == ["CompilingLoader", "SourceFileLoader", "SourceFileLoader"]


@pytest.mark.parametrize(
    "args",
    [
        ("script.py",),
        ("script.py", "--lr", "3", "--help", "-q", "-m", "x", "--", "--config"),
        ("./sub/script.py", "a b"),
        ("-m", "sub.script", "--help", "-m", "other", "--config=x"),
        ("-m", "sub", "-q"),
        ("sub", "1"),
        ("archive.zip", "--version"),
    ],
)
def test_a_program_sees_what_python_shows_it(folder: Folder, args: tuple[str, ...]):
    for name in ("script.py", "sub/script.py", "sub/__init__.py", "sub/__main__.py"):
        folder.write(name, ABOUT)
    with zipfile.ZipFile(folder.path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", ABOUT)
    mine, theirs = run(*args), python(*args)
    assert (mine.returncode, mine.stderr) == (theirs.returncode, theirs.stderr) == (0, "")
    assert mine.stdout == theirs.stdout


def test_a_link_to_a_script(folder: Folder):
    script = folder.write("scripts/script.py", ABOUT)
    (folder.path / "link.py").symlink_to(script)
    assert run("link.py").stdout == python("link.py").stdout


def test_a_safe_path_is_respected(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    folder.write("sub/script.py", "import sys\nprint(sys.path)\n")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    assert run("sub/script.py").stdout == python("sub/script.py").stdout


ENDINGS = {
    "raises": "def fail():\n    raise ValueError(\n        'no'\n    )\n\n\nfail()\n",
    "raises from": "try:\n    1 / 0\nexcept ArithmeticError as e:\n    raise KeyError(1) from e\n",
    "status": "raise SystemExit(7)\n",
    "message": "import sys\nsys.exit('stopped')\n",
    "nothing": "raise SystemExit\n",
    "does not parse": "x = (\n",
    "imports what does not parse": "import wrong\n",
    "imports what raises": "import raising\n",
    "imports nothing": "import nowhere_to_be_found\n",
    "at exit": "import atexit\natexit.register(print, 'bye')\nraise KeyError\n",
    "own hook": "import sys\nsys.excepthook = lambda *e: print('mine', e[0])\nraise KeyError\n",
    "group": "raise ExceptionGroup('several', [ValueError(1)])\n",
    "strict output": "import sys\nprint(sys.stdout.errors, sys.stderr.errors)\n",
}


@pytest.mark.parametrize("text", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("as_module", [False, True])
def test_a_program_ends_as_python_ends_it(folder: Folder, text: str, as_module: bool):
    folder.write("script.py", text)
    folder.write("wrong.py", "y = [\n")
    folder.write("raising.py", "1 / 0\n")
    args = ("-m", "script") if as_module else ("script.py",)
    mine, theirs = run(*args), python(*args)
    assert mine.returncode == theirs.returncode
    assert mine.stdout == theirs.stdout
    assert mine.stderr.splitlines() == [
        line for line in theirs.stderr.splitlines() if 'File "<frozen importlib' not in line
    ]


def test_an_interrupt(folder: Folder):
    folder.write("script.py", "import time\nprint('ready', flush=True) or time.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "vjpgen", "run", "script.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert f'File "{folder.path / "script.py"}", line 2, in <module>' in err
    assert "vjpgen" not in err


def test_errors_in_the_script_keep_it_from_running(folder: Folder):
    folder.write("script.py", "print('running')\n" + BAD)
    done = run("script.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error[VJP101]")
    assert "--> script.py:7:19" in done.stderr
    assert "Traceback" not in done.stderr
    module = run("-m", "script")
    assert (module.returncode, module.stderr) == (1, done.stderr)


def test_errors_in_a_module_are_raised_where_it_is_imported(folder: Folder):
    folder.write("script.py", "print('running')\nimport model\n")
    folder.write("model.py", BAD)
    done = run("script.py")
    assert (done.returncode, done.stdout) == (1, "running\n")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[1].endswith('script.py", line 2, in <module>')
    assert [line for line in lines if "File" in line] == [lines[1]]
    assert "vjpgen.importing.errors.CompileError: error[VJP101]" in done.stderr


def test_an_error_in_a_rule_shows_the_program_alone(folder: Folder):
    text = GOOD.replace("    (x_t,) = vjp_fn(y_t)\n", "    raise ValueError(y_t.shape)\n")
    folder.write("script.py", text + SLOPE)
    err = run("script.py").stderr
    assert "ValueError: ()" in err
    assert "JaxStackTraceBeforeTransformation" in err
    files = {line.split('"')[1] for line in err.splitlines() if line.startswith("  File ")}
    assert files == {str(folder.path / "script.py")}


def test_errors_by_choice_leave_modules_plain(folder: Folder):
    folder.write("script.py", BAD + SLOPE)
    done = run("--plain-on-error", "script.py")
    assert (done.returncode, done.stdout) == (0, "3.0\n")
    assert "error[VJP101]" in done.stderr


def test_warnings_are_shown_unless_it_is_quiet(folder: Folder):
    folder.write("script.py", WARNS)
    assert "warning[VJP009]" in run("script.py").stderr
    folder.write("other.py", WARNS)
    assert run("-q", "other.py").stderr == ""


def test_another_configuration(folder: Folder):
    folder.write("script.py", WARNS)
    folder.write("other.toml", '[tool.vjpgen]\nignore = ["VJP009"]\n')
    assert run("--config", "other.toml", "script.py").stderr == ""
    folder.write("wrong.toml", "[tool.vjpgen]\nnonsense = 1\n")
    done = run("--config", "wrong.toml", "script.py")
    assert done.returncode == 2
    assert "unknown key `nonsense`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_that_is_excluded_was_named_outright(folder: Folder):
    folder.write("pyproject.toml", '[tool.vjpgen]\nexclude = ["script.py"]\n')
    folder.write("script.py", BAD)
    assert "error[VJP101]" in run("script.py").stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "name a script, or a module"),
        (("nowhere.py",), "nowhere.py: no such file or folder"),
        (("-m",), "requires an argument"),
        (("--nonsense", "script.py"), "No such option"),
        (("--config", "nowhere.toml", "script.py"), "does not exist"),
    ],
)
def test_wrong_usage(folder: Folder, args: tuple[str, ...], text: str):
    folder.write("script.py", "")
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_its_own_help(folder: Folder):
    done = run("--help")
    assert done.returncode == 0
    assert "Usage: vjpgen run [OPTIONS] SCRIPT | -m MODULE [ARGS]..." in done.stdout


SPAWNS = """\
import multiprocessing
import sys

import model


def measure(_):
    import jax

    return float(jax.grad(scale)(1.0)), float(jax.grad(model.scale)(1.0)), __name__


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(*pool.map(measure, [0]))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("target", [("script.py",), ("-m", "script")])
def test_processes_that_are_spawned_compile_too(
    folder: Folder, method: str, target: tuple[str, ...]
):
    folder.write("model.py")
    folder.write("script.py", GOOD + "\n\n" + SPAWNS)
    done = run(*target, method)
    assert done.stderr == ""
    assert done.stdout == "(6.0, 6.0, '__mp_main__')\n"


def test_a_plain_script_leaves_no_bytecode(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    folder.write("script.py", "X = 1\n")
    assert run("script.py").returncode == 0
    assert folder.names() == ["pyproject.toml", "script.py"]
    folder.write("annotated.py")
    assert run("annotated.py").returncode == 0
    assert sum(name.endswith("vjpgen.pyc") for name in folder.names()) == 1


def test_the_installed_command(folder: Folder):
    folder.write("script.py", ABOUT)
    script = Path(sys.executable).with_name("vjpgen")
    if not script.exists():
        pytest.skip("vjpgen is not installed beside this Python")
    mine = subprocess.run([script, "run", "script.py"], capture_output=True, text=True, check=True)
    assert mine.stdout == python("script.py").stdout
    assert os.path.realpath(folder.path) in mine.stdout


def test_a_program_of_vjpgens_own_project(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(folder.path / "cache"))
    done = run("-m", "examples.models.straight_through", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
