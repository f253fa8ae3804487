"""Generated packages are imported as their sources are: each form of import, really carried out.

Functions tell by their module whether they are the generated ones. Where only the imports matter,
a stand-in for the runtime saves the time that jax takes to import.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from tests.building.conftest import Tree
from tests.building.conftest import tree as tree
from vjpgen.cli import group

RULE = """

def _bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=_bwd
def {name}(x):
    return x
"""


def rule(name: str, head: str = "", tail: str = "") -> str:
    return dedent(head) + RULE.format(name=name) + dedent(tail)


STAND_IN = """
import sys, types

runtime = types.ModuleType("vjpgen.runtime")
runtime.interface_1 = types.SimpleNamespace(lift=lambda function, *_, **__: function)
sys.modules["vjpgen.runtime"] = runtime
"""


def run(root: Path, program: str, before: str = "") -> str:
    """Build, and run a program that imports what was generated."""
    done = CliRunner().invoke(group, ["build", "."], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    program = f"{before}\ndef home(f):\n    return f.__module__\n\n{dedent(program)}"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


CIRCULAR = {
    "modules": (
        rule("f", "from . import b", "\n\ndef use():\n    return b.g\n"),
        rule("g", "from . import a", "\n\ndef use():\n    return a.f\n"),
    ),
    "dotted": (
        rule("f", "import pkg.b", "\n\ndef use():\n    return pkg.b.g\n"),
        rule("g", "import pkg.a", "\n\ndef use():\n    return pkg.a.f\n"),
    ),
    "dotted as": (
        rule("f", "import pkg.b as other", "\n\ndef use():\n    return other.g\n"),
        rule("g", "import pkg.a as other", "\n\ndef use():\n    return other.f\n"),
    ),
    "below": (
        rule("f", "", "\n\nfrom .b import g\n\n\ndef use():\n    return g\n"),
        rule("g", "", "\n\nfrom .a import f\n\n\ndef use():\n    return f\n"),
    ),
    "in functions": (
        rule("f", "", "\n\ndef use():\n    from .b import g\n\n    return g\n"),
        rule("g", "", "\n\ndef use():\n    from . import a\n\n    return a.f\n"),
    ),
}


@pytest.mark.parametrize(("a", "b"), CIRCULAR.values(), ids=CIRCULAR)
@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("init", [True, False])
def test_modules_that_import_each_other(tree: Tree, a: str, b: str, first: str, init: bool) -> None:
    root = tree({"pyproject.toml": "", "pkg/a.py": a, "pkg/b.py": b})
    if init:
        (root / "pkg/__init__.py").write_text("")
    out = run(
        root,
        f"""
        import pkg.{first}_vjp
        import pkg.a_vjp as a, pkg.b_vjp as b, sys
        print(home(a.use()), home(b.use()), "pkg.a" in sys.modules, "pkg.b" in sys.modules)
        """,
        STAND_IN,
    )
    assert out == "pkg.b_vjp pkg.a_vjp False False\n"


INIT = """
from .layers import dense
from .layers import conv as convolution
from .stars import *
from . import sub
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lazy import late

__all__ = ["convolution", "dense", "hidden", "late", "shown", "sub"]


def __getattr__(name):
    if name == "late":
        from .lazy import late

        return late
    raise AttributeError(name)
"""
USER = """
from typing import TYPE_CHECKING

import pkg as package
import pkg.sub.deep
from pkg import *
from pkg import dense as d, late
from pkg import sub
from pkg.sub import deep as deeper
from . import (
    convolution,  # both
    shown as s,
)

if TYPE_CHECKING:
    from .layers import dense as typed
try:
    from pkg import nothing
except ImportError:
    nothing = None


class Holder:
    from .layers import dense as held


used = package.convolution, sub.dense, pkg.sub.deep.deep, package.TYPE_CHECKING
"""
REEXPORTS = {
    "pyproject.toml": "",
    "pkg/__init__.py": INIT,
    "pkg/layers.py": rule("dense") + RULE.format(name="conv"),
    "pkg/stars.py": rule("shown", "", RULE.format(name="hidden")),
    "pkg/lazy.py": rule("late"),
    "pkg/sub/__init__.py": "from ..layers import dense\n",
    "pkg/sub/deep.py": rule("deep"),
    "pkg/model.py": rule("model", USER),
}


def test_what_packages_hand_on(tree: Tree) -> None:
    out = run(
        tree(REEXPORTS),
        """
        import pkg.model_vjp as m
        homes = [m.d, m.late, m.convolution, m.s, m.dense, m.shown, m.hidden, m.Holder.held]
        print(*map(home, homes))
        print(*map(home, m.used[:3]), m.used[3])
        print(m.deeper.__name__, m.pkg.sub.deep_vjp is m.deeper, m.nothing)
        """,
    )
    layers, stars = "pkg.layers_vjp", "pkg.stars_vjp"
    assert out.splitlines() == [
        f"{layers} pkg.lazy_vjp {layers} {stars} {layers} {stars} {stars} {layers}",
        f"{layers} {layers} pkg.sub.deep_vjp False",
        "pkg.sub.deep_vjp True None",
    ]


def test_generated_users_are_clean(tree: Tree) -> None:
    pytest.importorskip("ruff")
    user = "from pkg import convolution, dense, helper\n\nvalues = [convolution, dense, helper]\n"
    root = tree(REEXPORTS | {"pkg/model.py": rule("model", user)})
    with (root / "pkg/__init__.py").open("a") as init:
        init.write("\n\ndef helper(): ...\n")
    out = run(root, "import pkg.model_vjp as m; print(home(m.dense))", STAND_IN)
    assert out == "pkg.layers_vjp\n"
    for command in (["check", "--isolated"], ["format", "--isolated", "--check"]):
        names = ["pkg/model.py", "pkg/model_vjp.py"]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *names],
            capture_output=True,
            text=True,
            check=False,
            cwd=root,
        )
        assert done.returncode == 0, done.stdout


def test_a_module_with_errors_keeps_the_build_from_passing(tree: Tree) -> None:
    root = tree(
        {
            "pyproject.toml": "",
            "pkg/a.py": rule("f").replace("bwd=_bwd", "bwd=missing"),
            "pkg/b.py": rule("g", "from .a import f\n"),
        }
    )
    done = CliRunner().invoke(group, ["build", "."])
    assert done.exit_code == 1
    assert "VJP101" in done.output
    assert "from .a_vjp import f" in (root / "pkg/b_vjp.py").read_text()
