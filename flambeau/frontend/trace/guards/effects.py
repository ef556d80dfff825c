"""What a trace changed in the user's objects, and which of it every call can do again.

A tensor that the function puts into an attribute, a global, a closure variable, a list or a dict is put there after every
call: a further result. What was there before comes in as a further argument, a `Slot`, where code may look at it.
"""
from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterator, Set
from typing import Any, Literal

from flambeau.errors import CaptureError
from flambeau.frontend.epoch import epoch
from flambeau.frontend.pytree import entries_of, flatten
from flambeau.frontend.scalars import Scalar, is_runtime_number
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.attributes import Instance, TensorFacts
from flambeau.frontend.trace.guards.contents import WHOLE, Items, Length
from flambeau.frontend.trace.guards.heap import Heap, Path
from flambeau.frontend.trace.guards.names import Cell, Namespace
from flambeau.frontend.trace.guards.node import Node
from flambeau.frontend.trace.guards.reads import unwatched_names
from flambeau.frontend.trace.guards.values import BY_VALUE, MISSING, is_same, is_value, spelled
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

_OF_NODE = (".__class__", ".__bases__", ".default_factory")         # changes that are no part's


@dataclass(frozen=True, eq=False, slots=True)
class Slot:
    """A part of the user's state that calls bind anew, and that comes in as an argument. key: of its node in the heap;
    told: what changed, for messages."""

    key: Any
    node: Node
    part: Any
    told: str

    @property
    def place(self) -> tuple[Any, Any]:
        return self.key, self.part

    @property
    def name(self) -> str:
        return place(self.node.path, self.node.label_of(self.part))

    def get(self) -> Any:
        """What is there now, or MISSING."""
        return self.node.get(self.part)

    def put(self, value: Any) -> None:
        """Put something there."""
        self.node.put(self.part, value)
        if self.node.stable:
            epoch.bump()


@dataclass(frozen=True, eq=False, slots=True)
class Effect:
    """A part of an object that became another. then: MISSING where there was none. how: the new one is "put" there, or
    items are only "appended" or "filled" in, whatever else there is; is_read: code may look at what was there."""

    key: Any
    node: Node
    part: Any
    then: Any
    now: Any
    how: Literal["put", "appended", "filled"]
    is_read: bool

    @property
    def place(self) -> tuple[Any, Any]:
        return self.key, self.part

    @property
    def told(self) -> str:
        then, now = self.then, self.now
        if self.part is WHOLE:
            then, now = Length(len(then)), Length(len(now))
        return difference(self.node, self.node.label_of(self.part), then, now)

    @property
    def value(self) -> Any:
        """What calls put there: the items that are new, where that is all."""
        if self.how == "appended":
            return self.now[len(self.then):]
        if self.how == "filled":
            return {key: value for key, value in self.now.items() if self.then.get(key, MISSING) is not value}
        return self.now

    def slots(self) -> Iterator[Slot]:
        """The parts that must come in as arguments: they held tensors, or numbers, that later calls find replaced."""
        if not self.is_read or self.how != "put":
            return
        parts = [(self.part, self.then)]
        if self.part is WHOLE:
            then, now = ([*c.values()] if isinstance(c, dict) else list(c) for c in (self.then, self.now))
            parts = [(n, value) for n, value in enumerate(then) if n >= len(now) or now[n] is not value]
        for part, value in parts:
            if any(isinstance(leaf, Tensor) or is_runtime_number(leaf) for leaf in flatten(value)[0]):
                yield Slot(self.key, self.node.bare(), part, self.told)


@dataclass(frozen=True, eq=False, slots=True)
class Handed:
    """What a call leaves in an object: its further result number `n` as `effect` says."""

    node: Node
    part: Any
    how: Literal["put", "appended", "filled"]

    def leave(self, value: Any, given: Any) -> None:
        """Do it. given: the arguments"""
        match self.how:
            case "put":
                self.node.put(self.part, value)
            case "appended":
                self.node.object.extend(value)
            case "filled":
                self.node.object.update(value)
        if self.node.stable:
            epoch.bump()

    def check(self, given: Any, is_known: Callable[[Any], bool]) -> None:
        """What the code gets to by name is guarded."""

    def __str__(self) -> str:
        return f"{place(self.node.path, self.node.label_of(self.part))} is {self.how}"


def effects_of(heap: Heap, when: str) -> list[Effect]:
    """What differs from what the heap remembers. Raises CaptureError for what calls can't do again."""
    found: list[Effect] = []
    for node, step, then, now in heap.changes():
        if isinstance(node, TensorFacts) and step == ".requires_grad":
            continue                        # repeated after every call
        parts = [] if step in _OF_NODE else [p for p in node.changed() if not heap.are_equal([p[1:]])]
        if not parts or not all(_is_repeatable(heap, part, a, b) for part, a, b in parts):
            raise refusal(difference(node, step, then, now), when)
        key = next(key for key, known in heap.nodes.items() if known is node)
        found += [_additions(heap, key, node)] if _only_adds(heap, node) else \
            [Effect(key, node, part, a, b, "put", True) for part, a, b in parts]
    changed = {id(effect.node.object) for effect in found}
    if changed:
        found += _replaced(heap, changed, {effect.place for effect in found}, when)
    return [effect if id(effect.then) in changed or not _is_only_stored(heap, effect)
            else dataclasses.replace(effect, is_read=False) for effect in found]


