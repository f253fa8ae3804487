"""From the source of an annotated module to its code, as `vjpgen build` would compile it."""

from __future__ import annotations

import ast
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType

from vjpgen.building.projects import Packages, Project
from vjpgen.building.settling import settled
from vjpgen.compiler import Options, Result, RuleInfo, compile_source, is_generated
from vjpgen.compiler.source import decode, split_lines
from vjpgen.config import Config, ConfigError, load_config
from vjpgen.diagnostics import Diagnostic, render_text
from vjpgen.importing.errors import CompileError
from vjpgen.importing.places import Places, move_code, move_tree
from vjpgen.importing.settings import Settings, configuration

Generated = tuple[bytes, tuple[int, ...]]
"""A generated module, and the source's row for each of its rows."""


@dataclass(frozen=True)
class _File:
    """A source on its way to its code."""

    path: str
    data: bytes
    project: Project

    @property
    def shown(self) -> str:
        """Its path as the user would write it."""
        inside = self.path.startswith(os.path.join(os.getcwd(), ""))
        return os.path.relpath(self.path) if inside else self.path


def generate(
    path: str, data: bytes, config_file: str, settings: Settings, *, named: bool = False
) -> tuple[Generated | None, bool]:
    """Compile an annotated source.

    Args:
        path: its absolute path.
        data: its bytes.
        config_file: the configuration that holds for it, "" for none.
        settings: what to do with errors.
        named: whether the user named this file outright, so that `exclude` does not apply.

    Returns:
        The generated module, None where the source is to be used as it is; and whether that
        holds until something changes, so that it can be kept.

    Raises:
        CompileError: where there are errors, unless the module is to be imported plain then.
    """
    if is_generated(data):
        return None, True
    try:
        file = _File(path, data, _project(path, config_file, settings))
        if not named and file.project.excludes(path):
            return None, True
    except ConfigError as error:
        _fail(f"{error}\n", path, (), settings)
        return None, False
    result = _compile(file)
    found = tuple(settled(result, data, path, file.shown, file.project))
    if any(item.is_error for item in found):
        if any(item.code == "VJP008" for item in found):
            compile(data, path, "exec", dont_inherit=True)  # Python reports its own errors best
        _fail(_text(file, found), path, found, settings)
        return None, False
    if found and not settings.quiet:
        tell(_text(file, found))
    return (None if result.output is None else (result.output, result.rows)), True


def rules_of(path: str, data: bytes, settings: Settings) -> tuple[RuleInfo, ...]:
    """Return the annotated functions of a source.

    Args:
        path: its absolute path.
        data: its bytes.
        settings: which configuration holds.

    Raises:
        CompileError: the source or the configuration has errors.
    """
    config_file, _ = configuration(path, settings)
    try:
        file = _File(path, data, _project(path, config_file, settings))
    except ConfigError as error:
        raise CompileError(str(error), path) from None
    result = _compile(file)
    found = tuple(settled(result, data, path, file.shown, file.project))
    if any(item.is_error for item in found):
        raise CompileError(_text(file, found).rstrip("\n"), path, found)
    return result.rules


def to_code(path: str, data: bytes, generated: Generated) -> CodeType:
    """Return the code of a generated module, each instruction at its place in the source."""
    ast.parse(data, path)  # warns of what Python's parser warns of, where it stands
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(generated[0], path)
    where = places(data, generated)
    move_tree(tree, where)
    try:
        return compile(tree, path, "exec", dont_inherit=True)
    except RecursionError:  # Python takes deeper text than trees
        return move_code(compile(generated[0], path, "exec", dont_inherit=True), where)


def places(data: bytes, generated: Generated) -> Places:
    """Return where the rows of a generated module lie in its source."""
    return Places(generated[1], [line.encode() for line in split_lines(decode(data, "").text)])


def tell(text: str) -> None:
    """Say something on standard error, if there is one."""
    if sys.stderr is not None:
        sys.stderr.write(text)


def _project(path: str, config_file: str, settings: Settings) -> Project:
    config = load_config(config_file) if config_file else Config()
    root = os.path.dirname(config_file or path)
    return Project(root, settings.base if settings.config else root, config)


def _compile(file: _File) -> Result:
    config = file.project.config
    options = Options(Packages().origin(file.path), config.suffix, config.missing)
    return compile_source(file.data, file.shown, options=options)


def _fail(text: str, path: str, found: Sequence[Diagnostic], settings: Settings) -> None:
    if not settings.plain_on_error:
        raise CompileError(text.rstrip("\n"), path, tuple(found))
    tell(f"{text}vjpgen: {path} is imported plain, without its rules.\n")


def _text(file: _File, found: Sequence[Diagnostic]) -> str:
    return render_text.render(found, lambda _: file.data)
