"""How annotated modules are compiled at import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What whoever installs a hook decides.

    Args:
        plain_on_error: whether a module with errors is reported and imported plain; otherwise
            importing it raises `CompileError`.
        config: a configuration file that holds for every module; None for the nearest one.
        base: the folder that the patterns of `config` start from.
        quiet: whether warnings and notes are left unsaid.
        named: the absolute path of a module that the user named outright, so that `exclude` does
            not apply to it.
    """

    plain_on_error: bool = False
    config: str | None = None
    base: str = ""
    quiet: bool = False
    named: str | None = None


ENDS_A_PROJECT = frozenset({"site-packages", "dist-packages"})


def configuration(path: str, settings: Settings) -> tuple[str, bytes]:
    """Return the configuration file that holds for a module, and its bytes; empty for none.

    An installed module belongs to no project, wherever the environment lies.
    """
    from os.path import basename, dirname, isfile, join

    file = settings.config
    folder = dirname(path)
    while file is None and folder != dirname(folder) and basename(folder) not in ENDS_A_PROJECT:
        candidate = join(folder, "pyproject.toml")
        file = candidate if isfile(candidate) else None
        folder = dirname(folder)
    if file is None:
        return "", b""
    try:
        with open(file, "rb") as stream:
            return file, stream.read()
    except OSError:  # reported when the configuration is read for its meaning
        return file, b""
