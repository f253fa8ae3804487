"""What is kept of compiled modules, and when it no longer holds."""

from __future__ import annotations

import importlib
import importlib.util
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from tests.importing.conftest import GOOD, Folder, Hooked
from tests.importing.test_hook import slope
from vjpgen.importing import caching, compiling

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are compiled from now on."""
    paths: list[str] = []
    generate = compiling.generate

    def noting(path: str, *args, **options):
        paths.append(Path(path).name)
        return generate(path, *args, **options)

    monkeypatch.setattr(compiling, "generate", noting)
    return paths


def kept(folder: Folder) -> Path:
    (file,) = folder.path.rglob("*vjpgen*.pyc")
    return file


def test_a_module_is_compiled_once(folder: Folder, hooked: Hooked, compiled: list[str]):
    path = folder.write("model.py")
    for _ in range(3):
        assert slope(hooked("model")) == 6
    assert compiled == ["model.py"]
    tag = f"{sys.flags.optimize or ''}vjpgen"
    name = importlib.util.cache_from_source(str(path), optimization=tag)
    assert kept(folder) == Path(name)
    assert importlib.util.source_from_cache(name) == str(path)


def test_pythons_own_bytecode_is_another_file(folder: Folder, hooked: Hooked):
    path = folder.write("model.py")
    assert slope(hooked("model")) == 6
    del sys.modules["model"]
    assert slope(importlib.import_module("model")) == 3
    assert Path(importlib.util.cache_from_source(str(path))).is_file()
    assert slope(hooked("model")) == 6


def test_pythons_bytecode_from_before_does_no_harm(folder: Folder, hooked: Hooked):
    py_compile.compile(str(folder.write("model.py")))
    assert slope(hooked("model")) == 6


def test_plain_modules_are_kept_by_python_alone(folder: Folder, hooked: Hooked):
    path = folder.write("model.py", "X = 1\n")
    assert hooked("model").X == 1
    assert folder.cached() == []
    assert Path(importlib.util.cache_from_source(str(path))).is_file()


def test_a_change_within_the_same_second_and_size(
    folder: Folder, hooked: Hooked, compiled: list[str]
):
    path = folder.write("model.py")
    before = path.stat()
    assert slope(hooked("model")) == 6
    folder.write("model.py", GOOD.replace("2 * x_t", "7 * x_t"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert slope(hooked("model")) == 21
    assert compiled == ["model.py"] * 2


def test_a_touched_file_is_not_compiled_again(folder: Folder, hooked: Hooked, compiled: list[str]):
    path = folder.write("model.py")
    hooked("model")
    os.utime(path, (1, 1))
    hooked("model")
    assert compiled == ["model.py"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:80] + bytes([data[80] ^ 1]) + data[81:],
        lambda data: b"\0\0\0\0" + data[4:],
    ],
)
def test_a_damaged_file_is_no_file(folder: Folder, hooked: Hooked, compiled: list[str], damage):
    folder.write("model.py")
    hooked("model")
    whole = kept(folder).read_bytes()
    kept(folder).write_bytes(damage(whole))
    assert slope(hooked("model")) == 6
    assert compiled == ["model.py"] * 2
    assert kept(folder).read_bytes() == whole


def test_another_compiler_compiles_again(
    folder: Folder, hooked: Hooked, compiled: list[str], monkeypatch: pytest.MonkeyPatch
):
    folder.write("model.py")
    hooked("model")
    monkeypatch.setattr(caching, "fingerprint", lambda: "another")
    hooked("model")
    assert compiled == ["model.py"] * 2


def test_another_configuration_compiles_again(folder: Folder, hooked: Hooked, compiled: list[str]):
    folder.write("pkg/model.py")
    for text in ("", '[tool.vjpgen]\nmissing = "zero"\n'):
        folder.write("pyproject.toml", text)
        hooked("pkg.model", "pkg")
    folder.write("pkg/pyproject.toml", '[tool.vjpgen]\nmissing = "zero"\n')
    hooked("pkg.model", "pkg")
    assert compiled == ["model.py"] * 3


def test_another_name_of_the_module_compiles_again(
    folder: Folder, hooked: Hooked, compiled: list[str]
):
    """Messages say where an annotation stands, seen from where the package begins."""
    folder.write("pkg/model.py")
    hooked("pkg.model", "pkg")
    folder.write("pkg/__init__.py", "")
    hooked("pkg.model", "pkg")
    assert compiled == ["model.py"] * 2


def test_a_moved_project_compiles_again(folder: Folder, hooked: Hooked):
    folder.write("here/model.py")
    hooked("here.model", "here")
    (folder.path / "here").rename(folder.path / "there")
    importlib.invalidate_caches()
    module = hooked("there.model", "there")
    assert module.scale_bwd.__code__.co_filename == str(folder.path / "there/model.py")


def test_nothing_is_written_where_python_writes_nothing(
    folder: Folder, hooked: Hooked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder.write("model.py")
    assert slope(hooked("model")) == 6
    assert not list(folder.path.rglob("*.pyc"))
    monkeypatch.setattr(sys.implementation, "cache_tag", None)
    assert slope(hooked("model")) == 6


def test_the_prefix_of_bytecode_holds(
    folder: Folder, hooked: Hooked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "elsewhere"))
    folder.write("model.py")
    assert slope(hooked("model")) == 6
    assert (tmp_path / "elsewhere") in kept(folder).parents


def test_a_folder_that_cannot_be_written(folder: Folder, hooked: Hooked, compiled: list[str]):
    folder.write("__pycache__", "a file, so that no folder of this name can be made")
    folder.write("model.py")
    for _ in range(2):
        assert slope(hooked("model")) == 6
    assert compiled == ["model.py"] * 2


def test_what_is_kept_is_as_private_as_the_source(folder: Folder, hooked: Hooked):
    folder.write("model.py").chmod(0o600)
    hooked("model")
    assert kept(folder).stat().st_mode & 0o077 == 0


CODE = """
import sys, vjpgen
lazy = "jax" not in sys.modules and "libcst" not in sys.modules
vjpgen.install_import_hook("model")
import model
heavy = {"libcst", "pathspec", "tomllib", "vjpgen.compiler", "vjpgen.config"} & sys.modules.keys()
print(lazy, model.scale_bwd.__code__.co_firstlineno, *sorted(heavy))
"""


@pytest.mark.parametrize("flags", [[], ["-O"]])
def test_a_warm_import_loads_no_compiler(folder: Folder, flags: list[str]):
    folder.write("model.py")
    env = {**os.environ, "PYTHONPATH": f"{folder.path}{os.pathsep}{ROOT}"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *flags, "-c", CODE]
    texts = [
        subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert texts[0][:2] == texts[1][:2] == ["True", "1"]
    assert {"libcst", "vjpgen.compiler", "vjpgen.config"} <= set(texts[0][2:])
    assert texts[1][2:] == []
    name = "model.cpython-{}{}.opt-{}vjpgen.pyc"
    assert folder.cached() == [name.format(*sys.version_info[:2], "1" if flags else "")]
