"""Which sizes of a call's arguments get names, so that one trace serves other sizes too.

Those that a user marked, all of them (`dynamic=True`), or those that differed from an earlier call's (`dynamic=None`).
"""
from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final

from flambeau.errors import UnsupportedError
from flambeau.frontend.tensor.strides import Strides, is_row_major, strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dims import Dim, Size
from flambeau.ir.facts import LARGEST, Facts
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

__all__ = ["NamedSizes", "mark_dynamic", "mark_static", "named_sizes", "varied_dims"]


@dataclass(frozen=True, slots=True)
class _Mark:
    """Of a tensor: the range of each dim whose size varies, and the dims whose size does not."""

    tensor: weakref.ref[Tensor]
    ranges: dict[int, tuple[int, int]]
    fixed: set[int]


_marks: dict[int, _Mark] = {}           # by the id of the tensor, as long as that lives


def mark_dynamic(t: Tensor, index: int | Sequence[int], *, min: int | None = None, max: int | None = None) -> None:
    """The size of dim `index` (or of several) of `t` will vary: a function compiled for `t` serves all sizes from `min`
    (0) to `max`. Compiling raises UnsupportedError where the function depends on that size's number, naming the line.
    Raises IndexError for a dim that `t` has not, and ValueError where its size lies outside of the range."""
    for name, limit in (("min", min), ("max", max)):
        if limit is not None and not hasattr(type(limit), "__index__"):
            raise TypeError(f"mark_dynamic: {name} must be an int, got {limit!r}")
    low, high = 0 if min is None else operator.index(min), LARGEST if max is None else operator.index(max)
    mark = _mark_of(t)
    for dim in _dims(t, index, "mark_dynamic"):
        size = t._type.static_shape[dim]
        if not 0 <= low <= size <= high:
            raise ValueError(f"mark_dynamic: the size {size} of dim {dim} does not lie from {low} to {high}")
        mark.ranges[dim] = low, high
        mark.fixed.discard(dim)


def mark_static(t: Tensor, index: int | Sequence[int] | None = None) -> None:
    """The size of dim `index` (of several, of all) of `t` does not vary: each size is compiled for itself.
    Raises IndexError for a dim that `t` has not."""
    mark = _mark_of(t)
    for dim in _dims(t, range(t.ndim) if index is None else index, "mark_static"):
        mark.ranges.pop(dim, None)
        mark.fixed.add(dim)


def _mark_of(t: Tensor) -> _Mark:
    if not isinstance(t, Tensor):
        raise TypeError(f"mark_dynamic, mark_static: expected a Tensor, got {type(t).__name__}")
    key = id(t)
    found = _marks.get(key)
    if found is None or found.tensor() is not t:
        found = _marks[key] = _Mark(weakref.ref(t, lambda _: _marks.pop(key, None)), {}, set())
    return found


def _dims(t: Tensor, index: Any, name: str) -> list[int]:
    return [t._place(dim, name) for dim in (index if isinstance(index, (list, tuple, set, range)) else (index,))]


@dataclass(frozen=True, eq=False)
class NamedSizes:
    """types: of the tensor leaves with named sizes, by number; strides: of those that do not lie in row-major order.
    places: which dim of which leaf each name is the size of; steps: which it is the stride of, as far as the trace depends
    on that. required: names that the user asked for."""

    facts: Facts
    types: Mapping[int, TensorType]
    strides: Mapping[int, tuple[Size, ...]]
    places: Mapping[str, tuple[int, int]]
    steps: Mapping[str, tuple[int, int]]
    required: frozenset[str]

    def check(self) -> None:
        """Raises UnsupportedError where a size that is to vary turned out to be fixed."""
        for condition in self.facts.conditions:
            for name in self.required:
                if condition.relation == "==" and isinstance(self.facts.settled(Dim(name)), int):
                    number, dim = self.places[name]
                    raise UnsupportedError(f"dim {dim} of argument {number} is marked dynamic, and the function is for one "
                                           f"size of it: {condition}", where=condition.where,
                                           hint="compute with the size instead of asking for its number (range(), int(), "
                                                "an index of Python), or leave the mark out")

    def sizes(self, leaves: Sequence[Any]) -> dict[str, int] | None:
        """What the names are for other leaves; None where ranks or sizes without a name differ."""
        sizes: dict[str, int] = {}
        for number, wanted in self.types.items():
            leaf = leaves[number]
            if not isinstance(leaf, Tensor) or leaf.ndim != wanted.rank:
                return None
            for size, now in zip(wanted.shape, leaf._type.static_shape, strict=True):
                if sizes.setdefault(str(size), now) != now if isinstance(size, Dim) else size != now:
                    return None
        for name, number in self.facts.sizes.items():
            if name not in self.places:         # a stride: whatever it is, unless the trace depends on it
                leaf, dim = self.steps.get(name, (None, 0))
                sizes[name] = number if leaf is None else strides_of(leaves[leaf])[dim]
        return sizes


