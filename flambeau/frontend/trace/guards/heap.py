"""The Python state that a trace depends on: everything its code can get to by the names that it uses.

`Scope` gathers what code ran and which names it holds; `Heap` walks from the roots (globals and closure variables
that the code names, the function, its arguments) to whatever can be reached through attributes under those names, and
through the contents of containers, to any depth. Each object met becomes a Node (state.py).
"""
from __future__ import annotations

import array
import contextvars
import functools
import gc
import io
import operator
import pickle
import sys
import threading
import types
import weakref
from collections import ChainMap, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Iterable, Iterator, Set
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import numpy as np

from flambeau.frontend.epoch import Noticed
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.attributes import (
    Class,
    ComplexFacts,
    Instance,
    NoticedAttributes,
    StableInstance,
    TensorFacts,
)
from flambeau.frontend.trace.guards.contents import LARGEST_ARRAY, Bits, Items, StableItems
from flambeau.frontend.trace.guards.markers import Attributed, CompiledMarker, Stated
from flambeau.frontend.trace.guards.names import Cell, Function, Namespace, Variable, was_loaded
from flambeau.frontend.trace.guards.node import WRAPPERS, Node, Parts, Plain
from flambeau.frontend.trace.guards.rare import RareTypes
from flambeau.frontend.trace.guards.reads import Reads, is_user_class, is_user_code, is_user_module, reads_of
from flambeau.frontend.trace.guards.values import MISSING, Way, is_same, is_value

_OPAQUE = (io.IOBase, threading.Thread, threading.Event, threading.Condition, threading.Semaphore, type(threading.Lock()),
           type(threading.RLock()), np.ufunc)
_RARELY_OPAQUE = RareTypes("logging:Filterer", "logging:Manager", "concurrent.futures._base:Executor",
                           "concurrent.futures._base:Future")
_GENERATORS = RareTypes("random:Random", "numpy.random:Generator", "numpy.random:RandomState")
_SHARED_GENERATORS = (("random", "random"), ("numpy.random", "rand"))       # modules, and a method of the one that each has
_DATA_LIKE = (UserDict, UserList, UserString, ChainMap, types.SimpleNamespace, WeakKeyDictionary, WeakValueDictionary,
              WeakSet)
_BUILTIN_METHODS = (types.BuiltinFunctionType, types.MethodWrapperType)
Path = tuple[str, Way]                  # (root, way from there), for messages


class Scope:
    """What ran while a function was traced, and the names in it."""

    def __init__(self) -> None:
        self.attributes: set[str] = set()
        self.looked_at: set[str] = set()            # those that are not only called
        self.read: set[str] = set()                 # names whose values are looked at; see Reads
        self.appended: set[str] = set()
        self.filled: set[str] = set()
        self.globals_of: defaultdict[int, dict[str, None]] = defaultdict(dict)      # names, by id of the namespace
        self.modules: set[int] = set()              # namespaces that are read as modules, by id
        self.ran: set[int] = set()                  # codes, by id
        self.defined_here: set[int] = set()         # codes of functions that those define
        self.opened: set[int] = set()               # objects of which any attribute may be read, by id
        self.codes: list[types.CodeType] = []       # keeps them alive

    def add(self, code: types.CodeType) -> tuple[Reads, Set[str]]:
        """Note that `code` runs; what it reads, and the names of attributes that no other code had."""
        self.codes.append(code)
        self.ran.add(id(code))
        stack = [code]
        while stack:
            inner = [c for c in stack.pop().co_consts if isinstance(c, types.CodeType)]
            self.defined_here.update(map(id, inner))
            stack += inner
        reads = reads_of(code)
        fresh = (reads.attributes - self.attributes) | (reads.looked_at - self.looked_at)
        self.attributes |= reads.attributes
        self.looked_at |= reads.looked_at
        self.read |= reads.read
        self.appended |= reads.appended
        self.filled |= reads.filled
        return reads, fresh

    def may_read(self, name: str, value: Any) -> bool:
        """True unless all that code does with this name is to call it, which this is not for: `optimizer.step()` does not
        read the number `trainer.step`."""
        return name in self.looked_at or callable(value)

    def names(self, name: str) -> bool:
        """True when code holds this name, for an attribute or a global."""
        return name in self.attributes or any(name in found for found in self.globals_of.values())

    def names_in(self, namespace: dict[str, Any], names: Set[str]) -> Iterable[str]:
        """The names in a dict of globals, or of a module's, that code may read."""
        yield from self.globals_of.get(id(namespace), ())
        if id(namespace) in self.opened:
            yield from [name for name in namespace if not name.startswith("__")]
        if id(namespace) in self.modules:
            yield from [name for name in names & namespace.keys() if self.may_read(name, namespace[name])]


