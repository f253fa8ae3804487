"""What earlier runs found out is used while it holds, and never changes a result."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.building.conftest import GOOD, Tree
from vjpgen.building import results
from vjpgen.building.cache import Caches
from vjpgen.cli import group
from vjpgen.diagnostics import Diagnostic, Span

BAD = GOOD.replace("bwd=scale_bwd", "bwd=scale_bwdd")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("VJPGEN_CACHE_DIR", str(folder))
    return folder


def _build(*args: str, status: int = 0) -> dict[str, int]:
    """Build, and return the numbers that `--stats` prints."""
    result = CliRunner().invoke(group, ["build", "--stats", *args], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return {name: int(value) for name, value in re.findall(r"^(.*): (\d+)$", result.stderr, re.M)}


def _outputs(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.rglob("*_vjp.py"))}


def test_what_has_not_changed_is_not_compiled(tree: Tree):
    root = tree({"pyproject.toml": "", "a.py": GOOD, "b.py": GOOD, "c.py": "x = 1\n"})
    assert _build()["sources compiled"] == 2
    before = {path: path.stat() for path in root.iterdir()}
    again = _build()
    assert again["sources compiled"] == 0
    assert again["modules unchanged"] == 2
    assert {path: path.stat() for path in root.iterdir()} == before


def test_one_changed_file_is_one_to_compile(tree: Tree):
    root = tree({"pyproject.toml": "", "a.py": GOOD, "b.py": GOOD})
    _build()
    tree({"a.py": GOOD + "\n\ny = 2\n"})
    again = _build()
    assert (again["sources compiled"], again["modules changed"]) == (1, 1)
    assert b"y = 2" in _outputs(root)["a_vjp.py"]


def test_a_new_annotation_rebuilds_those_that_import_it(tree: Tree):
    files = {
        "pyproject.toml": "",
        "pkg/__init__.py": "",
        "pkg/a.py": "from pkg.later import scale as s\n\n\n" + GOOD,
        "pkg/b.py": "from pkg.other import scale as s\n\n\n" + GOOD,
        "pkg/c.py": "import json\n\n\n" + GOOD,
        "pkg/later.py": "def scale(x):\n    return x\n",
        "pkg/other.py": "def scale(x):\n    return x\n",
    }
    root = tree(files)
    _build()
    assert b"from pkg.later import" in _outputs(root)["a_vjp.py"]
    tree({"pkg/later.py": GOOD})
    again = _build()
    assert again["sources compiled"] == 2  # `later` itself, and `a`
    assert b"from pkg.later_vjp import" in _outputs(root)["a_vjp.py"]
    fresh = _outputs(root)
    _build("--no-cache")
    assert _outputs(root) == fresh


def test_a_name_that_comes_from_elsewhere_now(tree: Tree):
    init = "from .plain import scale\n"
    root = tree(
        {
            "pyproject.toml": "",
            "pkg/__init__.py": init,
            "pkg/plain.py": "def scale(x):\n    return x\n",
            "pkg/rules.py": GOOD,
            "pkg/a.py": "from pkg import scale as s\n\n\n" + GOOD,
            "pkg/b.py": GOOD,
        }
    )
    _build()
    tree({"pkg/__init__.py": init + "\n\nVERSION = 1\n"})
    assert _build()["sources compiled"] == 0  # the question has the same answer
    tree({"pkg/__init__.py": init.replace("plain", "rules")})
    assert _build()["sources compiled"] == 1
    fresh = _outputs(root)
    _build("--no-cache")
    assert _outputs(root) == fresh


@pytest.mark.parametrize("key", ['missing = "zero"', 'suffix = "_rules"'])
def test_another_configuration_is_another_entry(tree: Tree, key: str):
    tree({"pyproject.toml": "", "a.py": GOOD})
    _build()
    tree({"pyproject.toml": f"[tool.vjpgen]\n{key}\n"})
    status = 1 if "suffix" in key else 0  # the module of the old suffix is reported
    assert _build(status=status)["sources compiled"] == 1


def test_findings_come_from_the_cache_as_they_were(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = tree({"pyproject.toml": "", "pkg/a.py": BAD, "pkg/b.py": GOOD})
    run = CliRunner().invoke
    first = run(group, ["check", "--output-format", "json"])
    again = run(group, ["check", "--output-format", "json"])
    assert "VJP101" in first.stdout
    assert again.stdout == first.stdout
    assert run(group, ["list"]).stdout == run(group, ["list", "--no-cache"]).stdout
    monkeypatch.chdir(root / "pkg")
    assert '"filename": "a.py"' in run(group, ["check", "--output-format", "json"]).stdout


def test_a_change_that_leaves_size_and_time_as_they_are(tree: Tree):
    root = tree({"pyproject.toml": "", "a.py": GOOD, "b.py": GOOD.replace("# custom", "# kustom")})
    _build()
    _build()
    b = root / "b.py"
    old = b.stat()
    b.write_text(GOOD)
    os.utime(b, ns=(old.st_atime_ns, old.st_mtime_ns))
    _build()
    assert set(_outputs(root)) == {"a_vjp.py", "b_vjp.py"}


def test_ignoring_is_asked_again(tree: Tree):
    root = tree({"pyproject.toml": "", "a.py": GOOD, "b.py": GOOD, ".gitignore": "b.py\n"})
    _build()
    assert set(_outputs(root)) == {"a_vjp.py"}
    tree({".gitignore": ""})
    _build()
    assert set(_outputs(root)) == {"a_vjp.py", "b_vjp.py"}


def _damage(how: Callable[[bytes], bytes], cache: Path) -> int:
    files = [path for path in cache.rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG"]
    for path in files:
        path.write_bytes(how(path.read_bytes()))
    return len(files)


@pytest.mark.parametrize(
    "how",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1] + b"\0",
        lambda data: b"\0" * len(data),
        lambda data: data + b"more",
    ],
    ids=["empty", "half", "last byte", "zeros", "longer"],
)
def test_a_damaged_entry_is_none(tree: Tree, cache: Path, how: Callable[[bytes], bytes]):
    root = tree({"pyproject.toml": "", "a.py": GOOD, "b.py": BAD, "c.py": ""})
    _build(status=1)
    before = _outputs(root)
    assert _damage(how, cache) >= 2
    assert _build(status=1)["sources compiled"] == 2
    assert _outputs(root) == before


def test_another_version_of_the_compiler(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    from vjpgen.building import cache as module

    tree({"pyproject.toml": "", "a.py": GOOD})
    _build()
    monkeypatch.setattr(module, "fingerprint", lambda: "another")
    assert _build()["sources compiled"] == 1


def test_no_cache_leaves_nothing(tree: Tree, cache: Path):
    tree({"pyproject.toml": "", "a.py": GOOD})
    _build("--no-cache")
    assert list(cache.rglob("*")) == []


def test_the_project_holds_nothing_of_it(tree: Tree):
    root = tree({"pyproject.toml": "", "a.py": GOOD})
    _build()
    assert {path.name for path in root.iterdir()} == {"pyproject.toml", "a.py", "a_vjp.py"}


def test_a_cache_that_cannot_be_made(tree: Tree, cache: Path, monkeypatch: pytest.MonkeyPatch):
    tree({"pyproject.toml": "", "a.py": GOOD})
    (cache / "file").write_text("")
    monkeypatch.setenv("VJPGEN_CACHE_DIR", str(cache / "file"))
    assert _build()["modules changed"] == 1
    assert _build()["sources compiled"] == 1


def test_entries_of_sources_that_are_gone_go(tree: Tree, cache: Path):
    root = tree({"pyproject.toml": "", "a.py": GOOD, "b.py": GOOD})
    _build()
    assert len(list(cache.rglob("results/*"))) == 2
    (root / "b.py").unlink()
    _build("a.py")
    assert len(list(cache.rglob("results/*"))) == 2  # only the whole project shows what is gone
    _build()
    assert len(list(cache.rglob("results/*"))) == 1


def test_what_a_limit_of_the_machine_gave_is_not_kept(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    from vjpgen.building import compiling

    def fail(*args: object, **rest: object) -> object:
        raise MemoryError

    tree({"pyproject.toml": "", "a.py": GOOD})
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "compile_source", fail)
        _build(status=1)
    assert _build()["modules changed"] == 1


def test_projects_have_caches_of_their_own(tree: Tree):
    tree({"a/pyproject.toml": "", "a/m.py": GOOD, "b/pyproject.toml": "", "b/m.py": GOOD})
    assert _build("a", "b")["sources compiled"] == 2
    assert _build("a", "b")["sources compiled"] == 0


def test_an_entry_is_what_was_stored(tree: Tree):
    from vjpgen.building.compiling import Task, make
    from vjpgen.compiler import Options, Siblings

    cache = Caches(enabled=True).of("/project")
    for text in (GOOD, BAD, "# custom_vjp: bwd=b\n", '"# custom-vjp: bwd=b"\n'):
        task = Task(text.encode(), "m.py", Options("m.py"), Siblings())
        made = make(task)
        name = results.entry_name("/project/m.py", task)
        results.store(cache, name, task, made)
        found = results.load(cache, name, task)
        assert found is not None
        expected = made.result
        assert (found.output, found.diagnostics) == (expected.output, expected.diagnostics)
        assert found.rules == expected.rules


def test_nothing_to_do_loads_neither_libcst_nor_jax(tree: Tree):
    tree({"pyproject.toml": "", "a.py": GOOD, "b.py": "x = 1\n"})
    code = (
        "import sys; from vjpgen.cli import group; group(['build'], standalone_mode=False);"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'libcst', 'jax', 'flax'}))"
    )

    def run() -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert run() == "['libcst']\n"
    assert run() == "[]\n"


@pytest.mark.parametrize("annotation", [None, Span(1, 2, 3, 4)])
def test_a_stored_finding_keeps_all_its_parts(annotation: Span | None):
    item = Diagnostic("VJP302", "unused", "m.py", Span(5, 6, 7, 8), "drop it", annotation)
    record = json.loads(json.dumps(results._diagnostic_record(item)))
    assert vars(results._diagnostic(record, "m.py")) == vars(item)
