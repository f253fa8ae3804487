"""Rules as tests: what `pytest --vjpgen` collects and runs.

Where pytest is given no paths, these are the rules of the paths in `[tool.vjpgen]`; where it is,
those below them. A rule's id is its file and function: `src/model.py::Net.__call__`. The user's
modules are not imported by pytest's process.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from vjpgen.building.gather import UsageError
from vjpgen.building.paths import is_inside
from vjpgen.building.scope import open_scope
from vjpgen.config import ConfigError
from vjpgen.diagnostics import Diagnostic, render_text
from vjpgen.verifying.render_text import details
from vjpgen.verifying.requests import Manner
from vjpgen.verifying.targets import Target, Targets, find_targets
from vjpgen.verifying.verifier import StartError, Verifier, without_example_fails

_STATUS = "vjpgen"


class Rules:
    """The plugin: collects the rules, and keeps the process that verifies them.

    Args:
        config: pytest's own.
    """

    def __init__(self, config: pytest.Config) -> None:
        given: Any = config.option
        self._requires: bool = given.vjpgen_require_examples
        self.manner = Manner(given.vjpgen_seed, given.vjpgen_directions, given.vjpgen_time_limit)
        self._verifier = Verifier(self.manner)
        self._added: Sequence[str] = ()
        try:
            self._paths = self._settle_paths(config)
        except (ConfigError, UsageError) as error:
            raise pytest.UsageError(str(error)) from None

    def _settle_paths(self, config: pytest.Config) -> tuple[str, ...]:
        """Return where to look for rules; have pytest go there, too."""
        if config.args_source is config.ArgsSource.ARGS:
            given = (argument.partition("::")[0] for argument in config.args)
            return tuple(each for each in given if _holds_rules(each))
        paths = open_scope((), None).paths
        there = [os.path.abspath(argument) for argument in config.args]
        self._added = [
            path
            for path in map(os.path.abspath, paths)
            if not any(is_inside(path, each) for each in there)
        ]
        config.args += self._added
        return paths

    @cached_property
    def _found(self) -> Targets:
        try:
            return find_targets(self._paths) if self._paths else Targets()
        except (ConfigError, UsageError) as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def _files(self) -> dict[str, list[Target]]:
        """The rules of each file; those of files with errors are not to be run."""
        files: dict[str, list[Target]] = {}
        for each in self._found.diagnostics:
            if each.is_error:
                files[os.path.realpath(each.filename)] = []
        for target in self._found.rules:
            files.setdefault(os.path.realpath(target.path), []).append(target)
        return files

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Have pytest take nothing but rules from the paths that it is sent to for their sake."""
        if not self._added or collection_path.is_dir():
            return None
        path = str(collection_path)
        is_added = any(is_inside(path, each) for each in self._added)
        return True if is_added and os.path.realpath(path) not in self._files else None

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
        """Collect the rules of a file; its tests, too, only if it is called like a test file.

        They hang on the session itself: pytest would import the `__init__.py` of a package around.
        """
        found = yield
        if file_path.suffix != ".py" or os.path.realpath(file_path) not in self._files:
            return found
        if not any(file_path.match(each) for each in parent.config.getini("python_files")):
            found = [each for each in found if not isinstance(each, pytest.Module)]
        return [*found, RuleFile.from_parent(parent.session, path=file_path, rules=self)]

    def targets(self, path: Path) -> Iterator[Target]:
        """Yield the rules of a file.

        Raises:
            CollectError: the file has errors.
        """
        targets = self._files[os.path.realpath(path)]
        found = [each for each in self._found.diagnostics if _is_about(each, path)]
        if any(each.is_error for each in found):
            raise pytest.Collector.CollectError(render_text.render(found, _read).rstrip())
        yield from targets

    def run(self, item: RuleItem) -> None:
        """Verify a rule.

        Raises:
            RuleError: it fails.
        """
        try:
            outcome = self._verifier.verify(item.target)
        except StartError as error:
            pytest.fail(str(error), pytrace=False)
        report = without_example_fails(outcome.report) if self._requires else outcome.report
        item.user_properties.append((_STATUS, report.status))
        if outcome.printed:
            item.add_report_section("call", "output", outcome.printed)
        if report.status == "unverified":
            pytest.skip(" ".join(each.message for each in report.findings))
        if report.status != "verified":
            raise RuleError(details(report, self.manner))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Name the rules that were not verified."""
        skipped = terminalreporter.stats.get("skipped", ())
        names = [each.nodeid for each in skipped if (_STATUS, "unverified") in _properties(each)]
        if names:
            terminalreporter.section("rules that were not verified", yellow=True)
            for name in names:
                terminalreporter.line(name)
            terminalreporter.line(
                "Write `example=` in the annotations of those without an example; "
                "--vjpgen-require-examples fails them."
            )

    def pytest_unconfigure(self) -> None:
        """End the process that verifies."""
        self._verifier.close()


class RuleError(Exception):
    """A rule fails; the text holds the findings."""


class RuleFile(pytest.File):
    """A file with annotated functions."""

    def __init__(self, *, rules: Rules, **options: Any) -> None:
        super().__init__(**options)
        self.rules = rules

    def collect(self) -> Iterable[RuleItem]:
        """Yield its rules."""
        for target in self.rules.targets(self.path):
            yield RuleItem.from_parent(self, name=target.info.name, target=target)


class RuleItem(pytest.Item):
    """One rule."""

    def __init__(self, *, target: Target, **options: Any) -> None:
        super().__init__(**options)
        self.target = target
        self.add_marker("vjpgen")

    def runtest(self) -> None:
        """Verify the rule."""
        assert isinstance(self.parent, RuleFile)
        self.parent.rules.run(self)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what is shown of a failure: the findings."""
        if isinstance(excinfo.value, RuleError):
            return str(excinfo.value).rstrip()
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the annotation stands."""
        return self.path, self.target.info.span.row - 1, self.name


def _holds_rules(path: str) -> bool:
    return os.path.isdir(path) or (path.endswith(".py") and os.path.isfile(path))


def _is_about(found: Diagnostic, path: Path) -> bool:
    return os.path.realpath(found.filename) == os.path.realpath(path)


def _properties(report: Any) -> Iterable[tuple[str, object]]:
    return (tuple(each) for each in getattr(report, "user_properties", ()))


def _read(name: str) -> bytes | None:
    try:
        return Path(name).read_bytes()
    except OSError:
        return None
