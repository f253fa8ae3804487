"""Names that modules without annotation hand on from annotated ones."""

from __future__ import annotations

import ast
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.test_imports import TAIL
from vjpgen.compiler import Options, Siblings, compile_source
from vjpgen.compiler.exports import exports_of

PACKAGE = {
    "pkg": """
        from .layers import Dense, Conv as Convolution
        from . import blocks as stacks
        from .sub import *
        from .sub.losses import loss
        from .act import act
        import top as upper
        from other import Elsewhere
        def helper(): ...
        """,
    "pkg.api": "from . import Dense, helper\nfrom .blocks import *\nfrom pkg import loss as cost",
    "pkg.sub": "from .norms import *\nfrom .norms import _private\nplain = 1\n",
    "pkg.sub.norms": "class Norm: ...\nclass Batch: ...\n_private = 2\n",
    "pkg.listed": "from .layers import *\nfrom .layers import Conv\n__all__ = ['Conv', 'Dense']\n",
    "pkg.layers": "class Dense: ...\nclass Conv: ...\n",
    "pkg.blocks": "from .layers import Dense\nclass Block: ...\n__all__ = ['Block']\n",
    "pkg.guarded": """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from .layers import Dense
        try:
            from .layers import Conv
        except ImportError:
            from .fast import Conv
        def __getattr__(name): ...
        """,
    "pkg.round": "from .about import X, Y\n",
    "pkg.about": "from .round import X\nfrom .layers import Dense as Y\n",
    "pkg.broken": "from .layers import (\n",
}
ANNOTATED = {
    *("pkg.layers", "pkg.blocks", "pkg.sub.norms", "pkg.sub.losses", "pkg.act", "top"),
}
PACKAGES = {"pkg", "pkg.sub"}


def sources(texts: dict[str, str]) -> dict[str, tuple[bytes, str]]:
    """The texts as a project has them, each with the package it lies in."""
    return {
        name: (dedent(text).encode(), name if name in PACKAGES else name.rpartition(".")[0])
        for name, text in texts.items()
    }


SIBLINGS = Siblings(frozenset(ANNOTATED), "pkg", sources(PACKAGE))


@pytest.mark.parametrize(
    ("module", "name", "origin"),
    [
        ("pkg", "Dense", ("pkg.layers", "Dense")),
        ("pkg", "Convolution", ("pkg.layers", "Conv")),
        ("pkg", "stacks", ("pkg.blocks", "")),
        ("pkg", "blocks", ("pkg.blocks", "")),
        ("pkg", "upper", ("top", "")),
        ("pkg", "Norm", ("pkg.sub.norms", "Norm")),
        ("pkg", "loss", ("pkg.sub.losses", "loss")),
        ("pkg", "act", ("pkg.act", "act")),
        ("pkg", "plain", None),
        ("pkg", "_private", None),
        ("pkg", "helper", None),
        ("pkg", "Elsewhere", None),
        ("pkg", "nothing", None),
        ("pkg.sub", "_private", ("pkg.sub.norms", "_private")),
        ("pkg.api", "Dense", ("pkg.layers", "Dense")),
        ("pkg.api", "cost", ("pkg.sub.losses", "loss")),
        ("pkg.api", "Block", ("pkg.blocks", "Block")),
        ("pkg.api", "helper", None),
        ("pkg.guarded", "Dense", ("pkg.layers", "Dense")),
        ("pkg.guarded", "Conv", None),
        ("pkg.round", "X", None),
        ("pkg.round", "Y", ("pkg.layers", "Dense")),
        ("pkg.broken", "Dense", None),
        ("unknown", "Dense", None),
    ],
)
def test_where_a_name_comes_from(module: str, name: str, origin: tuple[str, str] | None) -> None:
    assert SIBLINGS.origin(module, name) == origin


