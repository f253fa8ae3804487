"""The import hook: what it compiles, what it leaves alone, what it says."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.resources
import importlib.util
import inspect
import io
import linecache
import pickle
import runpy
import sys
import threading
import tokenize
import warnings
import zipfile
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import vjpgen
from tests.importing.conftest import BAD, GOOD, RULE, WARNS, Folder, Hooked, built, hooks
from vjpgen.importing import CompileError, PlainImportWarning

LINEN = """\
import flax.linen as nn
import jax


def sign_bwd(vjp_fn, y_t):
    params_t, *inputs_t = vjp_fn(y_t)
    return (jax.tree.map(jax.numpy.sign, params_t), *inputs_t)


class SignDense(nn.Module):
    features: int

    # custom-vjp: bwd=sign_bwd
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)
"""
PARTIAL = LINEN.replace(
    "(jax.tree.map(jax.numpy.sign, params_t), *inputs_t)",
    '({"params": {"Dense_0": {"bias": params_t["params"]["Dense_0"]["bias"]}}}, *inputs_t)',
)


def slope(module: ModuleType) -> float:
    return float(jax.grad(module.scale)(1.0))


def grads(module: ModuleType) -> Any:
    dense, x = module.SignDense(2), jnp.array([[1.0, -2.0, 3.0]])
    variables = dense.init(jax.random.key(0), x)
    return jax.grad(lambda v: jnp.sum(dense.apply(v, x) ** 2))(variables)


def test_a_hooked_module_has_its_rules_and_a_plain_one_has_not(folder: Folder, hooked: Hooked):
    folder.write("pkg/model.py")
    assert slope(hooked("pkg.model", "pkg")) == 6
    del sys.modules["pkg.model"]
    assert slope(importlib.import_module("pkg.model")) == 3


def test_it_gives_what_the_built_module_gives(folder: Folder, hooked: Hooked):
    folder.write("model.py", LINEN)
    mine, theirs = grads(hooked("model")), grads(built("model"))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, mine, theirs))
    del sys.modules["model"]
    plain = grads(importlib.import_module("model"))
    assert not jax.tree.all(jax.tree.map(jnp.array_equal, mine, plain))


def test_the_context_ends_the_hook(folder: Folder):
    folder.write("first.py")
    folder.write("second.py")
    with vjpgen.install_import_hook("first", "second") as hook:
        assert slope(importlib.import_module("first")) == 6
    assert hook not in sys.meta_path
    assert slope(importlib.import_module("second")) == 3
    assert slope(importlib.import_module("first")) == 6
    hook.uninstall()


def test_a_plain_call_installs_for_good(folder: Folder):
    folder.write("model.py")
    hook = vjpgen.install_import_hook("model")
    assert sys.meta_path[0] is hook
    assert slope(importlib.import_module("model")) == 6
    hook.uninstall()
    assert hooks() == []


@pytest.mark.parametrize(
    ("package", "compiled"),
    [
        ("pkg", {"pkg", "pkg.model", "pkg.sub.deep"}),
        ("pkg.model", {"pkg.model"}),
        ("pkg.sub", {"pkg.sub.deep"}),
        ("pk", set()),
    ],
)
def test_a_name_covers_itself_and_what_is_below(folder: Folder, package: str, compiled: set[str]):
    names = ["pkg", "pkg.model", "pkg.sub.deep", "pkgs"]
    folder.write("pkg/__init__.py")
    folder.write("pkg/model.py")
    folder.write("pkg/sub/deep.py")  # a namespace package
    folder.write("pkgs.py")
    with vjpgen.install_import_hook(package):
        found = {name for name in names if slope(importlib.import_module(name)) == 6}
    assert found == compiled


def test_relative_imports_between_annotated_modules(folder: Folder, hooked: Hooked):
    folder.write("pkg/__init__.py", "")
    folder.write("pkg/base.py")
    folder.write("pkg/model.py", "from .base import scale as inner\n\n\n" + GOOD)
    module = hooked("pkg.model", "pkg")
    assert float(jax.grad(module.inner)(1.0)) == slope(module) == 6


def test_two_hooks_and_one_twice(folder: Folder):
    for name in ("first", "second", "third"):
        folder.write(f"{name}.py")
    one = vjpgen.install_import_hook("first", "second")
    with vjpgen.install_import_hook("second"), vjpgen.install_import_hook("second"):
        assert slope(importlib.import_module("second")) == 6
        assert slope(importlib.import_module("first")) == 6
    assert hooks() == [one]
    assert slope(importlib.import_module("third")) == 3


def test_the_hook_installed_last_decides_about_errors(folder: Folder, capsys):
    folder.write("model.py", BAD)
    with vjpgen.install_import_hook("model"), vjpgen.install_import_hook("model", on_error="plain"):
        assert slope(importlib.import_module("model")) == 3
    del sys.modules["model"]
    outer = vjpgen.install_import_hook("model", on_error="plain")
    with outer, vjpgen.install_import_hook("model"), pytest.raises(CompileError):
        importlib.import_module("model")


def test_threads_that_import_at_once(folder: Folder):
    names = [f"model_{number}" for number in range(6)]
    for name in names:
        folder.write(f"pkg/{name}.py")
    slopes: list[float] = []
    with vjpgen.install_import_hook("pkg"):
        threads = [
            threading.Thread(
                target=lambda name=name: slopes.append(
                    slope(importlib.import_module(f"pkg.{name}"))
                )
            )
            for name in names * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert slopes == [6] * 12


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((), {}, TypeError, "name the packages"),
        ((3,), {}, TypeError, "by its dotted name, not by 3"),
        ((".model",), {}, ValueError, "'.model' is no dotted name"),
        (("pkg/model.py",), {}, ValueError, "write it as `import` does"),
        (("pkg",), {"on_error": "ignore"}, ValueError, "not 'ignore'"),
    ],
)
def test_wrong_arguments(arguments: Any, options: Any, error: type[Exception], text: str):
    with pytest.raises(error, match=text):
        vjpgen.install_import_hook(*arguments, **options)
    assert hooks() == []


def test_what_was_imported_before_is_named_and_can_be_reloaded(folder: Folder):
    folder.write("pkg/model.py")
    folder.write("pkg/plain.py", "X = 1\n")
    built("pkg.model")
    module = importlib.import_module("pkg.model")
    importlib.import_module("pkg.plain")
    with pytest.warns(PlainImportWarning, match=r"^pkg\.model was imported before") as caught:
        hook = vjpgen.install_import_hook("pkg")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with hook:
        assert slope(module) == 3
        assert slope(importlib.reload(module)) == 6
        with warnings.catch_warnings():
            vjpgen.install_import_hook("pkg").uninstall()


def test_an_error_is_raised_with_its_excerpt(folder: Folder, hooked: Hooked):
    folder.write("pkg/model.py", BAD)
    with pytest.raises(CompileError) as caught:
        hooked("pkg.model", "pkg")
    error = caught.value
    assert "error[VJP101]: `bwd`: `scale_bwdd` is not defined" in str(error)
    assert "--> pkg/model.py:6:19" in str(error)
    assert "6 | # custom-vjp: bwd=scale_bwdd" in str(error)
    assert not isinstance(error, ImportError)
    assert [item.code for item in error.diagnostics] == ["VJP101"]
    assert "pkg.model" not in sys.modules
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.diagnostics) == (str(error), error.diagnostics)


def test_an_error_by_choice_leaves_the_module_plain(folder: Folder, hooked: Hooked, capsys):
    folder.write("model.py", BAD)
    for _ in range(2):  # it is said at each import, until it is mended
        assert slope(hooked("model", on_error="plain")) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert "error[VJP101]" in err
        assert f"{folder.path / 'model.py'} is imported plain" in err


def test_python_reports_its_own_errors(folder: Folder, hooked: Hooked):
    folder.write("model.py", GOOD + "x = (\n")
    with pytest.raises(SyntaxError) as caught:
        hooked("model")
    assert (caught.value.lineno, Path(caught.value.filename or "").name) == (9, "model.py")
    folder.write("other.py", GOOD + "return\n")
    with pytest.raises(SyntaxError, match="'return' outside function") as caught:
        hooked("other", on_error="plain")
    assert caught.value.lineno == 9


def test_warnings_are_shown_when_a_module_is_compiled(folder: Folder, hooked: Hooked, capsys):
    folder.write("model.py", WARNS)
    assert slope(hooked("model")) == 6
    assert "warning[VJP009]" in capsys.readouterr().err
    assert slope(hooked("model")) == 6
    assert capsys.readouterr().err == ""


def test_pythons_own_warnings_name_the_line_of_the_source(folder: Folder, hooked: Hooked):
    folder.write("model.py", GOOD + '\nTEXT = "\\d"\nSAME = TEXT is "d"\n')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hooked("model")
    rows = [(item.lineno, Path(item.filename).name) for item in caught]
    assert rows == [(10, "model.py"), (11, "model.py")]


def test_the_configuration_holds(folder: Folder, hooked: Hooked):
    folder.write("model.py", PARTIAL)
    with pytest.raises(vjpgen.TangentError, match=r"kernel"):
        grads(hooked("model"))
    folder.write("pyproject.toml", '[tool.vjpgen]\nmissing = "zero"\n')
    assert not jnp.any(grads(hooked("model"))["params"]["Dense_0"]["kernel"])


def test_what_the_configuration_excludes_is_plain(folder: Folder, hooked: Hooked):
    folder.write("pyproject.toml", '[tool.vjpgen]\nexclude = ["vendored"]\n')
    folder.write("vendored/model.py", BAD)
    folder.write("model.py")
    assert slope(hooked("vendored.model", "vendored")) == 3
    assert slope(hooked("model")) == 6


def test_what_the_configuration_ignores_is_not_said(folder: Folder, hooked: Hooked, capsys):
    folder.write("pyproject.toml", '[tool.vjpgen]\nignore = ["VJP009"]\n')
    folder.write("model.py", WARNS)
    assert slope(hooked("model")) == 6
    assert capsys.readouterr().err == ""


def test_a_wrong_configuration_is_an_error(folder: Folder, hooked: Hooked, capsys):
    folder.write("pyproject.toml", '[tool.vjpgen]\nmising = "zero"\n')
    folder.write("model.py")
    with pytest.raises(CompileError, match="unknown key `mising`; did you mean `missing`"):
        hooked("model")
    assert slope(hooked("model", on_error="plain")) == 3
    assert "unknown key `mising`" in capsys.readouterr().err


def test_installed_packages_have_no_configuration(folder: Folder, hooked: Hooked, monkeypatch):
    folder.write("pyproject.toml", "[tool.vjpgen]\nnonsense = 1\n")
    folder.write("env/site-packages/installed.py")
    monkeypatch.syspath_prepend(str(folder.path / "env/site-packages"))
    assert slope(hooked("installed")) == 6


def test_what_a_module_says_of_itself(folder: Folder, hooked: Hooked):
    path = folder.write("pkg/model.py", LINEN)
    folder.write("pkg/data.txt", "data")
    module = hooked("pkg.model", "pkg")
    spec = module.__spec__
    assert spec is not None
    assert module.__file__ == spec.origin == str(path)
    assert module.__cached__ == spec.cached == importlib.util.cache_from_source(str(path))
    assert inspect.getsource(module) == LINEN
    assert inspect.getsource(module.SignDense) == LINEN[LINEN.index("class") :]
    assert (
        inspect.getsource(module.sign_bwd) == LINEN[LINEN.index("def") : LINEN.index("\n\nclass")]
    )
    assert inspect.getsourcelines(module.SignDense.__call__)[1] == 14
    assert linecache.getline(str(path), 13) == "    # custom-vjp: bwd=sign_bwd\n"
    assert importlib.resources.files("pkg").joinpath("data.txt").read_text() == "data"
    assert importlib.util.find_spec("pkg.model") is spec
    assert pickle.loads(pickle.dumps(module.SignDense(3))) == module.SignDense(3)
    assert pickle.loads(pickle.dumps(module.sign_bwd)) is module.sign_bwd


def test_a_reload_takes_a_changed_rule(folder: Folder):
    folder.write("model.py")
    with vjpgen.install_import_hook("model"):
        module = importlib.import_module("model")
        assert slope(module) == 6
        folder.write("model.py", GOOD.replace("2 * x_t", "5 * x_t"))
        assert slope(importlib.reload(module)) == 15


def test_generated_modules_are_left_as_they_are(folder: Folder, hooked: Hooked):
    folder.write("pkg/model.py")
    built("pkg.model")
    module = hooked("pkg.model_vjp", "pkg")
    assert slope(module) == 6
    assert "_vjp_lifted_scale" in inspect.getsource(module)


def test_a_string_is_no_annotation(folder: Folder, hooked: Hooked):
    folder.write("model.py", RULE + 'TEXT = """\n# custom-vjp: bwd=scale_bwd\n"""\n')
    assert hooked("model").TEXT == "\n# custom-vjp: bwd=scale_bwd\n"


