"""What a piece of code may read by name: globals, attributes, modules it imports. Found in its bytecode, once."""
from __future__ import annotations

import dis
import functools
import os
import re
import site
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from flambeau.ir.location import is_internal
from flambeau.ir.records import dataclass

_GLOBAL_OPS = frozenset(["LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"])
_LOCAL_OPS = frozenset(["STORE_NAME", "DELETE_NAME"])          # of class bodies
_BY_NAME = frozenset(["getattr", "hasattr", "setattr", "delattr", "attrgetter", "methodcaller", "getattr_static",
                      "__getattribute__", "__setattr__", "__delattr__"])
_OF_ALL = frozenset(["vars", "__dict__", "asdict", "astuple", "deepcopy", "copy", "replace", "dir", "getmembers",
                     "__getstate__", "__slots__", "fields", "dumps"])
_OF_ALL_DEEP = frozenset(["deepcopy", "asdict", "astuple", "dumps"])
_OF_GLOBALS = frozenset(["globals", "eval", "exec"])
_OF_MODULES = frozenset(["modules", "import_module", "__import__"])
_SECOND = frozenset(["getattr", "hasattr", "setattr", "delattr", "getattr_static"])       # the argument that is a name
_OF_NAMES = frozenset(["attrgetter"])
_SILENT = frozenset(["CACHE", "EXTENDED_ARG", "NOP"])
_STORES = frozenset(["STORE_ATTR", "STORE_GLOBAL", "STORE_NAME", "STORE_DEREF"])
_OF_CELLS = frozenset(["LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF", "STORE_DEREF", "DELETE_DEREF"])
_APPENDING = frozenset(["append", "extend"])
_SHUFFLING = frozenset(["COPY", "SWAP"])
_CALL = "PRECALL" if "PRECALL" in dis.opmap else "CALL"        # 3.11 has both
_JUMPS = frozenset([*dis.hasjrel, *dis.hasjabs])


@dataclass(frozen=True, slots=True)
class Reads:
    """The names in one code object. looked_at: attributes other than those that it only calls (`x.step()`). read: names
    whose values it looks at, other than to append to them (appended) or to set an item of them (filled). modules:
    those that it imports or looks up in `sys.modules`. is_open: it also reads attributes whose names it does not hold
    (`vars(x)`, `getattr(x, name)`), so that any attribute of what it has at hand may be read; is_deep: and of what that
    holds (`deepcopy(x)`)."""

    globals: tuple[str, ...]
    attributes: frozenset[str]
    looked_at: frozenset[str]
    read: frozenset[str]
    appended: frozenset[str]
    filled: frozenset[str]
    modules: tuple[str, ...]
    is_open: bool
    is_deep: bool


T = TypeVar("T")


def _once(find: Callable[[types.CodeType], T]) -> Callable[[types.CodeType], T]:
    """`find`, asked once for each code object; equal ones, which compare slowly, are others."""
    found_of: dict[int, tuple[types.CodeType, T]] = {}

    @functools.wraps(find)
    def known(code: types.CodeType) -> T:
        found = found_of.get(id(code))
        if found is None:
            if len(found_of) > 50_000:
                found_of.clear()
            found = found_of[id(code)] = code, find(code)
        return found[1]

    return known


@_once
def reads_of(code: types.CodeType) -> Reads:
    """The names that `code` itself reads or writes by; functions defined in it have their own."""
    read_globals: dict[str, None] = {}
    looked_at: set[str] = set()
    called: set[str] = set()
    uses: dict[str, set[str]] = {"read": set(), "appended": set(), "filled": set(), "stored": set()}
    modules: dict[str, None] = {}
    instructions = list(dis.get_instructions(code))
    is_open = False
    for at, instruction in enumerate(instructions):
        if instruction.opname == "MATCH_CLASS":         # `case Point(x=0)`; positions mean what the class says
            looked_at.update(instructions[at - 1].argval)
            uses["read"].update(instructions[at - 1].argval)
            is_open = is_open or bool(instruction.arg)
        if instruction.opcode in _NAMED or instruction.opname in _OF_CELLS:
            uses[_use(instructions, at)].add(instruction.argval)
        if instruction.opcode not in _NAMED:
            continue
        name = instruction.argval
        if instruction.opname in _GLOBAL_OPS:
            read_globals[name] = None
        elif instruction.opname == "IMPORT_NAME":
            modules[name] = None
        elif instruction.opname not in _LOCAL_OPS:
            (called if _is_call(instruction) else looked_at).add(name)
        if name in _OF_ALL:
            is_open = True
        elif name in _BY_NAME:
            names = _constant_names(name, instructions[at + 1:])
            looked_at.update(names or ())
            uses["read"].update(names or ())
            is_open = is_open or names is None
    if not _OF_GLOBALS.isdisjoint(read_globals):            # `globals()["factor"]`, `eval("factor * 2")`
        read_globals.update(dict.fromkeys(_words_in(code)))
    if "format" in called:                                  # "{0.width}".format(x)
        words = [name for text in _strings_in(code) for name in re.findall(r"\.(\w+)", text)]
        looked_at.update(words)
        uses["read"].update(words)
    attributes = looked_at | called
    if not _OF_MODULES.isdisjoint((*attributes, *read_globals)):
        modules.update(dict.fromkeys(_strings_in(code)))
    used = attributes.union(read_globals)
    return Reads(tuple(read_globals), frozenset(attributes), frozenset(looked_at), frozenset(uses["read"]),
                 frozenset(uses["appended"]), frozenset(uses["filled"]), tuple(modules), is_open,
                 not _OF_ALL_DEEP.isdisjoint(used))


