"""The annotated sources of these tests, compiled in memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from vjpgen.importing.loading import find, hooked, load, rules
from vjpgen.importing.settings import Settings
from vjpgen.inspecting.measure import About, measure
from vjpgen.inspecting.report import Report
from vjpgen.testing.examples import argument_sets
from vjpgen.testing.finding import find_rule
from vjpgen.testing.subjects import bind

NAME = "inspected_sources"
Inspected = Callable[..., Report]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of its own, where no configuration excludes the sources."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text("")
    shutil.copy(Path(__file__).with_name("sources.py"), folder / f"{NAME}.py")
    return folder


@pytest.fixture(scope="session")
def sources(project: Path) -> Iterator[ModuleType]:
    """The sources as a module with rules."""
    source = find(str(project / f"{NAME}.py"))
    with hooked(source, Settings()):
        module = load(source, Settings())
    yield module
    del sys.modules[NAME]


@pytest.fixture(scope="session")
def inspected(project: Path, sources: ModuleType) -> Inspected:
    """Measure a rule of the sources, once."""
    infos = {info.name: info for info in rules(find(str(project / f"{NAME}.py")), Settings())}

    @cache
    def get(name: str, number: int = 0) -> Report:
        found = find_rule(sources, name, infos[name].keys)
        arguments = argument_sets(found.example)[number]
        grad_vars = found.grad_vars
        subject = bind(found.function, arguments, found.rule, grad_vars=grad_vars, abstract=True)
        place = f"{NAME}.py:{infos[name].span.row}"
        return measure(subject, About(name, place, found.called, str(project)))

    return get
