"""Read-only copies of bound modules, to be handed to a backward rule."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax

from vjpgen.runtime.closures import Captures
from vjpgen.runtime.leaves import Operands, Packed, pack, sealed_constants, unpack
from vjpgen.runtime.modules import ModuleSet, bound_scope


@dataclasses.dataclass(frozen=True, eq=False)
class _Taken:
    modules: ModuleSet
    tree: Packed
    captures: Captures


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """A pytree of a module's variables that remembers the module.

    Return it as a residual; `module()` in the backward rule gives the module as it was.
    """

    arrays: tuple[Any, ...]
    taken: _Taken

    @staticmethod
    def take(tree: Any) -> Snapshot:
        """Take a snapshot of a module or a pytree of modules."""
        operands = Operands()
        modules = ModuleSet(operands)
        packed = pack(tree, operands, "", modules.bind)
        captures = Captures(operands, modules)
        captures.scan_constants([packed])
        sealed = captures.seal()
        if sealed is not None:
            packed = sealed_constants(packed, sealed)
            modules.seal(sealed)
        modules.split()
        modules.release()
        return Snapshot(tuple(operands.arrays), _Taken(modules, packed, captures))

    def module(self, flags: Mapping[str, Any] | None = None) -> Any:
        """Return the module, bound to the variables of the snapshot, without rngs.

        Args:
            flags: flags for its scopes; vjpgen's own use.
        """
        taken = self.taken
        revive = functools.partial(taken.captures.rebuild, arrays=self.arrays)
        built = taken.modules.build(self.arrays, flags or {}, writable=False, revive=revive)
        return unpack(taken.tree, self.arrays, built.modules.__getitem__)

    def tree_flatten(self) -> Any:
        return self.arrays, self.taken

    @classmethod
    def tree_unflatten(cls, taken: Any, children: Any) -> Snapshot:
        return cls(tuple(children), taken)


def snapshot(module: Any) -> Snapshot:
    """Take a read-only snapshot of a bound Linen module, for use in a backward rule.

    The scope of a module is not available in the backward pass (see
    https://flax.readthedocs.io/en/latest/api_reference/flax.linen/transformations.html#flax.linen.custom_vjp);
    a snapshot returned as a residual is.

    Args:
        module: a bound module, or a pytree of bound modules.

    Returns:
        A pytree of the module's arrays; its method `module()` gives the module back, bound to
        them, read-only and without rngs.

    Raises:
        ValueError: the module is not bound to variables.
    """
    if not any(bound_scope(leaf) is not None for leaf in jax.tree_util.tree_leaves(module)):
        raise ValueError(
            "vjpgen.snapshot needs a bound module: call it in a method, or in a forward rule"
        )
    return Snapshot.take(module)
