"""What else than attributes and items a function changes: containers among the arguments, and the memory of tensors from
outside. Every call changes the caller's in the same way."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flambeau.errors import CaptureError, UnsupportedError
from flambeau.frontend.epoch import epoch
from flambeau.frontend.pytree import entries_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.contents import refill
from flambeau.ir.records import dataclass

Way = tuple[int, ...]           # which entry of a container, which of that, ...


@dataclass(frozen=True, eq=False, slots=True)
class HandedArgument:
    """What a call leaves in a container among its arguments: new contents of the list or dict, or new fields of the
    dataclass, at `way`."""

    way: Way
    name: str

    def leave(self, value: Any, given: Any) -> None:
        """Do it. given: (args, kwargs)"""
        container = _at(given, self.way)
        if isinstance(container, (list, dict)):
            refill(container, value)
        else:
            for field, part in value.items():
                object.__setattr__(container, field, part)

    def check(self, given: Any, is_known: Callable[[Any], bool]) -> None:
        """Raise UnsupportedError for a container that is among the arguments twice, or known to code by name, too: the
        trace saw two."""
        container = _at(given, self.way)
        if sum(other is container for _, other in _containers(given)) > 1 or is_known(container):
            raise UnsupportedError(f"{self.name} is changed, and the function gets to it in another way, too",
                                   hint="pass a copy")

    def __str__(self) -> str:
        return f"{self.name} gets new contents"


@dataclass(frozen=True, eq=False, slots=True)
class HandedMemory:
    """The memory that a call gives to a tensor from outside (`p.data = value`)."""

    tensor: Tensor

    def leave(self, value: Any, given: Any) -> None:
        """Do it."""
        self.tensor._storage, self.tensor._array = value._storage, value._array
        epoch.bump()

    def check(self, given: Any, is_known: Callable[[Any], bool]) -> None:
        """It is new memory."""

    def __str__(self) -> str:
        return f"a captured tensor {self.tensor._type} gets new memory"


def memory_of(t: Tensor) -> Tensor:
    """What lies in a tensor's memory now, as a tensor of its own."""
    return Tensor._make(t._storage, t._type, None, t._base, t._chain)


class Containers:
    """The lists, dicts and dataclasses among the arguments of a trace, as they were."""

    def __init__(self, given: Any):
        self._before = [(way, container, _contents(container)) for way, container in _containers(given)]
        self._known = {id(container) for _, container, _ in self._before}

    def is_one(self, value: Any) -> bool:
        """True for a container that stands for one of the caller's."""
        return id(value) in self._known

    def changes(self, name_of: Callable[[Way], str]) -> list[tuple[HandedArgument, Any]]:
        """What is handed to each that was changed, and the contents. Raises CaptureError where one holds another."""
        found = []
        for way, container, before in self._before:
            now = _contents(container)
            if not _is_same(before, now):
                if any(id(part) in self._known for _, part in _containers(now)):
                    raise CaptureError(f"{name_of(way)} was changed to hold another container of the arguments while it "
                                       "was traced: a compiled function can't repeat such a side effect",
                                       hint="return the new value instead")
                found.append((HandedArgument(way, name_of(way)), now))
        return found


def _containers(tree: Any) -> Iterator[tuple[Way, Any]]:
    """Those that can be changed, with the way to each."""
    pending: list[tuple[Way, Any]] = [((), tree)]
    while pending:
        way, value = pending.pop()
        entries = entries_of(value)
        if entries is not None:
            if not isinstance(value, tuple):
                yield way, value
            pending += [((*way, n), part) for n, part in enumerate(entries[1])]


def _at(tree: Any, way: Sequence[int]) -> Any:
    for n in way:
        entries = entries_of(tree)
        assert entries is not None, "arguments nest as they did"
        tree = entries[1][n]
    return tree


def path_of(tree: Any, way: Way) -> str:
    """Where it leads, in words: `[0][1]['k']`."""
    path = ""
    for n in way:
        entries = entries_of(tree)
        assert entries is not None, "arguments nest as they did"
        path, tree = path + entries[2][n], entries[1][n]
    return path


def _contents(container: Any) -> list[Any] | dict[Any, Any]:
    if isinstance(container, list):
        return list(container)
    keys, values, _ = entries_of(container)         # type: ignore[misc]
    return dict(zip(keys, values, strict=True))


def _is_same(a: Any, b: Any) -> bool:
    pairs = zip(a, b, strict=False) if isinstance(a, list) else zip((*a, *a.values()), (*b, *b.values()), strict=False)
    return len(a) == len(b) and all(x is y for x, y in pairs)