class Heap:
    """The nodes of everything that code in `scope` can reach from the roots."""

    def __init__(self, scope: Scope, is_tracing: bool = True):
        self.scope = scope
        self.nodes: dict[Any, Node] = {}            # by id of the object; attributes of containers apart
        self.roots: list[tuple[Any, Path]] = []     # objects to start from, kept alive
        self.iterators: list[tuple[Any, Path]] = []
        self.caches: list[tuple[Any, int]] = []     # functions with an lru_cache, and how often they had run
        self._named: list[Node] = []                # those that another name may add to
        self._waiting: defaultdict[int, list[types.FunctionType]] = defaultdict(list)      # by id of their code
        self._passed: dict[int, Any] = {}           # walked through, without a node
        self.released: dict[Any, tuple[Any, frozenset[Any] | None]] = {}    # (object, parts not to compare; None: all)
        self._generators: list[tuple[Any, bytes]] = []          # of random numbers, and their state when they were met
        self._is_tracing = is_tracing
        self.meet_generators()

    # -- growing ----------------------------------------------------------------------------------------------------

    def add_root(self, value: Any, path: Path) -> None:
        """Guard what can be reached from this object."""
        self.roots.append((value, path))
        self._walk([(value, path)])

    def add_globals(self, namespace: dict[str, Any], names: Iterable[str]) -> None:
        """Guard what these names mean in a namespace."""
        known = self.scope.globals_of[id(namespace)]
        fresh = [name for name in names if name not in known]
        if not fresh:
            return
        known.update(dict.fromkeys(fresh))
        node = self.nodes.get(id(namespace))
        if node is None:
            self._add_namespace(namespace, ("module", "") if namespace is sys.modules else ("", ""))
        else:
            self._extend([node], frozenset())

    def widen(self, fresh: Set[str]) -> None:
        """Guard the attributes of these names, of all objects met so far."""
        if fresh:
            self._extend(self._named, fresh)

    def start(self, code: types.CodeType) -> None:
        """Guard what functions with this code close over: it is about to run."""
        for function in self._waiting.pop(id(code), ()):
            self._walk(_cells_of(function))
            self._extend([self.nodes[id(function), "function"]], frozenset())

    def knows_function(self, code: types.CodeType) -> bool:
        return id(code) in self._waiting

    def tensors(self) -> set[int]:
        """Those met, by id."""
        return {id(node.object) for node in self.nodes.values() if isinstance(node, TensorFacts)}

    def has_met(self, value: Any) -> bool:
        return id(value) in self.nodes or id(value) in self._passed

    def open_from(self, values: Iterable[Any], names: Set[str] | None) -> None:
        """Open these objects, and what can be reached from them by `names` (None: by any) and through containers."""
        waiting, done = list(values), set[int]()
        while waiting:
            value = waiting.pop()
            if is_value(value) or id(value) in done or isinstance(value, types.ModuleType) and is_frameworks(value):
                continue
            done.add(id(value))
            self.open(value)
            if isinstance(value, types.ModuleType):
                value = value.__dict__
            for key in (id(value), (id(value), "attributes"), id(type(value))):
                node = self.nodes.get(key)
                if isinstance(node, Parts):
                    waiting += [part for name, part in node.held.items() if names is None or name in names or not name]
                elif isinstance(node, Items):
                    waiting += node.items or ()
            if id(value) not in self.nodes and type(value) in (list, tuple, dict):      # made while tracing
                waiting += value.values() if isinstance(value, dict) else value

    def open(self, value: Any) -> None:
        """Guard every attribute of an object that was met before, and its class's data."""
        if isinstance(value, types.ModuleType) and id(value.__dict__) not in self.scope.opened:
            node = self.nodes.get(id(value.__dict__))
            if node is not None:
                self.scope.opened.add(id(value.__dict__))
                self._extend([node], frozenset())
        for key in (id(value), (id(value), "attributes"), id(type(value))):
            node = self.nodes.get(key)
            if isinstance(node, (Instance, Class)) and not node.of_all:
                self.scope.opened.add(id(node.object))
                node.of_all = True
                self._extend([node], frozenset())

    # -- walking ----------------------------------------------------------------------------------------------------

    def _extend(self, nodes: Iterable[Node], names: Set[str]) -> None:
        found: list[tuple[Any, Path]] = []
        for node in list(nodes):
            found += _below(node, node.extend(self.scope, names))
        self._walk(found)

    def _walk(self, pending: list[tuple[Any, Path]]) -> None:
        pending.reverse()
        while pending:
            value, path = pending.pop()
            if is_value(value) or id(value) in self.nodes or id(value) in self._passed:
                continue
            pending += self._visit(value, path)

    def _visit(self, value: Any, path: Path) -> list[tuple[Any, Path]]:
        """Make the nodes of one object; what comes next."""
        if isinstance(value, type):
            return self._visit_class(value, path)
        if isinstance(value, types.ModuleType):
            if is_user_module(value.__name__) or is_frameworks(value):
                self._passed[id(value)] = value
                return self._visit_namespace(value.__dict__, path)
            return []
        if isinstance(value, types.FunctionType):
            return self._visit_function(value, path)
        if isinstance(value, _OPAQUE + _RARELY_OPAQUE()) and not is_user_class(type(value)):
            return []
        if isinstance(value, _GENERATORS()):
            self._meet_generator(value)
            return []
        if isinstance(value, functools._lru_cache_wrapper):
            self.caches.append((value, value.cache_info().misses))
        if isinstance(value, (operator.attrgetter, operator.methodcaller)):
            self._read_by(value)
            return []
        if isinstance(value, _BUILTIN_METHODS):
            owner = value.__self__
            return [] if owner is None or isinstance(owner, types.ModuleType) else [(owner, path)]
        if isinstance(value, CompiledMarker):
            self._passed[id(value)] = value
            parts = (getattr(value, name, None) for name in ("function", "__wrapped__", "instance"))
            return [(part, path) for part in parts if part is not None]
        if isinstance(value, Stated):
            found = self._add(value._state_node(path))
        elif isinstance(value, Noticed):
            found = self._add(StableItems(value, path))
        elif isinstance(value, Attributed):
            found = self._add(NoticedAttributes(value, path))
        else:
            found = self._visit_data(value, path)
        return found + ([(type(value), (type(value).__name__, ""))] if _has_python_class(value) else [])

    def _visit_namespace(self, namespace: dict[str, Any], path: Path) -> list[tuple[Any, Path]]:
        """A module's attributes; some may have been met as globals."""
        self.scope.modules.add(id(namespace))
        node = self.nodes.get(id(namespace))
        if node is None:
            return self._add(Namespace(namespace, path), id(namespace))
        return _below(node, node.extend(self.scope, self.scope.attributes))

    def _visit_data(self, value: Any, path: Path) -> list[tuple[Any, Path]]:
        kind = node_of(value)
        found: list[tuple[Any, Path]] = []
        if kind is not None:
            found = self._add(kind(value, path))
            has_fields = (kind is not Plain or isinstance(value, functools.partial)) and hasattr(value, "__dict__")
            if has_fields and isinstance(value.__dict__, dict):
                fields = StableInstance if getattr(type(value), "notices_attributes", False) else Instance
                found += self._add(fields(value, path), (id(value), "attributes"))
            return found
        if not _has_python_class(value) and hasattr(type(value), "__next__"):
            self.iterators.append((value, path))
            return []
        return self._add((Instance if _has_python_class(value) or type(value).__dictoffset__ else Plain)(value, path))

    def _visit_class(self, value: type, path: Path) -> list[tuple[Any, Path]]:
        self._passed[id(value)] = value
        if not is_user_class(value) and not issubclass(value, Attributed):
            return []
        found = self._add(Class(value, (value.__name__, "")), id(value))
        found += [(base, path) for base in value.__mro__[1:]]               # what `super()` finds
        if is_user_class(type(value)):
            found.append((type(value), (type(value).__name__, "")))
        return found

    def _visit_function(self, value: types.FunctionType, path: Path) -> list[tuple[Any, Path]]:
        self._passed[id(value)] = value
        code = value.__code__
        if not is_user_code(code, value.__globals__):
            return [(part, path) for part in steps_through(value)]
        wrapped = getattr(value, "__wrapped__", None)
        found = [(wrapped, path)] if wrapped is not None else []
        found += self._add(Function(value, (value.__name__, "")), (id(value), "function"))
        if id(code) in self.scope.ran:
            return found + _cells_of(value)
        self._waiting[id(code)].append(value)
        return found

    def _read_by(self, getter: operator.attrgetter[Any] | operator.methodcaller) -> None:
        """A getter reads attributes whose names it holds."""
        names = {part for text in getter.__reduce__()[1] if isinstance(text, str) for part in text.split(".")}
        fresh = names - self.scope.looked_at
        self.scope.attributes |= fresh
        self.scope.looked_at |= fresh
        self.scope.read |= names
        self.widen(fresh)

    def _add_namespace(self, namespace: dict[str, Any], path: Path) -> None:
        self._walk(self._add(Namespace(namespace, path), id(namespace)))

    def _add(self, node: Node, key: Any = None) -> list[tuple[Any, Path]]:
        key = id(node.object) if key is None else key
        if key in self.nodes:
            return []
        if key in self.released:
            free = self.released[key][1]
            if free is None:
                return []
            node.free, node.is_pinned = free, True
        self.nodes[key] = node
        if isinstance(node, (Namespace, Function, Class, Instance)) or isinstance(node.object, Stated):
            self._named.append(node)
        if isinstance(node, (Instance, Class)):
            node.of_all = id(node.object) in self.scope.opened or isinstance(node.object, _DATA_LIKE)
        return _below(node, node.extend(self.scope, self.scope.attributes))

    # -- comparing --------------------------------------------------------------------------------------------------

    def changes(self) -> Iterator[tuple[Node, str, Any, Any]]:
        """(node, step, then, now) of what is another object now and not an equal one."""
        for node in list(self.nodes.values()):
            found = node.differing()
            if found is not None and not self._is_equal_node(node):
                yield (node, *found)

    def _is_equal_node(self, node: Node) -> bool:
        pairs = node.pairs(node.object)
        return pairs is not None and self.are_equal(pairs)

    def holds(self, nodes: Iterable[Node]) -> bool:
        """Everything in these is the same, or was replaced by something equal."""
        return all(node.differing() is None or self._is_equal_node(node) for node in nodes)

    def are_equal(self, pairs: list[tuple[Any, Any]]) -> bool:
        """Objects remembered beside objects now; structures are compared by what was remembered of them."""
        done: set[tuple[int, int]] = set()
        while pairs:
            then, now = pairs.pop()
            same = is_same(then, now)
            if same is False:
                return False
            if same is None and (id(then), id(now)) not in done:
                done.add((id(then), id(now)))
                node = self.nodes.get(id(then))
                inner = None if node is None else node.pairs(now)
                if inner is None:
                    return False
                pairs += inner
        return True

    def adopt_modules(self) -> None:
        """Take modules that were loaded meanwhile as if they had been there, also as attributes of their packages."""
        for node in list(self.nodes.values()):
            if not isinstance(node, Namespace):
                continue
            if node.object is sys.modules:
                node.held = {name: node.read(name) for name in node.held}
                self._walk(_below(node, [("", module) for module in node.held.values() if module is not MISSING]))
            elif id(node.object) in self.scope.modules:
                loaded = {name for name in self.scope.attributes & node.object.keys() - node.held.keys()
                          if was_loaded(node.object, name, node.object[name])}
                self._walk(_below(node, node.extend(self.scope, loaded)))

    def meet_generators(self) -> None:
        """Those that Python's and NumPy's modules share, if they are loaded by now."""
        for module, method in _SHARED_GENERATORS if self._is_tracing else ():
            generator = getattr(getattr(sys.modules.get(module), method, None), "__self__", None)
            if generator is not None and id(generator) not in self._passed:
                self._meet_generator(generator)

    def _meet_generator(self, generator: Any) -> None:
        self._passed[id(generator)] = generator
        self._generators.append((generator, pickle.dumps(generator)))

    def was_drawn_from(self) -> bool:
        """True when a generator of Python's or NumPy's has moved on."""
        return any(pickle.dumps(generator) != state for generator, state in self._generators)

    def restore(self) -> None:
        """Put back everything as it was."""
        for node in list(self.nodes.values()):
            node.restore()

    def release(self, key: Any, parts: frozenset[Any] | None) -> None:
        """Compare these parts of a node no more; None: the node."""
        node = self.nodes[key]
        if parts is None:
            del self.nodes[key]
        else:
            node.release(parts)
            parts = node.free
        self.released[key] = node.object, parts

    def forget(self, objects: Iterable[Any]) -> None:
        """Drop the nodes of these objects, which are of this trace."""
        for value in objects:
            for key in (id(value), (id(value), "attributes")):
                self.nodes.pop(key, None)

    def holders(self, value: Any) -> Iterator[tuple[Node, Any]]:
        """Who holds an object: (node, the part it is in; None where that has no name)."""
        for node in self.nodes.values():
            if isinstance(node, Parts):
                yield from [(node, key) for key, held in node.held.items() if held is value]
            elif isinstance(node, Items):
                if any(item is value for item in (*(node.items or ()), *(node.keys or ()))):
                    yield node, None
            elif isinstance(node, Plain) and any(part is value for part in node.parts):
                yield node, None
        yield from [(Plain(root, path), None) for root, path in self.roots if root is value]

    def clear_caches(self) -> None:
        """Caches forget what they got while the function was traced: it may be, or hold, a traced tensor."""
        for function, misses in self.caches:
            if function.cache_info().misses != misses:
                function.cache_clear()

    def again(self) -> Heap:
        """A new walk from the same roots, over what is there now."""
        made = Heap(self.scope, is_tracing=False)
        made.released = self.released
        for key, node in self.nodes.items():
            if type(node) is Namespace and key in self.scope.globals_of:
                made._add_namespace(node.object, node.path)
        for value, path in self.roots:
            made.add_root(value, path)
        return made


