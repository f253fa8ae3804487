"""Which code is trusted to be pure, so that it need not be read, and which is known not to be."""

from __future__ import annotations

import sys
from typing import Any


def words(*lines: str) -> frozenset[str]:
    """Return the words of some lines."""
    return frozenset(word for line in lines for word in line.split())


# Packages whose functions give the same for the same arguments, whatever Python state there is
# besides the configuration and the contexts of JAX and Flax, which whoever makes a key adds. What
# they are given, and what their closures hold, is compared as any value is.
_TRUSTED = words(
    # JAX and what is built on it in the same spirit
    "jax jaxlib flax numpy optax chex einops jaxtyping ml_dtypes ml_collections vjpgen",
    # of scipy the functions of numbers alone: `scipy.stats` and others draw random numbers
    "scipy.special scipy.linalg scipy.constants",
    # of the standard library what computes, and what classes and functions are made with
    "typing typing_extensions types dataclasses functools operator math cmath itertools",
    "collections abc enum numbers string re copy contextlib fractions bisect heapq textwrap",
    "struct hashlib zlib binascii base64 json keyword reprlib __future__",
    "_collections_abc _operator _functools _collections _abc _struct _bisect _heapq",
)
# What of them isn't: state that anyone may have changed, and files.
_UNTRUSTED_PARTS = words("numpy.random numpy.lib.npyio")
_FILES = "load save savez savez_compressed savetxt loadtxt genfromtxt fromfile memmap"
_OPTIONS = "get_printoptions set_printoptions printoptions geterr seterr errstate"
IMPURE_MEMBERS = {
    # whoever makes a key adds what the configuration says, but code may change it here
    "jax": words("config"),
    "flax": words("config"),
    "numpy": words("random lib datetime64", _FILES, _OPTIONS),
    "jax.numpy": words(_FILES, _OPTIONS),
}
# Run functions of Python after the trace, which may then change the very objects they were given.
CALLBACKS = words("callback pure_callback io_callback debug_callback breakpoint")
# Built-in functions that have an effect, or tell what no key holds.
IMPURE_BUILTINS = words(
    "print input open globals locals vars dir exec eval compile id breakpoint exit quit help",
    "copyright credits license __import__",
)
# Functions that read or set attributes which they are told the names of, or all of them.
NAMING = words(
    "builtins.getattr builtins.hasattr builtins.setattr builtins.delattr builtins.repr",
    "operator.attrgetter operator.methodcaller",
    "dataclasses.asdict dataclasses.astuple dataclasses.fields dataclasses.replace",
)
# Attributes that lead from a value to state which a walk over values doesn't see.
BACK_DOORS = words(
    "__globals__ __builtins__ __subclasses__ __annotations__ f_globals f_locals f_back tb_frame",
    "gi_frame cr_frame __code__ __closure__ cell_contents __doc__ __type_params__ __annotate__",
    "__dataclass_params__ _abc_impl",
)
# Names that code uses which asks whether an array is traced, or for what a traced one has not.
TELLS_TRACED = words(
    "Tracer is_concrete suppress device devices committed sharding addressable_shards",
    "addressable_data global_shards is_fully_addressable is_fully_replicated is_deleted is_ready",
)

_trusted_names: dict[str, bool] = {}


def is_trusted(module: Any) -> bool:
    """Tell whether a module of this name is trusted."""
    if not isinstance(module, str):
        return False
    found = _trusted_names.get(module)
    if found is None:
        parts = module.split(".")
        prefixes = {".".join(parts[: n + 1]) for n in range(len(parts))}
        found = bool(prefixes & _TRUSTED) and not prefixes & _UNTRUSTED_PARTS
        if module in sys.modules:  # names are made up without end; modules aren't
            _trusted_names[module] = found
    return found


def is_trusted_namespace(namespace: dict[str, Any]) -> bool:
    """Tell whether these are the globals of a trusted module, not of one that says so."""
    name = namespace.get("__name__", "")
    return is_trusted(name) and getattr(sys.modules.get(name), "__dict__", None) is namespace


def is_impure_module(name: str) -> bool:
    """Tell whether a module that isn't trusted is out of the question: the standard library's."""
    return name.partition(".")[0] in sys.stdlib_module_names


def exported(value: Any) -> str | None:
    """Return the full name by which a trusted module or `builtins` holds this very object.

    What a name says alone is not enough: `functools.wraps` and classes that are made in a
    package's functions carry names of places where they aren't.
    """
    module = getattr(value, "__module__", None)
    if not isinstance(module, str) or (module != "builtins" and not is_trusted(module)):
        return None
    path = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    found: Any = sys.modules.get(module)
    if not isinstance(path, str):
        return None
    for part in path.split("."):
        if found is None:
            return None
        found = getattr(found, "__dict__", {}).get(part)
    return f"{module}.{path}" if found is value else None