# What names an attribute, and how many bits of its argument say something else.
_ATTRIBUTE_OPS = {dis.opmap[name]: bits for name, bits in (
    ("LOAD_ATTR", int(sys.version_info >= (3, 12))), ("LOAD_METHOD", 0), ("LOAD_SUPER_ATTR", 2), ("STORE_ATTR", 0),
    ("DELETE_ATTR", 0), ("IMPORT_FROM", 0)) if name in dis.opmap}
_EXTENDED_ARG, _MATCH_CLASS = dis.opmap["EXTENDED_ARG"], dis.opmap["MATCH_CLASS"]
_MORE_NAMES = _BY_NAME | {"format"}


@_once
def attributes_of(code: types.CodeType) -> frozenset[str]:
    """`reads_of(code).attributes`, in a fraction of the time: classes of the framework have hundreds of methods."""
    ops, arguments, names = code.co_code[::2], code.co_code[1::2], code.co_names
    if not _MORE_NAMES.isdisjoint(names) or _MATCH_CLASS in ops:
        return reads_of(code).attributes
    found = set[str]()
    for op, bits in _ATTRIBUTE_OPS.items():
        at = ops.find(op)
        while at >= 0:
            argument, before = arguments[at], at - 1
            while before >= 0 and ops[before] == _EXTENDED_ARG:
                argument |= arguments[before] << 8 * (at - before)
                before -= 1
            found.add(names[argument >> bits])
            at = ops.find(op, at + 1)
    return frozenset(found)


def _is_call(instruction: dis.Instruction) -> bool:
    """True where an attribute is loaded to be called at once."""
    return instruction.opname == "LOAD_METHOD" or \
        instruction.opname in ("LOAD_ATTR", "LOAD_SUPER_ATTR") and sys.version_info >= (3, 12) and \
        bool((instruction.arg or 0) & 1)


def _use(instructions: list[dis.Instruction], at: int) -> str:
    """What code does with what it loads by a name: "read", unless that is only "stored", or what is loaded is only
    "appended" to (`x.append(y)`) or "filled" (`x[key] = y`)."""
    if instructions[at].opname in _STORES:
        return "stored"
    rest = (i for i in instructions[at + 1:] if i.opname not in _SILENT)
    depth = 1                               # of the stack, from where the value lies
    for n, instruction in enumerate(rest):
        if n == 0 and _is_call(instruction) and instruction.argval in _APPENDING:
            return "appended"
        if instruction.opname == "STORE_SUBSCR":
            return "filled" if depth == 2 else "read"
        if instruction.opcode in _JUMPS or instruction.opname in _SHUFFLING:
            return "read"
        depth += dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
        if depth < 2:                       # it took the value
            return "read"
    return "read"


def _strings_in(code: types.CodeType) -> list[str]:
    return [text for text in code.co_consts if isinstance(text, str)]


def _words_in(code: types.CodeType) -> list[str]:
    return [word for text in _strings_in(code) for word in re.findall(r"[^\W\d]\w*", text)]


_NAMED = frozenset(dis.hasname)


def _constant_names(function: str, rest: list[dis.Instruction]) -> list[str] | None:
    """The attribute names that a call of getattr or its like is given, whose arguments come next; None where one is
    computed, or where it is not called here."""
    arguments = _arguments(rest)
    if arguments is None:
        return None
    named = arguments if function in _OF_NAMES else arguments[1:2] if function in _SECOND else arguments[:2]
    names = [code[0].argval for code in named
             if len(code) == 1 and code[0].opname == "LOAD_CONST" and isinstance(code[0].argval, str)]
    is_whole = len(names) == len(named) if function in _OF_NAMES | _SECOND else bool(names)
    return [part for name in names for part in name.split(".")] if is_whole and names else None