def _below(node: Node, steps: Iterable[tuple[str, Any]]) -> list[tuple[Any, Path]]:
    root, way = node.path
    return [(value, (root, (way, step)) if root else (step, "")) for step, value in steps]


def _cells_of(function: types.FunctionType) -> list[tuple[Any, Path]]:
    """What a function closes over."""
    return [(cell, (f"closure variable {name!r}", "")) for name, cell in
            zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)]


def _has_python_class(value: Any) -> bool:
    return bool(type(value).__flags__ & 1 << 9)


def functions_running(frame: types.FrameType) -> list[types.FunctionType]:
    """The functions that a frame may be a call of, found among all objects: their code is the frame's, and their
    closure holds what the frame sees. For functions that were reached in a way that nobody saw."""
    code, visible = frame.f_code, frame.f_locals
    return [f for f in gc.get_referrers(code) if isinstance(f, types.FunctionType) and f.__code__ is code
            and all(_holds(cell, visible.get(name, visible)) for name, cell in
                    zip(code.co_freevars, f.__closure__ or (), strict=False))]


def _holds(cell: types.CellType, value: Any) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:
        return False


def is_frameworks(module: types.ModuleType) -> bool:
    """True for our own modules: code may look up names in them, and never goes through all that they hold."""
    return module.__name__.partition(".")[0] == "flambeau"


def node_of(value: Any) -> type[Node] | None:
    """The kind of node that an object of no special kind gets; None: nothing in it can change or be reached."""
    if isinstance(value, WRAPPERS):
        return Plain
    if isinstance(value, dict):
        return Items
    if isinstance(value, (list, tuple, deque, types.MappingProxyType)):
        return Items
    if isinstance(value, (set, frozenset, bytearray, array.array)):
        return Bits
    if isinstance(value, np.ndarray):
        return Items if value.dtype == object else Bits if value.nbytes <= LARGEST_ARRAY else Plain
    if isinstance(value, Tensor):
        return ComplexFacts if isinstance(value, ComplexTensor) else TensorFacts
    if isinstance(value, types.CellType):
        return Cell
    if isinstance(value, contextvars.ContextVar):
        return Variable
    return None


def steps_through(value: Any) -> Iterator[Any]:
    """What a wrapper function of the framework or of a package closes over."""
    for cell in value.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:
            continue
        if not isinstance(held, weakref.WeakKeyDictionary):     # what it keeps to be faster
            yield held
    wrapped = getattr(value, "__wrapped__", None)
    if wrapped is not None:
        yield wrapped
