"""Annotated modules, compiled in memory when they are imported.

    vjpgen.install_import_hook("pkg")
    import pkg.model                      its annotated functions have their rules

The finder wraps the loader of a module that the ordinary finders have found; the loader compiles
the source, gives every instruction the place in the source that it comes from, and keeps the
bytecode beside Python's own, so that a later import needs neither libcst nor the compiler.
"""

from vjpgen.importing.errors import CompileError, PlainImportWarning
from vjpgen.importing.hook import ImportHook, install_import_hook

__all__ = ["CompileError", "ImportHook", "PlainImportWarning", "install_import_hook"]
