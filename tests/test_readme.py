"""What the README shows is what happens."""

from __future__ import annotations

import inspect
import re
import tomllib

import click
import jax
import jax.numpy as jnp
from click.testing import CliRunner

from tests.benchmarks.__main__ import options_parser
from tests.readme import README, VERIFIED, inspected, source, verified, written
from vjpgen.cli import group
from vjpgen.compiler.keys import KEY_TEXTS, table
from vjpgen.compiler.values import KEYS
from vjpgen.config import load_config
from vjpgen.verifying.plugin import pytest_addoption

TEXT = README.read_text()


def test_the_generated_example_is_what_vjpgen_writes():
    assert written(TEXT) == TEXT, "run: python -m tests.readme"


def test_the_first_example_works_as_shown(tmp_path, monkeypatch):
    (tmp_path / "readme_model.py").write_text(source(TEXT))
    assert CliRunner().invoke(group, ["build", str(tmp_path)]).exit_code == 0
    monkeypatch.syspath_prepend(str(tmp_path))
    from readme_model_vjp import SignDense  # pyright: ignore[reportMissingImports]

    module, x = SignDense(3), jnp.ones((2, 4))
    variables = module.init(jax.random.key(0), x)
    gradient = jax.grad(lambda v: module.apply(v, x).sum())(variables)
    assert all((jnp.abs(leaf) == 1).all() for leaf in jax.tree.leaves(gradient))


def test_what_inspect_is_shown_to_say_is_what_it_says():
    # what XLA counts differs from version to version
    figures = re.compile(r"(?<=[^\w,.])[\d,.]+(?= bytes|%| +[\d,]|\n)")

    def stable(text: str) -> str:
        kept, costs = text.split("OPERATIONS", 1)
        end = costs.index("```")
        return kept + re.sub(" +", " ", figures.sub("0", costs[:end])) + costs[end:]

    assert stable(inspected(TEXT)) == stable(TEXT), "run: python -m tests.readme"


def test_what_verify_is_shown_to_say_is_what_it_says():
    def stable(text: str) -> str:
        found = VERIFIED.search(text)
        assert found is not None
        return re.sub(" +", " ", re.sub(r"-?\d+[.,e][\d.,e-]*", "0", found[3]))

    assert stable(verified(TEXT)) == stable(TEXT), "run: python -m tests.readme"


def test_the_configuration_is_read(tmp_path):
    found = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    tomllib.loads(found[1])
    path = tmp_path / "pyproject.toml"
    path.write_text(found[1])
    assert load_config(path).suffix == "_vjp"


def test_every_command_of_the_table_exists():
    for command in re.findall(r"^vjpgen (\w+) ", TEXT, re.MULTILINE):
        assert CliRunner().invoke(group, [command, "--help"]).exit_code == 0


def test_every_option_is_described_and_there_are_no_others():
    context = click.Context(group)
    commands = [group.get_command(context, name) for name in group.list_commands(context)]
    given = {
        name
        for each in (group, *commands)
        if each
        for param in each.params
        if isinstance(param, click.Option)
        for name in param.opts
    }
    assert not {name for name in given - {"--version"} if name not in TEXT}
    benchmarks = {name for each in options_parser()._actions for name in each.option_strings}
    plugin = set(re.findall(r'"(--vjpgen[a-z-]*)"', inspect.getsource(pytest_addoption)))
    assert not {name for name in plugin if name not in TEXT}
    others = {"--lr", "--lf", "--collect-only", "--seeds", "--write"}
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert shown <= given | benchmarks | plugin | others


def test_the_table_of_keys_is_what_editors_show():
    assert table() in TEXT
    assert {key for text in KEY_TEXTS for key in text.keys} == set(KEYS)
