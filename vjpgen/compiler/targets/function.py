"""Plain functions: module level, nested, static methods; their arguments are arrays or anything.

A module among the arguments is found by the runtime, so that a function on modules that nothing
in the source tells apart is lifted as well as any other.
"""

from vjpgen.compiler.targets.interface import Target, refuse_nothing

FUNCTION = Target(name="function", template="lifted.py", module_first=False, refuse=refuse_nothing)
