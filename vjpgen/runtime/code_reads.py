"""What a function's code reads from outside itself.

Read off the bytecode, once a code object: the global names that it and the functions inside it
load, with the attributes behind a name in case that is a module; the modules it imports; the
attributes it names.
"""

from __future__ import annotations

import dataclasses
import dis
import types
from collections.abc import Iterator, Set

from vjpgen.runtime.recent import Recent
from vjpgen.runtime.trust import BACK_DOORS, CALLBACKS, TELLS_TRACED, words

# Ways to name an attribute at run time.
NAMES_ATTRIBUTE = words("getattr hasattr setattr delattr")
_DYNAMIC = words("__getattribute__ __getattr__ __setattr__ __delattr__ __dict__")


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
        function: the qualified name of the function.
        names: each global name with the attributes that are read right behind it, in each way
            that occurs.
        imports: the import statements.
        mentions: the attributes that are loaded or deleted; "*" where any may be.
        stores: the attributes that are set, likewise.
        impure: what makes the code unfit for any key, in words; "" for nothing.
        tells_traced: whether the code may tell an array that is traced from one that has values:
            it compares by `is`, catches exceptions, or asks for what a traced array has not.
    """

    function: str
    names: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    imports: tuple[Import, ...]
    mentions: frozenset[str]
    stores: frozenset[str]
    impure: str
    tells_traced: bool = False


# Code that may name any attribute.
ANY_NAME = Reads("", (), (), frozenset({"*"}), frozenset({"*"}), "")

_reads: Recent[Reads] = Recent(8192)


def reads_of(code: types.CodeType) -> Reads:
    """Return what a code object reads."""
    return _reads.get(code) or _reads.put(code, _read(code))


class _Reader:
    """Gathers what a code object and those inside it read."""

    def __init__(self) -> None:
        self.names: dict[str, dict[tuple[str, ...], None]] = {}
        self.imports: list[Import] = []
        self.mentions: set[str] = set()
        self.stores: set[str] = set()
        self.tells_traced = False

    @property
    def named(self) -> Set[str]:
        """All names that the code loads, global ones and attributes."""
        return self.mentions | self.names.keys()

    def read(self, code: types.CodeType) -> None:
        """Take in one code object."""
        steps = [step for step in dis.get_instructions(code) if step.opname not in _SILENT]
        self.tells_traced |= any(_compares_or_catches(steps, n) for n in range(len(steps)))
        for place, step in enumerate(steps):
            name = step.argval
            if step.opname in _LOADS_GLOBAL:
                chain = tuple(_attributes(steps, place + 1))
                self.names.setdefault(name, {})[chain] = None
                if name in NAMES_ATTRIBUTE:
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


def _compares_or_catches(steps: list[dis.Instruction], place: int) -> bool:
    """Tell whether a step compares by `is`, but to a constant, or catches exceptions."""
    name = steps[place].opname
    if name == "IS_OP":
        return steps[place - 1].opname != "LOAD_CONST"
    if name == "PUSH_EXC_INFO":  # what `finally` and `with` do, too; then follows something else
        return steps[place + 1].opname == "POP_TOP"
    return name in ("CHECK_EXC_MATCH", "CHECK_EG_MATCH")


_SILENT = {"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PRECALL", "PUSH_NULL", "NOT_TAKEN"}
_LOADS_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_STORES_GLOBAL = {"STORE_GLOBAL", "DELETE_GLOBAL"}
_LOADS_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "DELETE_ATTR"}
# The functions that `dataclasses` writes for a class; they read every field.
_WRITTEN = words(
    "__init__ __eq__ __hash__ __repr__ __lt__ __le__ __gt__ __ge__ __setattr__ __delattr__"
)


def _read(code: types.CodeType) -> Reads:
    reader = _Reader()
    reader.read(code)
    doors = sorted((reader.mentions | reader.stores) & (BACK_DOORS | CALLBACKS))
    by_name = {"*"} if reader.mentions & _DYNAMIC else set()
    is_written = code.co_filename == "<string>" and code.co_name in _WRITTEN
    return Reads(
        code.co_qualname,
        tuple((name, tuple(chains)) for name, chains in reader.names.items()),
        tuple(reader.imports),
        frozenset() if is_written else frozenset(reader.mentions | by_name),
        frozenset() if is_written else frozenset(reader.stores | by_name),
        f"{code.co_qualname} reads {doors[0]}" if doors else "",
        not is_written and (reader.tells_traced or bool(reader.named & TELLS_TRACED)),
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
