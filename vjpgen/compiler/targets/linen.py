"""Methods of Flax Linen modules, and functions whose first argument is one.

A method keeps the wrapper that Flax puts around it: the lifted primal still binds scopes,
reserves names and captures intermediates as the plain method does.
"""

from vjpgen.compiler.targets.interface import Target, refuse_nothing

LINEN = Target(name="linen", template="lifted.py", module_first=True, refuse=refuse_nothing)