class EditableFinder:
    """Finds one module, as the finders of editable installs do."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return (
            importlib.util.spec_from_file_location(name, self.path) if name == self.name else None
        )


def test_modules_that_other_finders_find(folder: Folder, hooked: Hooked):
    path = folder.write("elsewhere/src/model.py")
    sys.meta_path.insert(0, EditableFinder("editable", path))
    assert slope(hooked("editable")) == 6
    sys.meta_path[:] = [*sys.meta_path[1:], sys.meta_path[0]]
    assert slope(hooked("editable")) == 6


class AsksAll:
    """Asks all other finders in turn, as some hooks do."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        return next((spec for spec in found if spec is not None), None)


def test_a_finder_that_asks_all_others(folder: Folder, hooked: Hooked):
    folder.write("model.py")
    sys.meta_path.insert(0, AsksAll())
    assert slope(hooked("model")) == 6


def test_a_module_in_an_archive_is_plain_and_that_is_said(
    folder: Folder, hooked: Hooked, monkeypatch
):
    with zipfile.ZipFile(folder.path / "lib.zip", "w") as archive:
        archive.writestr("zipped.py", GOOD)
        archive.writestr("quiet.py", "X = 1\n")
    monkeypatch.syspath_prepend(str(folder.path / "lib.zip"))
    with pytest.warns(PlainImportWarning, match="zipped is annotated but is loaded by zipimporter"):
        assert slope(hooked("zipped")) == 3
    assert hooked("quiet").X == 1
    assert hooked("zlib", "zlib", "json", "sys")