def named_sizes(leaves: Sequence[Any], dynamic: bool | None, varied: Mapping[int, Set[int]], fixed: Set[int],
                where: Callable[[], str | None]) -> NamedSizes | None:
    """Names for the sizes of a call that vary; None where none does. varied: dims whose sizes differed from those of an
    earlier call, by leaf. fixed: leaves whose sizes do not vary unless they are marked."""
    numbers: dict[str, int] = {}
    ranges: dict[str, tuple[int, int]] = {}
    types: dict[int, TensorType] = {}
    strides: dict[int, tuple[Size, ...]] = {}
    places: dict[str, tuple[int, int]] = {}
    steps: dict[str, tuple[int, int]] = {}
    required: set[str] = set()
    first_of: dict[int, int] = {}
    for number, leaf in enumerate(leaves):
        if not isinstance(leaf, Tensor):
            continue
        first = first_of.setdefault(id(leaf), number)
        if first != number:
            if first in types:
                types[number] = types[first]
            continue
        mark = _marks.get(id(leaf))
        marked = {} if mark is None or dynamic is False else mark.ranges
        chosen = {*marked, *(() if number in fixed else _varying(leaf, dynamic, varied.get(number, frozenset())))}
        chosen -= set() if mark is None else mark.fixed
        if not chosen:
            continue
        shape: list[Size] = list(leaf._type.shape)
        for dim in sorted(chosen):
            name = f"s{len(numbers)}"
            numbers[name], ranges[name] = leaf._type.static_shape[dim], marked.get(dim, (0, LARGEST))
            places[name], shape[dim] = (number, dim), Dim(name)
            if dim in marked:
                required.add(name)
        types[number] = leaf._type.with_shape(tuple(shape))
        found = strides_of(leaf)
        if not is_row_major(leaf._type.static_shape, found):
            strides[number], unknown = _named_strides(leaf._type.static_shape, found, shape, len(numbers))
            for name, dim in unknown.items():
                numbers[name], steps[name] = found[dim], (number, dim)
    if not numbers:
        return None
    return NamedSizes(Facts(numbers, ranges, where=where), types, strides, places, steps, frozenset(required))


def _named_strides(shape: Strides, strides: Strides, named: Sequence[Size], first: int
                   ) -> tuple[tuple[Size, ...], dict[str, int]]:
    """The strides of a tensor that does not lie in row-major order, by its named sizes: those of a tensor whose dims were
    permuted follow from the sizes, and one that steps over more (a part of a larger one does) has a name of its own, from
    s`first` on. With the dims of those."""
    made: list[Size] = list(strides)
    names: dict[str, int] = {}
    dense, step = 1, 1          # what the next stride is if nothing is stepped over: now, and by name
    for d in sorted(range(len(shape)), key=lambda d: (strides[d], shape[d] != 1, -d)):
        if strides[d] == dense:
            made[d] = step
        elif strides[d] > 1 and shape[d] != 1:
            name = f"s{first + len(names)}"
            made[d], names[name] = Dim(name), d
        dense, step = strides[d] * shape[d], made[d] * named[d]
    return tuple(made), names


_FEW: Final = 2                         # sizes below are broadcast, or are nothing: most functions ask for them


def _varying(leaf: Tensor, dynamic: bool | None, varied: Set[int]) -> set[int]:
    if dynamic is False:
        return set()
    return {dim for dim, size in enumerate(leaf._type.static_shape) if size >= _FEW and (dynamic or dim in varied)}


def varied_dims(expected: TensorType, leaf: Any) -> set[int] | None:
    """The dims in which a tensor differs from an earlier one of the same rank and dtype; None where more does."""
    if not isinstance(leaf, Tensor) or leaf._type == expected:
        return set()
    found = leaf._type
    if (found.rank, found.dtype, found.device) != (expected.rank, expected.dtype, expected.device):
        return None
    return {dim for dim, (a, b) in enumerate(zip(expected.shape, found.shape, strict=True)) if a != b}
