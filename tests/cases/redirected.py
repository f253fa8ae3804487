from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cases.linen_method as methods
import cases.plain_function
from cases import linen_nested, positions
from cases.linen_setup import Head

from . import docstring_only, ends_together, no_imports, only_functions, plain_nested
from . import static_method as static
from .function_of_module import *
from .function_of_module import (
    apply,
)
from .function_of_module import pair as two

if TYPE_CHECKING:
    from .linen_method import SignDense


# custom-vjp: bwd=cases.plain_function.last_bwd
def use(x, model: SignDense | None = None):
    import cases.plain_function as local
    from cases.linen_nested import AlignedDense, Clipped

    def shadow(cases):
        return cases.plain_function

    y = cases.plain_function.clip(x, 0, 1) + local.triple(x)
    return y, AlignedDense, Clipped, os, shadow, methods, linen_nested, positions, Head


print(docstring_only, ends_together, no_imports, only_functions, plain_nested)
print(static, apply, two)