class DoublingLoader(importlib.machinery.SourceFileLoader):
    """Changes the code of a module, as type checkers' hooks do."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # pyright: ignore
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding) + "\nDOUBLED = True\n"
        return compile(text, path, "exec", dont_inherit=True, optimize=_optimize)


class DoublingFinder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = DoublingLoader(spec.loader.name, spec.loader.path)
        return spec


@pytest.mark.parametrize("kept", ["nothing", "bytecode of the source"])
def test_a_hook_that_changes_code_goes_on_working(folder: Folder, hooked: Hooked, kept: str):
    path = folder.write("model.py", GOOD + "\n\ndef fail():\n    raise KeyError\n")
    sys.meta_path.insert(0, DoublingFinder())
    if kept != "nothing":
        assert importlib.import_module("model").DOUBLED
    for _ in range(2):
        module = hooked("model")
        assert slope(module) == 6
        assert module.DOUBLED
        code = module.fail.__code__
        assert (code.co_filename, code.co_firstlineno) == (str(path), 11)
        assert {line for *_, line in code.co_lines()} == {11, 12}
    assert "model.cpython" in "".join(folder.cached())
    del sys.modules["model"]
    assert slope(importlib.import_module("model")) == 3


def test_a_hook_in_front_that_asks_python_alone_is_noticed(folder: Folder):
    folder.write("model.py")
    hook = vjpgen.install_import_hook("model")
    sys.meta_path.insert(0, DoublingFinder())
    assert slope(importlib.import_module("model")) == 3
    with pytest.warns(PlainImportWarning, match="model was loaded past vjpgen's hook"):
        hook.uninstall()
    assert hooks() == []


def test_a_package_that_installs_the_hook_for_itself(folder: Folder):
    hook = "with vjpgen.install_import_hook(__name__):\n    from pkg.model import scale\n"
    folder.write("pkg/__init__.py", f"import vjpgen\n\n{hook}")
    folder.write("pkg/model.py")
    assert slope(importlib.import_module("pkg")) == 6
    assert hooks() == []


def test_a_module_that_is_also_run(folder: Folder, hooked: Hooked):
    folder.write("model.py", GOOD + "NAME = __name__\n")
    with vjpgen.install_import_hook("model"):
        found = runpy.run_module("model")
    assert float(jax.grad(found["scale"])(1.0)) == 6
    assert found["NAME"] == "model"