def test_what_a_star_gives() -> None:
    assert SIBLINGS.starred("pkg.listed") == (
        ("Conv", ("pkg.layers", "Conv")),
        ("Dense", ("pkg.layers", "Dense")),
    )
    assert [name for name, _ in SIBLINGS.starred("pkg.sub")] == ["Batch", "Norm"]
    names = [name for name, _ in SIBLINGS.starred("pkg")]
    assert names == ["Batch", "Convolution", "Dense", "Norm", "act", "loss", "stacks", "upper"]
    assert SIBLINGS.starred("unknown") == SIBLINGS.starred("pkg.broken") == ()


def test_without_annotated_modules_nothing_is_read() -> None:
    class Unread:
        def get(self, module: str, /) -> tuple[bytes, str] | None:
            raise AssertionError(module)

    siblings = Siblings(frozenset(), "pkg", Unread())
    assert siblings.origin("pkg", "Dense") is None
    assert siblings.starred("pkg") == ()


def test_what_changes_all_leaves_it_open() -> None:
    texts = ("__all__ = ['a']\n__all__ += b.__all__\n", "__all__ = f()\n", "__all__ = [a]\n")
    more = ("__all__ = ['a']\n__all__.append('b')\n", "if a:\n    __all__ = ['a']\n")
    for text in (*texts, *more):
        exports = exports_of(text.encode(), "pkg")
        assert exports is not None
        assert exports.listed is None


def redirected(text: str, siblings: Siblings = SIBLINGS) -> str:
    options = Options(origin="m.py")
    text = f"import os\n{text}{TAIL}"
    result = compile_source(text.encode(), "m.py", options=options, siblings=siblings)
    assert result.diagnostics == ()
    assert result.output is not None
    lines = result.output.decode().split("# isort: skip_file\n")[1]
    lines = lines.replace("\nfrom vjpgen.runtime import interface_1 as _vjpgen\n", "\n")
    return lines.split("# custom-vjp")[0].replace("import os\n", "", 1).strip("\n")


