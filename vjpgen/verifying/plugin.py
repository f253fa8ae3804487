"""`pytest --vjpgen`: each rule of a project as one test.

pytest loads this module in every run, so it imports nothing; what it registers where the option is
given is in `vjpgen.verifying.collecting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("vjpgen", "gradient rules, verified by vjpgen")
    group.addoption(
        "--vjpgen",
        action="store_true",
        help="Verify every rule of the paths in [tool.vjpgen], or of those given, as a test each.",
    )
    group.addoption(
        "--vjpgen-require-examples",
        action="store_true",
        help="Fail rules that have no example; else they are skipped.",
    )
    group.addoption(
        "--vjpgen-seed",
        type=int,
        default=0,
        metavar="N",
        help="What the keys of examples and all random directions come from (default: 0).",
    )
    group.addoption(
        "--vjpgen-directions",
        type=int,
        default=8,
        metavar="N",
        help="How many random directions are compared (default: 8).",
    )
    group.addoption(
        "--vjpgen-time-limit",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="How long one rule may take, and the import of its module (default: 120).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and the collector of rules where it is asked for."""
    config.addinivalue_line("markers", "vjpgen: a rule, verified by `pytest --vjpgen`.")
    if config.getoption("--vjpgen"):
        from vjpgen.verifying.collecting import Rules

        config.pluginmanager.register(Rules(config), "vjpgen-rules")
