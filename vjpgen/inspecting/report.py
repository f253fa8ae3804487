"""What is found out about a rule: plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

Kind = Literal["computed", "argument", "constant"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Origin:
    """The user's expression that a value comes from.

    Args:
        expression: its source text, on one line.
        filename: the file as the user would write it.
        row: the line, from 1.
    """

    expression: str
    filename: str
    row: int

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.filename}:{self.row}"


@dataclass(frozen=True)
class Tensor:
    """One array that is kept from the forward to the backward pass.

    Args:
        dtype: its dtype's name.
        shape: its shape.
        size: its bytes.
        kind: "argument" for what the function was given, a variable too; "constant" for what
            depends on no argument; both are there anyway. "computed" for the rest.
        name: the argument's name; "" for other kinds.
        is_output: whether it is an output of the function, too.
        operation: the operation that computed it; "" for an argument.
        origin: the user's expression that computed it, if it is known.
    """

    dtype: str
    shape: tuple[int, ...]
    size: int
    kind: Kind
    name: str = ""
    is_output: bool = False
    operation: str = ""
    origin: Origin | None = None

    @property
    def type(self) -> str:
        """Dtype and shape, as `float32[8,3]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Residual:
    """Residuals of one type that one expression has computed.

    Args:
        tensor: one of them.
        count: how many there are.
    """

    tensor: Tensor
    count: int

    @property
    def size(self) -> int:
        """The bytes of all."""
        return self.tensor.size * self.count


def grouped(tensors: Sequence[Tensor]) -> list[Residual]:
    """Put together what looks alike: a deep model keeps the same once a layer."""
    alike: Counter[Tensor] = Counter()
    for tensor in tensors:
        alike[tensor if tensor.origin is None else replace(tensor, operation="")] += 1
    found = [Residual(tensor, count) for tensor, count in alike.items()]
    return sorted(found, key=lambda each: (KINDS.index(each.tensor.kind), -each.size))


@dataclass(frozen=True)
class Program:
    """One compiled program; None stands for what the backend does not tell.

    Args:
        operations: the operations that JAX traced, those of inner functions among them.
        instructions: the instructions of the optimized HLO.
        flops: floating point operations.
        accessed: bytes read and written.
        temporary: bytes that it needs besides arguments and outputs.
        peak: the most bytes that it needs at once, arguments and outputs among them.
        jaxpr: what JAX traced, as text.
    """

    operations: int
    instructions: int | None
    flops: float | None
    accessed: float | None
    temporary: int | None
    peak: int | None
    jaxpr: str


@dataclass(frozen=True)
class Moment:
    """Memory at one operation of the step.

    Args:
        size: the bytes alive, arguments and constants apart.
        operation: the operation.
        origin: the user's expression that it comes from, if it is known.
    """

    size: int
    operation: str
    origin: Origin | None


@dataclass(frozen=True)
class Memory:
    """Memory over the forward pass and then the backward pass, one moment an operation."""

    forward: tuple[Moment, ...]
    backward: tuple[Moment, ...]

    @property
    def peak(self) -> int:
        """The most bytes alive at any moment."""
        return max((moment.size for moment in (*self.forward, *self.backward)), default=0)


@dataclass(frozen=True)
class Side:
    """A function with its rule, or without.

    Args:
        residuals: what is kept for the backward pass, the largest first.
        programs: "primal", "forward", "backward" and "step", which is both.
        memory: memory over the step.
    """

    residuals: tuple[Tensor, ...]
    programs: dict[str, Program]
    memory: Memory

    @property
    def kept(self) -> int:
        """Bytes of the residuals that were computed."""
        return sum(tensor.size for tensor in self.residuals if tensor.kind == "computed")


@dataclass(frozen=True)
class Given:
    """One array that the function was called on.

    Args:
        name: an argument's or variable's name.
        type: dtype and shape.
        differentiated: whether gradients were taken with respect to it.
    """

    name: str
    type: str
    differentiated: bool


@dataclass(frozen=True)
class Report:
    """A rule beside plain autodiff.

    Args:
        name: the rule's function.
        place: file and line of its annotation.
        called: the function that the example is for, where the rule is that of one nested in it.
        given: the arrays of the example.
        rule: the function with the rules of its source.
        autodiff: the same without any.
        backend: what the programs were compiled for.
    """

    name: str
    place: str
    called: str
    given: tuple[Given, ...]
    rule: Side
    autodiff: Side
    backend: str

    @property
    def ratio(self) -> float | None:
        """The rule's bytes of residuals over autodiff's; None where autodiff keeps none."""
        return self.rule.kept / self.autodiff.kept if self.autodiff.kept else None
