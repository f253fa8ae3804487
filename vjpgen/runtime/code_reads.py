"""What a function's code reads from outside itself, and which code is trusted to be pure.

Read off the bytecode, once a code object: the global names that it and the functions inside it
load, with the attributes behind a name in case that is a module; the modules it imports; the
attributes it names. Code of trusted packages isn't read.
"""

from __future__ import annotations

import dataclasses
import dis
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any, Generic, TypeVar


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


# Packages whose functions give the same for the same arguments, whatever Python state there is
# besides the configuration and the contexts of JAX and Flax, which whoever makes a key adds. What
# they are given, and what their closures hold, is compared as any value is.
_TRUSTED = _words(
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
_UNTRUSTED_PARTS = _words("numpy.random numpy.lib.npyio")
_FILES = "load save savez savez_compressed savetxt loadtxt genfromtxt fromfile memmap"
_OPTIONS = "get_printoptions set_printoptions printoptions geterr seterr errstate"
IMPURE_MEMBERS = {
    "numpy": _words("random lib datetime64", _FILES, _OPTIONS),
    "jax.numpy": _words(_FILES, _OPTIONS),
}
# Run functions of Python after the trace, which may then change the very objects they were given.
CALLBACKS = _words("callback pure_callback io_callback debug_callback breakpoint")
# Built-in functions that have an effect, or tell what no key holds.
IMPURE_BUILTINS = _words(
    "print input open globals locals vars dir exec eval compile id breakpoint exit quit help",
    "copyright credits license __import__",
)
# Attributes that lead from a value to state which a walk over values doesn't see.
_BACK_DOORS = _words(
    "__globals__ __builtins__ __subclasses__ __annotations__ f_globals f_locals f_back tb_frame",
    "gi_frame cr_frame __code__ __closure__ cell_contents __doc__ __type_params__ __annotate__",
    "__dataclass_params__ _abc_impl",
)
# Ways to name an attribute at run time.
_BY_NAME = _words("getattr hasattr setattr delattr")
_ANY_NAME = _words(
    "__getattribute__ __getattr__ __setattr__ __delattr__ __dict__ attrgetter methodcaller"
)


class Same:
    """Stands for one object in keys, and keeps it alive: equal to itself alone."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)

    def __repr__(self) -> str:
        return f"Same({self._value!r})"


_T = TypeVar("_T")


class Recent(Generic[_T]):
    """What was computed for some objects, which are held weakly; a bounded number.

    Args:
        limit: how many are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[int, tuple[weakref.ref[Any], _T]] = {}
        self._lock = threading.Lock()

    def get(self, owner: Any) -> _T | None:
        """Return what was put for an object; None where nothing is kept."""
        found = self._values.get(id(owner))
        # an id may have been another object's
        return found[1] if found is not None and found[0]() is owner else None

    def put(self, owner: Any, value: _T) -> _T:
        """Keep a value for an object; the one put longest ago goes where there are too many."""
        with self._lock:
            self._values.pop(id(owner), None)
            while len(self._values) >= self._limit:
                del self._values[next(iter(self._values))]
            self._values[id(owner)] = (weakref.ref(owner), value)
        return value

    def __len__(self) -> int:
        return len(self._values)


@dataclasses.dataclass(frozen=True, eq=False)
class Import:
    """One import statement of a function: `names` is None without a `from`."""

    module: str
    level: int
    names: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Reads:
    """What a code object and those inside it read.

    Args:
        code: the code object.
        token: stands for the code object in keys.
        names: each global name with the attributes that are read right behind it, in each way
            that occurs.
        imports: the import statements.
        mentions: the attributes that are loaded or deleted; "*" where any may be.
        stores: the attributes that are set, likewise.
        impure: what makes the code unfit for any key, in words; "" for nothing.
    """

    code: types.CodeType
    token: Same
    names: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    imports: tuple[Import, ...]
    mentions: frozenset[str]
    stores: frozenset[str]
    impure: str


_reads: Recent[Reads] = Recent(8192)


def reads_of(code: types.CodeType) -> Reads:
    """Return what a code object reads."""
    return _reads.get(code) or _reads.put(code, _read(code))


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


class _Reader:
    """Gathers what a code object and those inside it read."""

    def __init__(self) -> None:
        self.names: dict[str, dict[tuple[str, ...], None]] = {}
        self.imports: list[Import] = []
        self.mentions: set[str] = set()
        self.stores: set[str] = set()

    def read(self, code: types.CodeType) -> None:
        """Take in one code object."""
        steps = [step for step in dis.get_instructions(code) if step.opname not in _SILENT]
        for place, step in enumerate(steps):
            name = step.argval
            if step.opname in _LOADS_GLOBAL:
                chain = tuple(_attributes(steps, place + 1))
                self.names.setdefault(name, {})[chain] = None
                if name in _BY_NAME:
                    target = self.stores if name == "setattr" else self.mentions
                    target.add(_named(steps, place + 1))
            elif step.opname in _STORES_GLOBAL:
                # read, too: whoever compares keys before and after a run sees the change
                self.names.setdefault(name, {})[()] = None
            elif step.opname in _LOADS_ATTRIBUTE:
                self.mentions.add(name)
            elif step.opname == "STORE_ATTR":
                self.stores.add(name)
            elif step.opname == "MATCH_CLASS":  # by position: whatever the class says
                self.mentions.update(steps[place - 1].argval, ["*"] * bool(step.arg))
            elif step.opname == "IMPORT_NAME":
                level, names = steps[place - 2].argval, steps[place - 1].argval
                self.imports.append(Import(name, level, names and tuple(names)))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.read(constant)


_SILENT = {"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PRECALL", "PUSH_NULL", "NOT_TAKEN"}
_LOADS_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_STORES_GLOBAL = {"STORE_GLOBAL", "DELETE_GLOBAL"}
_LOADS_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "DELETE_ATTR"}
# The functions that `dataclasses` writes for a class; they read every field.
_WRITTEN = {"__init__", "__eq__", "__hash__", "__repr__", "__lt__", "__le__", "__gt__", "__ge__"}