def _replaced(heap: Heap, changed: Set[int], known: Set[tuple[Any, Any]], when: str) -> Iterator[Effect]:
    """The effects on parts whose place an equal container took: what was there may be somewhere else now, or hold
    something else."""
    for key, node in heap.nodes.items():
        if (key, WHOLE) not in known and node.differing() is not None:
            for part, then, now in node.changed():
                if (key, part) not in known and part is not WHOLE and is_same(then, now) is None:
                    if _can_be_given(heap, now):
                        yield Effect(key, node, part, then, now, "put", True)
                    elif id(then) in changed:
                        raise refusal(difference(node, node.label_of(part), then, now), when)


def moved_tensors(heap: Heap) -> tuple[Slot, ...]:
    """The parts where another tensor of the same type, but for sizes, lies now, neither of which requires grad: calls may
    find a third."""
    found = []
    for node, _, _, _ in heap.changes():
        for part, then, now in node.changed():
            if type(then) is type(now) and isinstance(now, Tensor) and _is_alike(then._type, now._type) \
                    and not then._requires_grad and not now._requires_grad and part is not WHOLE:
                key = next(key for key, known in heap.nodes.items() if known is node)
                found.append(Slot(key, node.bare(), part, difference(node, node.label_of(part), then, now)))
    return tuple(found)


def _is_alike(then: TensorType, now: TensorType) -> bool:
    return (then.rank, then.dtype, then.device) == (now.rank, now.dtype, now.device)


def refusal(told: str, when: str) -> CaptureError:
    """The error for a change that calls can't do again."""
    return CaptureError(f"{told} while {when}: a compiled function can't repeat such a side effect",
                        hint="move it out of the compiled function, or keep the number in a tensor and change it in place")


def made_entries(heap: Heap) -> Callable[[Any], Any]:
    """How `flatten` goes through containers that the trace made: those that were there stay what they are."""
    def entries(tree: Any) -> Any:
        is_kept = (isinstance(tree, (list, dict)) or dataclasses.is_dataclass(tree)) and heap.has_met(tree)
        return None if is_kept else entries_of(tree)
    return entries


def _is_repeatable(heap: Heap, part: Any, then: Any, now: Any) -> bool:
    """Tensors, and what is fixed, can be put there again; a container grows by tensors, not by numbers alone."""
    if not _can_be_given(heap, now):
        return False
    if part is not WHOLE:
        return True
    olds, news = ({id(leaf): leaf for leaf in flatten(contents)[0]} for contents in (then, now))
    return any(isinstance(leaf, Tensor) for key, leaf in (olds | news).items() if not (key in olds and key in news))


def _can_be_given(heap: Heap, value: Any) -> bool:
    """Calls can make this of tensors, numbers, and what is fixed."""
    return all(isinstance(leaf, (Tensor, Scalar, type, types.ModuleType)) or is_value(leaf) or leaf is MISSING
               or heap.has_met(leaf) for leaf in flatten(value, entries=made_entries(heap))[0])


def _only_adds(heap: Heap, node: Node) -> bool:
    """All that code does with a list is to append to it, or with a dict to set items of it, which are all there is: so
    that what was there before need not be compared."""
    scope = heap.scope
    if isinstance(node, Items) and type(node.object) is list:
        items = node.items or []
        return len(node.object) > len(items) and all(a is b for a, b in zip(items, node.object, strict=False)) and \
            not _may_be_looked_at(heap, node.object, scope.read | scope.filled)
    if isinstance(node, Items) and type(node.object) is dict:
        then = dict(zip(node.keys or (), node.items or (), strict=True))
        return all(node.object.get(key, value) is not value for key, value in then.items()) and \
            not _may_be_looked_at(heap, node.object, scope.read | scope.appended)
    return False


def _additions(heap: Heap, key: Any, node: Node) -> Effect:
    """The effect on a container that code only adds to."""
    assert isinstance(node, Items) and node.items is not None
    if node.keys is None:
        return Effect(key, node, WHOLE, list(node.items), list(node.object), "appended", False)
    return Effect(key, node, WHOLE, dict(zip(node.keys, node.items, strict=True)), dict(node.object), "filled", False)


def _may_be_looked_at(heap: Heap, value: Any, names: Set[str]) -> bool:
    """False where every way to an object is by a name, and none of them is one of these."""
    ways = [_name_of(heap, node, part) for node, part in heap.holders(value)]
    return not ways or any(name is None or name in names for name in ways)


def _is_only_stored(heap: Heap, effect: Effect) -> bool:
    """No code looks at what was there before."""
    name = _name_of(heap, effect.node, effect.part)
    return name is not None and not isinstance(effect.node, Cell) and name not in heap.scope.read


def _name_of(heap: Heap, node: Node, part: Any) -> str | None:
    """The only name by which code gets to a part; None where there are other ways."""
    scope = heap.scope
    if isinstance(node, Cell):
        found = re.fullmatch(r"closure variable '(\w+)'", node.path[0])
        return None if found is None or node.path[1] else found[1]
    if isinstance(node, Instance):
        return None if node.of_all or not isinstance(part, str) or part in unwatched_names(node.kind) else part
    if isinstance(node, Namespace):
        return None if id(node.object) in scope.opened else part
    return None


def place(path: Path, step: str) -> str:
    """global 'config' at .model.width"""
    root, way = path[0] or step, spelled((path[1], step)) if path[0] else ""
    return f"{root} at {way}" if way else root


def difference(node: Node, step: str, then: Any, now: Any) -> str:
    """In words: what changed."""
    root, way = (node.path[0], spelled((node.path[1], step))) if node.path[0] else (step, "")
    at = f" at {way}" if way else ""
    if isinstance(then, Length):
        return f"{root} changed{at} in length from {then.value} to {now.value}"
    if type(then) in BY_VALUE and type(now) in BY_VALUE:
        return f"{root} changed{at} from {then!r} to {now!r}"
    if then is MISSING and now is not MISSING:
        return f"{root} changed{at}, which was not there"
    return f"{root} changed{at}"
