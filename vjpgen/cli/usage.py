"""What is wrong with the command line, told as click does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from vjpgen.building.gather import UsageError
from vjpgen.config import ConfigError
from vjpgen.diagnostics.text import shown


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a wrong configuration or path into click's usage error, whose exit status is 2."""
    try:
        yield
    except (ConfigError, UsageError) as error:
        raise click.UsageError(shown(str(error))) from error
