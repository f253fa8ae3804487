"""Imports of annotated siblings, in every form that Python has."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest

from vjpgen.compiler import Options, Siblings, compile_source

TAIL = "\n\n\n# custom-vjp: bwd=max\ndef f(x):\n    return x\n"
SIBLINGS = Siblings(frozenset({"top", "pkg.a", "pkg.sub.b", "pkg.sub.deep.c"}), "pkg.sub")


def redirected(text: str, siblings: Siblings = SIBLINGS, suffix: str = "_vjp") -> str:
    options = Options(origin="m.py", suffix=suffix)
    result = compile_source((text + TAIL).encode(), "m.py", options=options, siblings=siblings)
    assert result.diagnostics == ()
    assert result.output is not None
    lines = result.output.decode().split("# isort: skip_file\n")[1]
    return lines.split("\nfrom vjpgen.runtime")[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import top", "import top_vjp as top"),
        ("import os, top, sys", "import os, top_vjp as top, sys"),
        ("import top as t", "import top_vjp as t"),
        ("import pkg.a as c", "import pkg.a_vjp as c"),
        ("import pkg.a", "import pkg.a_vjp"),
        ("from pkg.a import X, y as z", "from pkg.a_vjp import X, y as z"),
        ("from pkg.a import *", "from pkg.a_vjp import *"),
        ("from pkg import a", "from pkg import a_vjp as a"),
        ("from pkg import a as c, other", "from pkg import a_vjp as c, other"),
        (
            "from pkg import (\n    a,\n    other,\n)",
            "from pkg import (\n    a_vjp as a,\n    other,\n)",
        ),
        ("from . import b", "from . import b_vjp as b"),
        ("from .b import X", "from .b_vjp import X"),
        ("from .b import b, importer", "from .b_vjp import b, importer"),
        ("from .deep.c import X", "from .deep.c_vjp import X"),
        ("from .deep import c", "from .deep import c_vjp as c"),
        ("from .. import a", "from .. import a_vjp as a"),
        ("from ..a import X", "from ..a_vjp import X"),
        ("from ..sub.b import X", "from ..sub.b_vjp import X"),
        ("from  .b\\\n  import  X", "from  .b_vjp\\\n  import  X"),
        ("from .import b", "from .import b_vjp as b"),
        ("from .other import b", "from .other import b"),
        ("from ... import a", "from ... import a"),
        ("from .... import a", "from .... import a"),
        ("import pkg", "import pkg"),
        ("import pkg.a.b", "import pkg.a.b"),
        ("from top.b import X", "from top.b import X"),
    ],
)
def test_each_form(before: str, after: str) -> None:
    assert redirected(before) == after
    assert redirected(before, Siblings()) == before


def test_the_suffix_is_the_configurations() -> None:
    assert redirected("from . import b", suffix="_lifted") == "from . import b_lifted as b"


def test_dotted_uses_follow_the_module_that_is_meant() -> None:
    text = "import pkg.a\nimport pkg.other\n\n\ndef g(pkg):\n    return pkg.a\n\n\n"
    text += "h = [pkg.a.f(1), pkg.other.a, x.pkg.a]\npkg.a.value = 2\n\n\n"
    text += "shadows = (lambda pkg: pkg.a), [pkg.a for pkg in ()], pkg.a\n\n\n"
    text += "def k(pkg: pkg.a.T):\n    return pkg.a\n\n\n"
    text += "class A:\n    y: pkg.a.T\n\n    def m(self):\n        return lambda: pkg.a\n"
    after = redirected("import top\n" + text).replace("import top_vjp as top", "import top")
    source = "import top\nimport pkg.a\nimport pkg.other"
    assert after == source.replace("pkg.a", "pkg.a_vjp")
    output = compile_source(
        (text + TAIL).encode(), "m.py", options=Options("m.py"), siblings=SIBLINGS
    ).output
    assert output is not None
    lines = output.decode().splitlines()
    assert "h = [pkg.a_vjp.f(1), pkg.other.a, x.pkg.a]" in lines
    assert "pkg.a_vjp.value = 2" in lines
    assert "    y: pkg.a_vjp.T" in lines
    assert "        return lambda: pkg.a_vjp" in lines
    assert lines.count("    return pkg.a") == 2
    assert "shadows = (lambda pkg: pkg.a), [pkg.a for pkg in ()], pkg.a_vjp" in lines
    assert "def k(pkg: pkg.a_vjp.T):" in lines


SCOPED = {
    "an import elsewhere": (
        """
        import pkg
        x = pkg.a.f
        def g():
            import pkg.a
            return pkg.a.f
        def h():
            return pkg.a.f
        """,
        [False, True, False],
    ),
    "an import that may fail": (
        """
        try:
            import pkg.a
        except ImportError:
            pkg = None
        x = pkg.a.f
        def h():
            return pkg.a.f
        """,
        [True, True],
    ),
    "global": (
        """
        def load():
            global pkg
            import pkg.a
            pkg.a.f
        def h(pkg):
            return pkg.a.f
        x = pkg.a.f
        """,
        [True, False, True],
    ),
    "nonlocal": (
        """
        import pkg
        def g():
            pkg = None
            def load():
                nonlocal pkg
                import pkg.a
                pkg.a.f
            return pkg.a.f
        x = pkg.a.f
        """,
        [True, True, False],
    ),
    "quoted annotations": (
        """
        import pkg.a
        def g(x: "pkg.a.f", y: list["pkg.a.f"], z: Literal["pkg.a.f"], u: "xpkg.a.f") -> "pkg.a.f":
            v: "x.pkg.a.f" = "pkg.a.f"
        """,
        [True, True, False, False, True, False, False],
    ),
}


@pytest.mark.parametrize(("text", "follows"), SCOPED.values(), ids=SCOPED)
def test_a_use_follows_the_import_of_the_scope_that_has_its_name(
    text: str, follows: list[bool]
) -> None:
    data = (dedent(text) + TAIL).encode()
    result = compile_source(data, "m.py", options=Options("m.py"), siblings=SIBLINGS)
    assert result.output is not None
    uses = re.findall(r"pkg\.a(_vjp)?\.f", result.output.decode())
    assert [bool(suffix) for suffix in uses] == follows


def test_an_annotations_own_names_do_not_follow() -> None:
    text = "import pkg.a\n" + TAIL.replace("max", "lambda pkg, t: pkg.a.f")
    text += TAIL.replace("max", "lambda r, t: pkg.a.f")
    data = text.encode()
    result = compile_source(data, "m.py", options=Options("m.py"), siblings=SIBLINGS)
    assert result.output is not None
    lines = [line for line in result.output.decode().splitlines() if "bwd=lambda" in line]
    lifted = [line for line in lines if not line.startswith("#")]
    assert ["pkg.a_vjp.f" in line for line in lifted] == [False, True]


def test_a_line_that_grows_too_long_is_broken() -> None:
    names = ", ".join(f"name_number_{i}" for i in range(4))
    line = f"from pkg import a, b, {names}"
    assert len(line) < 88
    assert redirected(line).startswith("from pkg import (\n    a_vjp as a,\n    b,\n")
    twice = f"x = 1; {line}"
    after = redirected("import os\n" + twice).splitlines()
    assert after == ["import os"] or after[-1] == twice.replace("a, b", "a_vjp as a, b")
