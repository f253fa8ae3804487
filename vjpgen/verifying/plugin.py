"""`pytest --vjpgen`: each rule of a project as one test.

pytest loads this module in every run, so it imports nothing; what it registers where the option is
given is in `vjpgen.verifying.collecting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def _seed(text: str) -> int:
    seed = int(text)
    _demand(0 <= seed < 2**32, f"{seed} is not from 0 to {2**32 - 1}")
    return seed


def _directions(text: str) -> int:
    directions = int(text)
    _demand(directions > 0, f"{directions} is not 1 or more")
    return directions


def _seconds(text: str) -> float:
    seconds = float(text)
    _demand(seconds > 0, f"{seconds:g} is not above 0")
    return seconds


def _demand(holds: bool, message: str) -> None:
    """Refuse a value of an option.

    Raises:
        ArgumentTypeError: it is not to be had; pytest tells why.
    """
    if not holds:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(message)


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
        type=_seed,
        default=0,
        metavar="N",
        help="What the keys of examples and all random directions come from (default: 0).",
    )
    group.addoption(
        "--vjpgen-directions",
        type=_directions,
        default=8,
        metavar="N",
        help="How many random directions are compared (default: 8).",
    )
    group.addoption(
        "--vjpgen-time-limit",
        type=_seconds,
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
