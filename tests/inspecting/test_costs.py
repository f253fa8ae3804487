"""Backends that tell little."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from vjpgen.inspecting.costs import program_of


class Backend:
    """A traced function whose compiled form answers as it is told."""

    def __init__(self, costs: Any, memory: Any, text: Any) -> None:
        self.jaxpr = jax.make_jaxpr(jnp.sin)(1.0)
        self.cost_analysis, self.memory_analysis, self.as_text = costs, memory, text

    def lower(self) -> Backend:
        return self

    def compile(self) -> Backend:
        return self


def unimplemented() -> Any:
    raise NotImplementedError


@pytest.mark.parametrize("answer", [unimplemented, lambda: None])
def test_what_a_backend_does_not_tell_is_not_known(answer):
    program = program_of(Backend(answer, answer, answer))
    assert (program.flops, program.accessed, program.instructions) == (None, None, None)
    assert (program.temporary, program.peak, program.operations) == (None, None, 1)


@pytest.mark.parametrize("wrap", [lambda costs: costs, lambda costs: [costs]])
def test_costs_come_as_a_dict_or_a_list_of_one(wrap):
    program = program_of(Backend(lambda: wrap({"flops": 3.0}), lambda: None, lambda: None))
    assert (program.flops, program.accessed) == (3, 0)


def test_a_negative_figure_is_none():
    program = program_of(Backend(lambda: {"flops": -1.0}, lambda: None, lambda: None))
    assert program.flops is None


def test_the_peak_is_the_backends_or_the_sum_of_the_parts():
    sizes = {
        "argument_size_in_bytes": 1,
        "output_size_in_bytes": 2,
        "temp_size_in_bytes": 4,
        "alias_size_in_bytes": 1,
    }
    told = {**sizes, "peak_memory_in_bytes": 5}
    for given, peak in ((sizes, 6), (told, 5)):
        memory = SimpleNamespace(**given)
        program = program_of(Backend(lambda: None, lambda memory=memory: memory, lambda: None))
        assert (program.peak, program.temporary) == (peak, 4)
