"""The command line as a process: what it imports, and two of them at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import BAD, GOOD, PLAIN, Folder

HEAVY = ("jax", "flax", "numpy", "libcst", "click", "pathspec")


def _start(*args: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, *args]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)  # pyright: ignore


def _imported(*args: str) -> set[str]:
    """Return the heavy modules that a command line imports."""
    code = f"""
import sys
sys.argv = ["vjpgen", *{list(args)!r}]
from vjpgen.__main__ import main
try:
    main()
except SystemExit:
    pass
print("imported", *({HEAVY!r} & sys.modules.keys()))
""".replace(repr(HEAVY), repr(set(HEAVY)))
    process = _start("-c", code)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return set(out.splitlines()[-1].split()[1:])


def test_the_version_imports_nothing_heavy(folder: Folder):
    assert _imported("--version") == set()


def test_a_build_of_nothing_does_not_import_libcst(folder: Folder):
    folder.write("model.py", PLAIN)
    assert not _imported("build") & {"jax", "flax", "numpy", "libcst", "pathspec"}


def test_a_build_does_not_import_jax_or_execute_the_source(folder: Folder):
    folder.write("model.py", "raise SystemExit(7)\n" + GOOD)
    assert not _imported("build") & {"jax", "flax", "numpy"}
    assert "model_vjp.py" in folder.names()


@pytest.mark.parametrize(("text", "status"), [(GOOD, 0), (BAD, 1)])
def test_python_dash_m(folder: Folder, text: str, status: int):
    folder.write("model.py", text)
    process = _start("-m", "vjpgen", "build", "--quiet")
    out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert ("VJP101" in out) == bool(status)
    assert (err, "\x1b" in out) == ("", False)


def test_output_in_a_narrow_encoding(folder: Folder):
    folder.write("modèle.py", BAD.replace("3", '"一"'))
    process = _start("-m", "vjpgen", "check", env={"PYTHONIOENCODING": "ascii"})
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "VJP101" in out


def test_two_builds_at_once(folder: Folder):
    for number in range(8):
        folder.write(f"pkg/model_{number}.py", GOOD.replace("3", str(number)))
    folder.write("gone.py")
    subprocess.run([sys.executable, "-m", "vjpgen", "build", "-q"], check=True)
    expected = {name: folder.read(name) for name in folder.names() if name != "gone_vjp.py"}
    for name in folder.names():
        if name.endswith("_vjp.py") and name != "gone_vjp.py":
            (folder.path / name).unlink()
    (folder.path / "gone.py").unlink()
    expected.pop("gone.py")
    processes = [_start("-m", "vjpgen", "build") for _ in range(3)]
    statuses = [(process.communicate(timeout=60), process.returncode) for process in processes]
    assert [status for _, status in statuses] == [0, 0, 0], statuses
    assert {name: folder.read(name) for name in folder.names()} == expected


def test_the_hooks_run_what_they_say():
    text = (Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text()
    assert "entry: vjpgen build --exit-non-zero-on-change --force-exclude\n" in text
    assert "entry: vjpgen check --force-exclude\n" in text


def test_the_version_is_the_projects():
    import tomllib

    from vjpgen._version import __version__

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project.get("version", __version__) == __version__


def test_a_pipe_is_no_source_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    done = subprocess.run(
        [sys.executable, "-m", "vjpgen", "build", str(tmp_path / "pipe.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "VJP902" in done.stdout + done.stderr