def _arguments(rest: list[dis.Instruction]) -> list[list[dis.Instruction]] | None:
    """The code of each positional argument of the call that a function was loaded for; None if there is no such call."""
    ends: list[int] = []                # of each argument as far as it goes: where the stack was last that high
    depth = 0
    for at, instruction in enumerate(rest):
        if instruction.opname == _CALL and instruction.arg == depth:
            starts = [0, *ends[:-1]]
            return [[i for i in rest[start:end] if i.opname not in _SILENT]
                    for start, end in zip(starts, ends, strict=True)]
        if instruction.opcode in _JUMPS:
            return None
        depth += dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
        if depth < 0:
            return None
        ends = ends[:depth] + [at + 1] * (depth - len(ends[:depth]))
        if depth:
            ends[depth - 1] = at + 1
    return None


_unwatched_names: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


def unwatched_names(kind: type) -> frozenset[str]:
    """Names that methods of `kind` read which are not watched as they run: those of the framework and of installed
    packages."""
    known = _unwatched_names.get(kind)
    if known is None:
        known = _unwatched_names[kind] = _unwatched_names_now(kind)
    return known


def _unwatched_names_now(kind: type) -> frozenset[str]:
    bases = [base for base in kind.__mro__ if base is not object and not is_user_class(base)]
    codes = {id(code): code for base in bases for value in vars(base).values() for code in _codes_in(value)}
    return frozenset().union(*map(attributes_of, codes.values())) - _NEVER_READ


_NEVER_READ = frozenset(["_non_persistent_buffers_set"])        # when modules are called


def _codes_in(value: Any) -> Iterator[types.CodeType]:
    """The code of a function, method or property, and of the functions defined in it."""
    functions = (value.fget, value.fset) if isinstance(value, property) else (getattr(value, "__func__", value),)
    stack = [f.__code__ for f in functions if isinstance(f, types.FunctionType)]
    while stack:
        code = stack.pop()
        yield code
        stack += [c for c in code.co_consts if isinstance(c, types.CodeType)]


# -- whose code it is ---------------------------------------------------------------------------------------------------


def _folder(path: str) -> str:
    return os.path.join(os.path.realpath(path), "")


_STDLIB = (_folder(os.path.dirname(os.__file__)),)
_INSTALLED = tuple({_folder(path) for path in (*site.getsitepackages(), site.getusersitepackages(),
                                               os.path.dirname(np.__file__))})       # as with pip install --target
_is_user_file: dict[str, bool] = {}


def is_user_file(filename: str) -> bool:
    """True for code outside the framework, the standard library and installed packages. Code without a file (typed
    in, or made by exec) is the user's."""
    known = _is_user_file.get(filename)
    if known is None:
        path = os.path.realpath(filename) if os.path.isabs(filename) else filename
        known = _is_user_file[filename] = not (
            is_internal(filename) or filename.startswith("<frozen") or path.startswith(_STDLIB + _INSTALLED))
    return known


def is_user_code(code: types.CodeType, namespace: dict[str, Any]) -> bool:
    """True for code of the user's; code that was made by exec (a dataclass's __init__) belongs to its module."""
    filename = code.co_filename
    return is_user_file(filename) and (filename[:1] != "<" or is_user_module(namespace.get("__name__")))


def is_user_module(name: Any) -> bool:
    """True for modules outside the framework, the standard library and installed packages."""
    if name is None or name == "__main__":
        return True
    known = _is_user_module.get(name)
    if known is None:
        known = _is_user_module_now(name)
        if name in sys.modules:             # another may be loaded under this name later
            _is_user_module[name] = known
    return known


_is_user_module: dict[Any, bool] = {}


def _is_user_module_now(name: str) -> bool:
    module = sys.modules.get(name)
    filename = getattr(module, "__file__", None)
    if filename is None:
        return name.partition(".")[0] not in sys.stdlib_module_names
    return is_user_file(filename)


def is_user_class(kind: type) -> bool:
    """True for classes whose methods are watched as they run."""
    return bool(kind.__flags__ & _HEAP_TYPE) and is_user_module(getattr(kind, "__module__", None))


_HEAP_TYPE = 1 << 9             # Py_TPFLAGS_HEAPTYPE: made by a class statement or type()
