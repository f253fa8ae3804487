"""The table `[tool.vjpgen]` of a `pyproject.toml`, as a frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from vjpgen.diagnostics.selection import Selection, is_selector

MISSING_POLICIES = ("error", "zero", "autodiff")


class ConfigError(Exception):
    """The configuration is wrong; the text says where and how."""


@dataclass(frozen=True)
class Config:
    """What a user may set.

    Args:
        paths: what to build where the command line names nothing.
        exclude: patterns, as in a `.gitignore`, of what is passed over besides the usual.
        suffix: what a generated module's name adds to its source's.
        out_dir: the folder under which packages are mirrored; None writes beside the sources.
        missing: the policy for leaves missing from a tangent, for rules that state none.
        selection: which findings are shown.
    """

    paths: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    suffix: str = "_vjp"
    out_dir: str | None = None
    missing: str | None = None
    selection: Selection = field(default_factory=Selection)


def load_config(path: str) -> Config:
    """Read `[tool.vjpgen]` from a file laid out as `pyproject.toml`.

    Raises:
        ConfigError: where the file cannot be read or says something that vjpgen does not know.
    """
    import tomllib

    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return parse_config(_table(document))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _table(document: dict[str, Any]) -> dict[str, Any]:
    tool = document.get("tool", {})
    table = tool.get("vjpgen", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError("`tool.vjpgen` is not a table")
    return table


def parse_config(table: dict[str, Any]) -> Config:
    """Check the table and turn it into a `Config`."""
    unknown = [key for key in table if key not in _READERS]
    if unknown:
        raise ConfigError(f"unknown key `{unknown[0]}`{_suggest(unknown[0], _READERS)}")
    values = {key: _READERS[key](key, value) for key, value in table.items()}
    selection = Selection(
        select=values.get("select"),
        extend_select=values.get("extend-select", ()),
        ignore=values.get("ignore", ()),
        per_file_ignores=values.get("per-file-ignores", ()),
    )
    return Config(
        paths=values.get("paths", ()),
        exclude=values.get("exclude", ()),
        suffix=values.get("suffix", "_vjp"),
        out_dir=values.get("out-dir"),
        missing=values.get("missing"),
        selection=selection,
    )


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"`{key}` wants a string, not {_kind(value)}")
    return value


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"`{key}` wants a list of strings, not {_kind(value)}")
    return tuple(_text(key, item) for item in value)


def _suffix(key: str, value: Any) -> str:
    text = _text(key, value)
    if not text or not f"a{text}".isidentifier():
        raise ConfigError(f"`{key}` wants letters, digits and underscores, not {text!r}")
    return text


def _folder(key: str, value: Any) -> str:
    text = _text(key, value)
    if not text or "\0" in text:
        raise ConfigError(f"`{key}` wants the name of a folder, not {text!r}")
    return text


def _missing(key: str, value: Any) -> str:
    text = _text(key, value)
    if text not in MISSING_POLICIES:
        wanted = ", ".join(f'"{each}"' for each in MISSING_POLICIES)
        hint = _suggest(text, MISSING_POLICIES)
        raise ConfigError(f'`{key}` wants one of {wanted}, not "{text}"{hint}')
    return text


def _selectors(key: str, value: Any) -> tuple[str, ...]:
    from vjpgen.diagnostics.catalogue import CATALOGUE

    codes = _texts(key, value)
    for code in codes:
        if not is_selector(code):
            raise ConfigError(f"`{key}`: no code begins with `{code}`{_suggest(code, CATALOGUE)}")
    return codes


def _per_file(key: str, value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise ConfigError(f"`{key}` wants a table of patterns, not {_kind(value)}")
    return tuple((pattern, _selectors(key, codes)) for pattern, codes in value.items())


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "paths": _texts,
    "exclude": _texts,
    "suffix": _suffix,
    "out-dir": _folder,
    "missing": _missing,
    "select": _selectors,
    "extend-select": _selectors,
    "ignore": _selectors,
    "per-file-ignores": _per_file,
}

_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
_KINDS |= {list: "a list", dict: "a table"}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a date")


def _suggest(text: str, known: Iterable[str]) -> str:
    match = get_close_matches(text, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{match[0]}`?" if match else ""
