"""What generated modules call: interface 1 of the runtime."""

from vjpgen.runtime.lifting import lift

__all__ = ["lift"]
