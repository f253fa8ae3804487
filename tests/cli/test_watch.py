"""`vjpgen build --watch`, as a process, with real changes to real files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import BAD, GOOD, PLAIN, Folder, Run

_LONGEST = 120.0

# A shell may have started the tests with SIGINT ignored, which a process inherits.
_START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from vjpgen.__main__ import main
main()
"""


@dataclass(frozen=True)
class Watching:
    """A build that watches."""

    folder: Folder
    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def said(self) -> str:
        return self.err.read_text()

    def found(self) -> str:
        return self.out.read_text()

    def changes(self) -> int:
        """Count the times that a change was noticed."""
        return self.said().count("] Changed: ")

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds."""
        end = time.monotonic() + _LONGEST
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.found() + self.said()
            time.sleep(0.05)

    def until_there(self, name: str, text: str = "") -> None:
        """Wait until a file is there and holds a text."""
        self.until(lambda: name in self.folder.names() and text in self.folder.read(name))

    def until_gone(self, name: str) -> None:
        self.until(lambda: name not in self.folder.names())

    def replace(self, name: str, text: str) -> None:
        """Save as careful editors do: another file, renamed over the old one."""
        other = self.folder.write(f"{name}~new", text)
        os.replace(other, self.folder.path / name)


@contextmanager
def _watching(
    folder: Folder, *args: str, ready: str = "Watching for changes"
) -> Iterator[Watching]:
    """Watch; at the end press Ctrl-C, which must end it quietly with exit status 0."""
    logs = folder.path.parent
    out, err = logs / f"{folder.path.name}.out", logs / f"{folder.path.name}.err"
    environment = {**os.environ, "VJPGEN_CACHE_DIR": str(logs / f"{folder.path.name}.cache")}
    command = [sys.executable, "-c", _START, "build", "--watch", *args]
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(command, stdout=out_file, stderr=err_file, env=environment)
    watching = Watching(folder, process, out, err)
    try:
        watching.until(lambda: ready in watching.said())
        yield watching
        process.send_signal(signal.SIGINT)
        assert process.wait(_LONGEST) == 0
        assert "Traceback" not in watching.said()
    finally:
        process.kill()
        process.wait()


THREE, FOUR = GOOD, GOOD.replace("3", "4")


def test_it_builds_at_once_and_again_on_change(folder: Folder):
    folder.write("a.py")
    with _watching(folder) as watching:
        assert "a_vjp.py" in folder.names()
        folder.write("a.py", FOUR)
        watching.until_there("a_vjp.py", "4 * x")
        assert "] Changed: a.py" in watching.said()


def test_own_writes_lead_to_no_build(folder: Folder):
    for name in ("a.py", "b.py", "c.py"):
        folder.write(name)
    with _watching(folder) as watching:
        watching.replace("a.py", FOUR)
        watching.until_there("a_vjp.py", "4 * x")
        watching.replace("b.py", PLAIN)
        watching.until_gone("b_vjp.py")
        (folder.path / "c.py").unlink()
        watching.until_gone("c_vjp.py")
        watching.replace("a.py", THREE)
        watching.until_there("a_vjp.py", "3 * x")
        watching.until(lambda: watching.said().count("Wrote a_vjp.py") == 3)
        assert watching.changes() == 4


def test_it_survives_what_does_not_parse(folder: Folder):
    folder.write("a.py", BAD)
    with _watching(folder) as watching:
        assert "error[VJP101]" in watching.found()
        folder.write("a.py", GOOD + "def f(:\n")
        watching.until(lambda: "error[VJP008]" in watching.found())
        assert "a_vjp.py" not in folder.names()
        folder.write("a.py")
        watching.until_there("a_vjp.py", "3 * x")


def test_an_atomic_save(folder: Folder):
    folder.write("a.py")
    with _watching(folder) as watching:
        for text, number in ((FOUR, "4"), (THREE, "3"), (FOUR, "4")):
            watching.replace("a.py", text)
            watching.until_there("a_vjp.py", f"{number} * x")


def test_new_moved_and_deleted_folders(folder: Folder):
    with _watching(folder) as watching:
        folder.write("new/deep/a.py")
        watching.until_there("new/deep/a_vjp.py")
        outside = folder.path.parent / f"{folder.path.name}-outside"
        (folder.path / "new").rename(outside)
        (outside / "deep/a_vjp.py").unlink()
        outside.rename(folder.path / "back")
        watching.until_there("back/deep/a_vjp.py")
        (folder.path / "back/deep/a.py").unlink()
        watching.until_gone("back/deep/a_vjp.py")


def test_a_generated_module_is_kept_as_it_should_be(folder: Folder):
    folder.write("a.py")
    with _watching(folder) as watching:
        fresh = folder.read("a_vjp.py")
        folder.write("a_vjp.py", fresh + "# by hand\n")
        watching.until(lambda: "Restored a_vjp.py" in watching.said())
        assert folder.read("a_vjp.py") == fresh
        (folder.path / "a_vjp.py").unlink()
        watching.until_there("a_vjp.py", fresh)


def test_the_configuration(folder: Folder):
    folder.write("a.py")
    folder.write("b/c.py")
    with _watching(folder) as watching:
        folder.write("pyproject.toml", "[tool.vjpgen]\nsufix = '_v'\n")
        watching.until(lambda: "unknown key `sufix`" in watching.said())
        folder.write("pyproject.toml", "[tool.vjpgen]\nsuffix = '_v'\n")
        watching.until_there("a_v.py")
        watching.until_there("b/c_v.py")
        (folder.path / "b/c.py").unlink()
        watching.until_gone("b/c_v.py")
        folder.write("pyproject.toml", "[tool.vjpgen]\nsuffix = '_w'\npaths = ['b']\n")
        folder.write("b/c.py")
        watching.until_there("b/c_w.py")
        assert "a_w.py" not in folder.names()


def test_a_configuration_that_is_broken_from_the_start(folder: Folder):
    folder.write("a.py")
    folder.write("pyproject.toml", "[tool.vjpgen\n")
    with _watching(folder, "--quiet", ready="Error: ") as watching:
        assert "pyproject.toml" in watching.said()
        folder.write("pyproject.toml", "")
        watching.until_there("a_vjp.py")


def test_settings_outside_of_the_project(folder: Folder):
    config = folder.write("elsewhere/vjpgen.toml", "[tool.vjpgen]\n")
    folder.write("project/pyproject.toml", "")
    folder.write("project/a.py")
    folder.write("project/b.py")
    with _watching(folder, "project", "--config", str(config)) as watching:
        config.write_text("[tool.vjpgen]\nsuffix = '_v'\n")
        watching.until_there("project/a_v.py")
        folder.write(".git/HEAD", "")
        folder.write("project/b.py", BAD)
        watching.until(lambda: "VJP101" in watching.found())
        found = watching.found().count("VJP101")
        folder.write(".gitignore", "b.py\n")
        watching.until(lambda: "Changed: .gitignore" in watching.said())
        folder.write("project/a.py", FOUR)
        watching.until_there("project/a_v.py", "4 * x")
        assert watching.found().count("VJP101") == found


def test_many_changes_at_once(folder: Folder):
    def git(*args: str) -> None:
        people = ("-c", "user.name=Someone", "-c", "user.email=someone@example.org")
        nowhere = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", *people, *args]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **nowhere})

    names = [f"pkg{number % 5}/m{number}" for number in range(40)]
    folder.write(".gitignore", "*_vjp.py\n")
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "none")
    git("checkout", "-q", "-b", "many")
    for name in names:
        folder.write(f"{name}.py")
    git("add", "-A")
    git("commit", "-q", "-m", "many")
    git("checkout", "-q", "main")
    with _watching(folder) as watching:
        git("checkout", "-q", "many")
        watching.until(lambda: {f"{name}_vjp.py" for name in names} <= set(folder.names()))
        git("checkout", "-q", "main")
        watching.until(lambda: not {f"{name}_vjp.py" for name in names} & set(folder.names()))
        assert watching.changes() < len(names)


def test_one_file_and_its_neighbour(folder: Folder):
    folder.write("pkg/__init__.py", "")
    folder.write("pkg/a.py", "from pkg import b\n\n\n" + GOOD)
    folder.write("pkg/b.py", PLAIN)
    with _watching(folder, "pkg/a.py") as watching:
        assert "from pkg import b\n" in folder.read("pkg/a_vjp.py")
        folder.write("pkg/b.py")
        watching.until_there("pkg/a_vjp.py", "b_vjp")
        assert "pkg/b_vjp.py" not in folder.names()


def test_what_is_passed_over_and_what_was_named_all_the_same(folder: Folder):
    folder.write("build/a.py")
    folder.write("dist/a.py")
    (folder.path / "link").symlink_to(folder.path / "build", target_is_directory=True)
    folder.write("b.py")
    with _watching(folder, "b.py", "build") as watching:
        folder.write("dist/a.py", FOUR)
        folder.write(".#b.py", FOUR)
        folder.write("notes.txt", "")
        watching.replace("build/a.py", FOUR)
        watching.until_there("build/a_vjp.py", "4 * x")
        assert watching.changes() == 1
    with _watching(folder, "link") as watching:
        folder.write("build/a.py", THREE)
        watching.until_there("build/a_vjp.py", "3 * x")
    assert "dist/a_vjp.py" not in folder.names()


@pytest.mark.parametrize("link", ["build/pkg", ".venv/lib/pkg"])
def test_a_folder_that_a_link_in_one_that_is_passed_over_leads_to(folder: Folder, link: str):
    folder.write("src/pkg/a.py")
    (folder.path / link).parent.mkdir(parents=True)
    (folder.path / link).symlink_to(folder.path / "src/pkg", target_is_directory=True)
    with _watching(folder) as watching:
        for text, seen in ((FOUR, "4 * x"), (THREE, "3 * x")):
            watching.replace("src/pkg/a.py", text)
            watching.until_there("src/pkg/a_vjp.py", seen)


@pytest.mark.parametrize("configured", [False, True])
def test_a_mirrored_package(folder: Folder, configured: bool):
    folder.write("src/pkg/__init__.py", "")
    folder.write("src/pkg/a.py")
    folder.write("src/pkg/dist/data.txt", "old")
    if configured:
        folder.write("pyproject.toml", "[tool.vjpgen]\nout-dir = 'gen'\n")
    with _watching(folder, "src", *(() if configured else ("--out-dir", "gen"))) as watching:
        assert "gen/pkg/a.py" in folder.names()
        watching.replace("src/pkg/a.py", FOUR)
        watching.until_there("gen/pkg/a.py", "4 * x")
        watching.replace("src/pkg/dist/data.txt", "new")
        watching.until_there("gen/pkg/dist/data.txt", "new")
        (folder.path / "gen/pkg/dist/data.txt").unlink()
        watching.until_there("gen/pkg/dist/data.txt", "new")
        watching.replace("src/pkg/a.py", THREE)
        watching.until_there("gen/pkg/a.py", "3 * x")
        assert watching.changes() <= 5


@pytest.mark.parametrize(
    "args", [["--check"], ["--diff"], ["--show-files"], ["-"], ["-", "--stdin-filename", "a.py"]]
)
def test_what_it_does_not_go_with(run: Run, args: list[str]):
    result = run("build", "--watch", *args)
    assert result.exit_code == 2
    assert "`--watch` does not go with" in result.stderr


def test_a_path_that_is_not_there(run: Run):
    result = run("build", "--watch", "nowhere")
    assert result.exit_code == 2
    assert "nowhere: no such file or folder" in result.stderr


def test_folders_that_cannot_be_watched(run: Run, monkeypatch: pytest.MonkeyPatch):
    def fail(*paths: str, **options: object) -> Iterator[None]:
        raise OSError("OS file watch limit reached")
        yield

    monkeypatch.setattr("watchfiles.watch", fail)
    result = run("build", "--watch")
    assert result.exit_code == 2
    assert "OS file watch limit reached" in result.stderr
    assert "WATCHFILES_FORCE_POLLING=1" in result.stderr


def test_without_watchfiles(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = run("build", "--watch")
    assert result.exit_code == 2
    assert "pip install 'vjpgen[watch]'" in result.stderr
