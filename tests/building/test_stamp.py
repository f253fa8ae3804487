"""A build that found nothing to do is not run again until something has changed, whatever it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.building.conftest import GOOD, Tree
from vjpgen.building import signatures, workers
from vjpgen.building.manifest import MANIFEST
from vjpgen.cli import group

PLAIN = GOOD.replace("# custom", "# a custom")
FILES = {
    "repo/.git/config": "",
    "repo/project/pyproject.toml": "",
    "repo/project/src/pkg/__init__.py": "from .b import scale\n",
    "repo/project/src/pkg/a.py": "from pkg import scale as s\n\n\n" + GOOD,
    "repo/project/src/pkg/b.py": GOOD,
    "repo/project/src/pkg/plain.py": PLAIN,
    "repo/project/src/build/m.py": GOOD,
    "repo/project/src/loose/m.py": GOOD,
}
_RUN = """
import sys
from vjpgen.__main__ import main
try:
    main()
finally:
    print("ran" if "click" in sys.modules else "spared")
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VJPGEN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def project(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of some modules, its folder the current one."""
    root = tree(FILES) / "repo" / "project"
    monkeypatch.chdir(root)
    return root


def _build(*args: str) -> tuple[int, bool, str]:
    """Build; return the exit status, whether it was spared, and what was said."""
    command = [sys.executable, "-c", _RUN, "build", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.endswith("spared\n"), done.stderr


def _settle() -> None:
    """Wait until the times of what was written are past, whatever the file system's clock."""
    time.sleep(signatures._tick(time.time_ns() // 1_000_000 * 1_000_000) / 1e9)


def _spared(*args: str) -> None:
    """Build until a stamp is there."""
    for _ in range(3):
        _settle()
        status, spared, _ = _build(*args)
        assert status == 0
        if spared:
            return
    raise AssertionError("no build was spared")


def _write(name: str, text: str) -> Callable[[Path], object]:
    def write(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


def _remove(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


CHANGES = {
    "a source": _write("src/pkg/a.py", "import json\n\n\n" + GOOD),
    "a source of the same size": _write("src/pkg/b.py", GOOD.replace("3 * x", "4 * x")),
    "a new annotation": _write("src/pkg/plain.py", GOOD),
    "an annotation that went": _write("src/pkg/b.py", PLAIN),
    "a new source": _write("src/pkg/new.py", GOOD),
    "a new folder": _write("src/pkg/sub/new.py", GOOD),
    "a source that went": _remove("src/pkg/b.py"),
    "a module that went": _remove("src/pkg/a_vjp.py"),
    "a module edited by hand": _write("src/pkg/a_vjp.py", "# nothing\n"),
    "the configuration": _write("pyproject.toml", '[tool.vjpgen]\nmissing = "zero"\n'),
    "a project within": _write("src/pkg/pyproject.toml", '[tool.vjpgen]\nmissing = "zero"\n'),
    "a .gitignore": _write(".gitignore", "plain.py\na*.py\n"),
    "a .gitignore above": _write("../.gitignore", "b*.py\n"),
    "a .gitignore within": _write("src/pkg/.gitignore", "b*.py\n"),
    "an environment": _write("src/loose/pyvenv.cfg", ""),
    "a package that is walked now": _write("src/build/__init__.py", ""),
    "where a name comes from": _write("src/pkg/__init__.py", "from .plain import scale\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_is_seen(project: Path, change: Callable[[Path], object]):
    _spared()
    change(project)
    status, spared, _ = _build()
    assert not spared
    fresh = CliRunner().invoke(group, ["build", "--check", "--no-cache"], catch_exceptions=False)
    assert (fresh.exit_code == 0) == (status == 0)


def test_what_changes_nothing_is_spared_and_says_the_same(project: Path):
    _build()
    _settle()
    _, _, ran = _build()
    _spared()
    assert _build() == (0, True, ran)
    (project / "notes.txt").write_text("no Python")
    _build()
    _spared()


def test_each_command_line_has_its_own(project: Path):
    _spared()
    assert not _build("src")[1]
    _spared("--check")
    _spared("src", "--quiet")
    assert _build("src", "--quiet") == (0, True, "")
    for never in ("--no-cache", "--stats", "--verbose", "--output-format=json", "src/pkg/b.py"):
        assert not _build(never)[1]
        assert not _build(never)[1]
    assert _build()[1]


def test_a_check_that_fails_fails_again(project: Path):
    _spared()
    (project / "src/pkg/a_vjp.py").unlink()
    for _ in range(3):
        status, spared, _ = _build("--check")
        assert (status, spared) == (1, False)
        _settle()


def test_findings_are_not_spared(project: Path):
    _write("src/pkg/b.py", GOOD.replace("def scale(", "# vjpgen: ignore[VJP202]\ndef scale("))(
        project
    )
    for _ in range(3):
        status, spared, _ = _build()
        assert (status, spared) == (0, False)  # a warning
        _settle()


def test_another_folder_is_another_build(project: Path, monkeypatch: pytest.MonkeyPatch):
    _spared(".")
    monkeypatch.chdir(project / "src")
    assert not _build(".")[1]


def test_a_named_configuration_is_looked_at(project: Path):
    (project / "other.toml").write_text("")
    _spared("--config", "other.toml")
    (project / "other.toml").write_text('[tool.vjpgen]\nmissing = "zero"\n')
    assert not _build("--config", "other.toml")[1]
    assert "zero" in (project / "src/pkg/a_vjp.py").read_text()


def test_the_configuration_here_is_looked_at_wherever_it_leads(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    here = project.parent / "tools"
    here.mkdir()
    (here / "pyproject.toml").write_text('[tool.vjpgen]\npaths = ["../project"]\n')
    monkeypatch.chdir(here)
    _spared()
    (here / "pyproject.toml").write_text('[tool.vjpgen]\npaths = ["../nowhere"]\n')
    assert _build()[:2] == (2, False)


def test_a_folder_that_holds_mirrored_packages_no_more_is_built(project: Path):
    (project / "src" / "loose" / MANIFEST).write_text("")
    _spared("src/loose")
    (project / "src" / "loose" / MANIFEST).unlink()
    assert not _build("src/loose")[1]
    assert (project / "src" / "loose" / "m_vjp.py").is_file()


def test_what_other_processes_have_read_is_looked_at(project: Path):
    (project / ".gitignore").write_text("hidden\n")
    names = project / "src/pkg/hidden/names.py"
    names.parent.mkdir()
    names.write_text("from ..plain import scale\n")
    lines = "# nothing\n" * workers.LINES_EACH
    for name in ("c", "d"):
        text = f"from .hidden.names import scale as s\n\n\n{GOOD}{lines}"
        (project / "src/pkg" / f"{name}.py").write_text(text)
    assert _build("--no-cache", "--jobs=2")[0] == 0
    _spared("--jobs=2")
    names.write_text("from ..b import scale\n")
    assert not _build("--jobs=2")[1]
    assert "from .b_vjp import scale as s" in (project / "src/pkg/c_vjp.py").read_text()


def test_where_nothing_can_be_said_the_build_goes_well(project: Path):
    _spared()
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", _RUN, "build"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0


def test_a_damaged_stamp_is_none(project: Path):
    _spared()
    for path in Path(os.environ["VJPGEN_CACHE_DIR"], "stamps").iterdir():
        path.write_bytes(path.read_bytes()[:-3] + b"]]]")
    assert not _build()[1]


def test_what_was_changed_just_now_is_not_settled():
    status = os.stat(__file__)
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    assert not signatures.is_settled(status, changed)
    assert not signatures.is_settled(status, changed + 1_000_000)
    assert signatures.is_settled(status, changed + 3_000_000_000)