def _read(code: types.CodeType) -> Reads:
    reader = _Reader()
    reader.read(code)
    doors = sorted((reader.mentions | reader.stores) & (_BACK_DOORS | CALLBACKS))
    by_name = {"*"} if reader.mentions & _ANY_NAME else set()
    is_written = code.co_filename == "<string>" and code.co_name in _WRITTEN
    return Reads(
        code,
        Same(code),
        tuple((name, tuple(chains)) for name, chains in reader.names.items()),
        tuple(reader.imports),
        frozenset() if is_written else frozenset(reader.mentions | by_name),
        frozenset() if is_written else frozenset(reader.stores | by_name),
        f"{code.co_qualname} reads {doors[0]}" if doors else "",
    )


def _attributes(steps: list[dis.Instruction], place: int) -> Iterator[str]:
    """Yield the attributes that are loaded one after the other from a place on."""
    while place < len(steps) and steps[place].opname in ("LOAD_ATTR", "LOAD_METHOD"):
        yield steps[place].argval
        place += 1


def _named(steps: list[dis.Instruction], place: int) -> str:
    """Return the attribute that a call of `getattr` names as a constant; "*" where none is told.

    Follows the stack through plain loads up to the call.
    """
    stack: list[dis.Instruction] = []
    for step in steps[place:]:
        if step.opname.startswith("CALL"):
            fits = len(stack) >= 2 and step.arg == len(stack)
            name = stack[1].argval if fits and stack[1].opname == "LOAD_CONST" else None
            return name if isinstance(name, str) else "*"
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and stack:
            stack[-1] = step
        elif step.opname.startswith(_PAIRS):
            stack += [step, step]
        elif step.opname.startswith("LOAD_"):
            stack.append(step)
        else:
            break
    return "*"


_PAIRS = ("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST")