FORMS = {
    "absolute": ("from pkg import Dense", "from pkg.layers_vjp import Dense"),
    "as": ("from pkg import Dense as D", "from pkg.layers_vjp import Dense as D"),
    "renamed": (
        "from pkg import Convolution",
        "from pkg.layers_vjp import Conv as Convolution",
    ),
    "renamed as": ("from pkg import Convolution as C", "from pkg.layers_vjp import Conv as C"),
    "relative": ("from . import Dense", "from .layers_vjp import Dense"),
    "no space": ("from .import Dense", "from .layers_vjp import Dense"),
    "no space before": ("from.api import Dense", "from .layers_vjp import Dense"),
    "relative of a package": ("from .sub import Norm", "from .sub.norms_vjp import Norm"),
    "module": ("from pkg import stacks", "from pkg import blocks_vjp as stacks"),
    "module as": ("from pkg import stacks as s", "from pkg import blocks_vjp as s"),
    "module at the top": ("from pkg import upper", "import top_vjp as upper"),
    "module at the top, and others": (
        "from pkg import upper as u, helper, Dense",
        "import top_vjp as u\nfrom pkg.layers_vjp import Dense\nfrom pkg import helper",
    ),
    "module at the top, listed": (
        "from pkg import (\n    upper,  # a\n    helper,\n)",
        "import top_vjp as upper  # a\nfrom pkg import (\n    helper,\n)",
    ),
    "listed after another statement": (
        "import os; from pkg import (\n    # a\n    helper,\n    Dense,\n    loss,\n)",
        "import os; from pkg.layers_vjp import Dense; from pkg.sub.losses_vjp import loss; "
        "from pkg import helper",
    ),
    "listed in a line of a block": (
        "if 1: from pkg import (\n    Dense,\n    loss\n)",
        "if 1: from pkg.layers_vjp import Dense; from pkg.sub.losses_vjp import loss",
    ),
    "hidden module": ("from pkg import act", "from pkg.act_vjp import act"),
    "continued": ("from pkg \\\n  import Dense", "from pkg.layers_vjp \\\n  import Dense"),
    "two homes": (
        "from pkg import Dense, loss",
        "from pkg.layers_vjp import Dense\nfrom pkg.sub.losses_vjp import loss",
    ),
    "some stay": (
        "from pkg import helper, Dense, blocks  # noqa: F401",
        "from pkg.layers_vjp import Dense  # noqa: F401\n"
        "from pkg import helper, blocks_vjp as blocks  # noqa: F401",
    ),
    "after another statement": (
        "import os; from pkg import Dense, helper",
        "import os; from pkg.layers_vjp import Dense; from pkg import helper",
    ),
    "in a block": (
        "if 1:\n    from . import Dense, helper",
        "if 1:\n    from .layers_vjp import Dense\n    from . import helper",
    ),
    "in a line of a block": (
        "if 1: from . import Dense, helper",
        "if 1: from .layers_vjp import Dense; from . import helper",
    ),
    "listed": (
        "from pkg import (  # why\n    Dense,  # a\n    # b\n    helper,  # c\n    loss,\n)",
        "from pkg.layers_vjp import (\n    Dense,  # a\n)\nfrom pkg.sub.losses_vjp import loss\n"
        "from pkg import (  # why\n    # b\n    helper,  # c\n)",
    ),
    "all listed": (
        "from pkg import (\n    Dense,  # a\n    Convolution as C,\n)",
        "from pkg.layers_vjp import (\n    Dense,  # a\n    Conv as C,\n)",
    ),
    "listed, none stays": (
        "from pkg import (\n    Dense,\n    loss,\n)",
        "from pkg.layers_vjp import Dense\nfrom pkg.sub.losses_vjp import loss",
    ),
    "in brackets": (
        "from pkg import (Dense, helper)",
        "from pkg.layers_vjp import Dense\nfrom pkg import helper",
    ),
    "star": (
        "from pkg.listed import *  # noqa: F403",
        "from pkg.listed import *  # noqa: F403\n"
        "from pkg.layers_vjp import Conv  # noqa: F401\n"
        "from pkg.layers_vjp import Dense  # noqa: F401",
    ),
    "star, used": (
        "from pkg.listed import *\nx = Dense",
        "from pkg.listed import *\n"
        "from pkg.layers_vjp import Conv  # noqa: F401\nfrom pkg.layers_vjp import Dense\n"
        "x = Dense",
    ),
    "star, handed on": (
        "from pkg.listed import *\n__all__ = ['Conv']  # and Dense",
        "from pkg.listed import *\n"
        "from pkg.layers_vjp import Conv\nfrom pkg.layers_vjp import Dense  # noqa: F401\n"
        "__all__ = ['Conv']  # and Dense",
    ),
    "star of an annotated": ("from .layers import *", "from .layers_vjp import *"),
    "star between": (
        "from .sub import *; import os",
        "from .sub import *; from .sub.norms_vjp import Batch, Norm; import os",
    ),
    "what stays": ("from pkg import helper, plain", "from pkg import helper, plain"),
    "guarded": (
        "try:\n    from .guarded import Dense, Conv\nexcept ImportError:\n    Dense = None",
        "try:\n    from .layers_vjp import Dense\n    from .guarded import Conv\n"
        "except ImportError:\n    Dense = None",
    ),
}


@pytest.mark.parametrize(("before", "after"), FORMS.values(), ids=FORMS)
def test_each_form(before: str, after: str) -> None:
    assert redirected(before) == after
    assert redirected(before, Siblings()) == before


NAMES = ("Dense", "Convolution", "stacks", "blocks", "upper", "Norm", "loss", "helper", "sub")
IMPORTED = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["", " as  other"])), min_size=1, max_size=4
).map(lambda pairs: [name + (f"{more}_{name}" if more else "") for name, more in pairs])
LAYOUTS = (
    *("from {m} import {0}", "from {m} import ({0},)", "from  {m}\\\n  import {0}"),
    *("from {m} import (\n{1}\n)", "from {m} import (  # a\n{2}  # z\n )"),
)
PLACES = (
    *("{0}", "{0}  # noqa", "import os; {0}", "{0}; import os", "if 1: {0}", "if 1:\n    {0}"),
    *("try:\n    {0}\nexcept ImportError: pass", "def g():\n    {0}\n    return Dense"),
)


@given(st.sampled_from(["pkg", "."]), IMPORTED, st.sampled_from(LAYOUTS), st.sampled_from(PLACES))
def test_whatever_is_imported_is_bound_and_from_where_it_should(
    module: str, names: list[str], layout: str, place: str
) -> None:
    several = "\n".join(f"    {name},{'  # c' * (i % 2)}" for i, name in enumerate(names))
    statement = layout.format(", ".join(names), several, ", # b\n ".join(names), m=module)
    text = f"{place.format(statement)}\n{TAIL}"
    options = Options(origin="m.py")
    result = compile_source(text.encode(), "m.py", options=options, siblings=SIBLINGS)
    assert result.diagnostics == ()
    assert result.output is not None
    assert _bound(text) == _bound(result.output.decode())


def _bound(text: str) -> set[tuple[str, str, str]]:
    """What each import of a module binds to a name, generated modules taken for their sources."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add((alias.asname or alias.name, alias.name.removesuffix("_vjp"), ""))
        elif isinstance(node, ast.ImportFrom) and node.module != "vjpgen.runtime":
            home = SIBLINGS.absolute(node.module, node.level) or ""
            for alias in node.names:
                name = alias.name.removesuffix("_vjp")
                plain = home.removesuffix("_vjp"), name
                origin = SIBLINGS.origin(*plain) or plain
                found.add((alias.asname or alias.name, *origin))
    return found


def test_relative_names_from_a_package_further_down() -> None:
    deeper = Siblings(frozenset(ANNOTATED), "pkg.sub", sources(PACKAGE))
    assert redirected("from .. import Dense, Norm", deeper) == (
        "from ..layers_vjp import Dense\nfrom .norms_vjp import Norm"
    )
    assert redirected("from .. import stacks", deeper) == "from .. import blocks_vjp as stacks"
    assert redirected("from .. import upper", deeper) == "import top_vjp as upper"


def test_long_lines_are_broken() -> None:
    many = [f"a_long_name_of_layer_{i}" for i in range(3)]
    siblings = Siblings(
        frozenset({"pkg.a"}), "pkg", sources({"pkg": f"from .a import {', '.join(many)}\n"})
    )
    listed = "".join(f"    {name},\n" for name in many)
    line = f"from pkg import {', '.join(many)}"
    assert redirected(line, siblings) == f"from pkg.a_vjp import (\n{listed})"
    split = f"{line}, x"
    assert redirected(split, siblings) == (f"from pkg.a_vjp import (\n{listed})\nfrom pkg import x")


def test_line_ends_are_kept() -> None:
    text = "from pkg import Dense, helper\r\nimport os\r\n" + TAIL.replace("\n", "\r\n")
    options = Options(origin="m.py")
    result = compile_source(text.encode(), "m.py", options=options, siblings=SIBLINGS)
    assert result.output is not None
    assert b"layers_vjp import Dense\r\nfrom pkg import helper\r\n" in result.output
    assert result.output.count(b"\n") == result.output.count(b"\r\n")


USES = {
    "as": (
        "import pkg as p\n\nx = p.Dense, p.helper, p.Dense.f",
        "import pkg.layers_vjp as _vjp_layers\nimport pkg as p\n\n"
        "x = _vjp_layers.Dense, p.helper, _vjp_layers.Dense.f",
    ),
    "plain": (
        "import pkg\n\nx = pkg.Convolution(3)",
        "import pkg.layers_vjp as _vjp_layers\nimport pkg  # noqa: F401\n\nx = _vjp_layers.Conv(3)",
    ),
    "a module": (
        "import pkg\n\nx = pkg.stacks.Block, pkg.upper",
        "import pkg.blocks_vjp as _vjp_blocks\nimport top_vjp as _vjp_top\n"
        "import pkg  # noqa: F401\n\n"
        "x = _vjp_blocks.Block, _vjp_top",
    ),
    "relative": (
        "from . import sub\n\nx = sub.Norm()",
        "from .sub import norms_vjp as _vjp_norms\nfrom . import sub  # noqa: F401\n\n"
        "x = _vjp_norms.Norm()",
    ),
    "from": (
        "from pkg import Dense, api as a\n\nx = a.Dense",
        "import pkg.layers_vjp as _vjp_layers\nfrom pkg.layers_vjp import Dense\n"
        "from pkg import api as a\n\nx = _vjp_layers.Dense",
    ),
    "dotted": (
        "import pkg.sub\n\nx = pkg.sub.Norm, pkg.Dense",
        "import pkg.layers_vjp as _vjp_layers\nimport pkg.sub.norms_vjp as _vjp_norms\n"
        "import pkg.sub  # noqa: F401\n\nx = _vjp_norms.Norm, _vjp_layers.Dense",
    ),
    "listed": (
        "import pkg as p\n\n__all__ = ['p']\nx = p.Dense",
        "import pkg.layers_vjp as _vjp_layers\nimport pkg as p\n\n"
        "__all__ = ['p']\nx = _vjp_layers.Dense",
    ),
    "handed on": (
        "from pkg import sub as sub\n\nx = sub.Norm",
        "import pkg.sub.norms_vjp as _vjp_norms\nfrom pkg import sub as sub\n\nx = _vjp_norms.Norm",
    ),
    "with a comment": (
        "import pkg as p  # the package\n\nx = p.Dense",
        "import pkg.layers_vjp as _vjp_layers\nimport pkg as p  # the package\n\n"
        "x = _vjp_layers.Dense",
    ),
    "in a function": (
        "import pkg\n\n\ndef g():\n    import os; import pkg as p\n    return p.Dense",
        "import pkg\n\n\ndef g():\n    import os; import pkg.layers_vjp as _vjp_layers; "
        "import pkg as p\n    return _vjp_layers.Dense",
    ),
    "twice": (
        "try:\n    import pkg as p\nexcept ValueError:\n    import pkg as p\nx = p.Dense",
        "try:\n    import pkg.layers_vjp as _vjp_layers\n    import pkg as p  # noqa: F401\n"
        "except ValueError:\n    import pkg.layers_vjp as _vjp_layers\n"
        "    import pkg as p  # noqa: F401\n"
        "x = _vjp_layers.Dense",
    ),
}
LEFT = {
    "nothing used": "import pkg as p\n\nx = p.helper, p.plain",
    "shadowed": "import pkg as p\n\n\ndef g(p):\n    return p.Dense, [p.Dense for p in ()]",
    "bound otherwise": "import pkg as p\n\np = max\nx = p.Dense",
    "may be none": "try:\n    import pkg as p\nexcept ImportError:\n    p = None\nx = p.Dense",
    "assigned": "import pkg as p\n\np.Dense = 3",
    "a submodule": "import pkg\n\nx = pkg.layers.Dense",
    "not imported by its dotted name": "import pkg\n\nx = pkg.sub.Norm",
    "another's": "import other as p\n\nx = p.Dense",
    "an attribute": "import pkg as p\n\nx = y.p.Dense",
    "imported for all": "def g():\n    global p\n    import pkg as p\n\n\nx = p.Dense",
}


@pytest.mark.parametrize(("before", "after"), USES.values(), ids=USES)
def test_uses_by_a_modules_name(before: str, after: str) -> None:
    assert redirected(before) == after
    assert redirected(before, Siblings()) == before


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_uses_that_are_left_as_they_are(text: str) -> None:
    assert redirected(text) == text
