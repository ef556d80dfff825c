"""`x[...]` and its relatives: basic indices are views, index tensors gather, assignments write through views."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau.errors import IndexOutOfRangeError, ShapeError, TraceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.coerce import (
    broadcast_shapes,
    cast,
    expanded,
    is_number,
    permuted,
    reshaped,
    spread,
    stored,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.creation import holding, tensor
from flambeau.frontend.functions.elementwise import choose
from flambeau.frontend.functions.views import bound, clone
from flambeau.frontend.tape.dispatch import dispatch, dispatch_view
from flambeau.frontend.tape.writes import assign_, update_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.answers import known
from flambeau.ir.dims import Dim, as_size, same_shape
from flambeau.ir.records import dataclass

# -- x[index] ---------------------------------------------------------------------------------------------------------


def getitem(self: Tensor, index: Any) -> Tensor:
    """x[index] with ints, slices, None and Ellipsis (a view), integer tensors and bool masks (a copy).

    Raises IndexError out of range, and TraceError for a mask under trace: its result's size depends on data."""
    view, found = basic_part(self, index)
    return _gathered(view, found) if found else view


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, broadcast and cast to the elements written, on the tape too."""
    if is_number(value) or isinstance(value, Tensor) and value.numel() == 1:
        masked = one_mask(self, index)
        if masked is not None:              # needs no positions, so it traces
            view, mask = masked
            update_(view, choose(mask, value_for(value, view, ()), view))
            return
    if active.tracer is None:
        index = tuple([_known(item) for item in index]) if isinstance(index, tuple) else _known(index)
    view, found = basic_part(self, index)
    if not found:
        assign_(view, _filled(value_for(value, view, view._type.static_shape), view))
        return
    plan = Plan.of(view, found)
    updates = expanded(value_for(value, view, plan.shape), plan.shape)
    update_(view, plan.put(view, updates))


def _known(item: Any) -> Any:
    """An integer tensor without dims as an int, which has no part in where the dims of others go."""
    return as_size(item) if isinstance(item, Tensor) and not item.ndim and item.dtype.is_integer else item


def one_mask(x: Tensor, index: Any) -> tuple[Tensor, Tensor] | None:
    """(the view that basic indices leave, the mask spread over it) for an index with one bool mask and no integer
    tensors; None for others."""
    items = list(index) if isinstance(index, tuple) else [index]
    if not any(isinstance(item, Tensor) for item in items):
        return None
    items = [_as_index(item) for item in items]
    tensors = [item for item in items if isinstance(item, Tensor)]
    taken = sum(_dims_taken(item) for item in items)
    if len(tensors) != 1 or tensors[0]._type.dtype is not dt.bool_ or taken > x.ndim \
            or any(isinstance(item, np.bool_) for item in items):
        return None
    mask, before, basic = tensors[0], 0, list[Any]()
    place = 0
    for item in items:
        if item is mask:
            place = before
            basic += [slice(None)] * mask.ndim
        else:
            basic.append(item)
            before += 0 if isinstance(item, (int, Dim)) else x.ndim - taken if item is Ellipsis else 1
    view, _ = basic_part(x, tuple(basic))
    _check_mask(mask, view._type.static_shape[place:place + mask.ndim])
    return view, spread(mask, view._type.static_shape, range(place, place + mask.ndim))


def value_for(value: Any, target: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What is assigned, in the target's dtype. Raises ShapeError if it does not broadcast to `shape`."""
    if is_number(value):
        return stored("x[index] = value", value, target._type.dtype, may_overflow=True)
    x = value if isinstance(value, Tensor) else tensor(value, device="cpu")
    sizes = x._type.static_shape
    while len(sizes) > len(shape) and sizes[0] == 1:
        sizes = sizes[1:]
    if len(sizes) > len(shape) or any(s not in (w, 1) for s, w in zip(reversed(sizes), reversed(shape), strict=False)):
        raise ShapeError(f"can't assign a value of shape {tuple(x.shape)} to elements of shape {shape}",
                         where=user_line())
    return cast(reshaped(x, sizes), target._type.dtype)


def _filled(value: Tensor, like: Tensor) -> Tensor:
    """The value over the whole of `like`'s shape."""
    return expanded(value, like._type.static_shape)


def basic_part(x: Tensor, index: Any) -> tuple[Tensor, list[tuple[int, Tensor]]]:
    """(view after the ints, slices, None and Ellipsis; the index tensors with the dims of the view they index)."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [_as_index(item) for item in items]
    taken = sum(_dims_taken(item) for item in items)
    if taken > x.ndim:
        raise IndexOutOfRangeError(f"too many indices for a tensor of {x.ndim} dims: {taken}", where=user_line())
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)
    return _walked(x, items, x.ndim - taken)


def _dims_taken(item: Any) -> int:
    if item is None or item is Ellipsis or isinstance(item, np.bool_):
        return 0
    return item.ndim if isinstance(item, Tensor) and item._type.dtype is dt.bool_ else 1


def _as_index(item: Any) -> Any:
    """An int, a slice, None, Ellipsis, a bool, or an integer or bool Tensor. Raises IndexError for others."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, Tensor):
        if item._type.dtype.is_floating_point:
            raise IndexOutOfRangeError("tensors used as indices must be of an integer dtype or bool, got "
                                       f"{item._type}", where=user_line())
        is_bool = item._type.dtype is dt.bool_ and not item._type.shape and active.tracer is None
        return np.bool_(item.item()) if is_bool else item
    if isinstance(item, (list, np.ndarray, range)):
        values = list(item) if isinstance(item, range) else item
        return _as_index(tensor(values, device="cpu") if len(values) else tensor(values, dtype=dt.i64, device="cpu"))
    if isinstance(item, (bool, np.bool_)):
        return np.bool_(item)
    if not hasattr(item, "__index__"):
        raise IndexOutOfRangeError(f"an index must be an int, slice, None, Ellipsis or an integer or bool Tensor, got "
                                   f"{type(item).__name__}", where=user_line())
    return as_size(item)


def _walked(x: Tensor, items: Sequence[Any], skipped: int) -> tuple[Tensor, list[tuple[int, Tensor]]]:
    """One Slice and one Reshape for all basic items."""
    shape = x._type.static_shape
    starts, limits, steps = [0] * len(shape), list(shape), [1] * len(shape)
    result: list[int | None] = []               # dims of x kept in the result, None for a new one
    found: list[tuple[int, Tensor]] = []
    d = 0
    for item in items:
        if item is None:
            result.append(None)
        elif item is Ellipsis:
            result += range(d, d + skipped)
            d += skipped
            skipped = 0
        elif isinstance(item, slice):
            starts[d], limits[d], steps[d] = _slice_bounds(item, shape[d])
            result.append(d)
            d += 1
        elif isinstance(item, np.bool_):    # a new dim: of one place where it holds, else of none
            found.append((len(result), holding(np.zeros(int(item), np.int64), dt.i64)))
            result.append(None)
        elif isinstance(item, Tensor):
            if not item._type.shape and x._type.device == "cpu" != item._type.device and active.tracer is None:
                item = tensor(item.item(), device="cpu")            # a number, wherever it lies
            for each in _positions(item, shape[d:d + _dims_taken(item)]):
                found.append((len(result), each))
                result.append(d)
                d += 1
        else:
            starts[d] = _in_range(item, d, shape[d])
            limits[d] = starts[d] + 1
            d += 1
    is_whole = list(shape) == limits and not any(starts) if known() is None else same_shape(
        (*starts, *limits), (*[0] * len(shape), *shape))
    if not is_whole or any(step != 1 for step in steps):
        x = dispatch_view(ops.Slice(tuple(starts), tuple(limits), tuple(steps)), x)
    elif result == list(range(len(shape))):
        return (x if found else dispatch_view(ops.Reshape(shape), x)), found
    cut = x._type.static_shape
    final = tuple([1 if k is None else cut[k] for k in result])
    return (x if same_shape(final, cut) else dispatch_view(ops.Reshape(final), x)), found


def _slice_bounds(item: slice, size: int) -> tuple[int, int, int]:
    step = 1 if item.step is None else as_size(item.step)
    if step <= 0:
        raise ValueError(f"slice step must be positive, got {step}; use flip() to reverse")
    if known() is None:
        start, stop, _ = slice(item.start, item.stop, step).indices(size)
    else:
        start = 0 if item.start is None else bound(item.start, size)
        stop = size if item.stop is None else bound(item.stop, size)
    return start, max(start, stop), step


def _in_range(index: int, dim: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexOutOfRangeError(f"index {index} is out of bounds for dim {dim} with size {size}", where=user_line())
    return index + size if index < 0 else index


def _positions(index: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """An index tensor as it is; a mask as the positions of its true elements, one tensor for each dim."""
    if index._type.dtype is not dt.bool_:
        return [index]
    _check_mask(index, sizes)
    if not index.ndim:
        raise TraceError("indexing with a bool tensor of no dims gives a tensor whose size depends on data, which a "
                         "compiled function can't have", where=user_line(), hint="use fb.where(condition, x, other)")
    return list(nonzero_positions(index, "indexing with a bool mask"))


def _check_mask(mask: Tensor, sizes: tuple[int, ...]) -> None:
    if mask._type.shape != sizes:
        raise IndexOutOfRangeError(f"a mask of shape {tuple(mask.shape)} does not fit dims of sizes {sizes}",
                                   where=user_line())


def nonzero_positions(x: Tensor, asked: str) -> tuple[Tensor, ...]:
    """Positions of the elements that differ from 0, one i64 tensor for each dim. Raises TraceError under trace."""
    if active.hides(x):
        raise TraceError(f"{asked} gives a tensor whose size depends on data, which {active.hider} can't have",
                         where=user_line(), hint="use fb.where(mask, x, other), fb.nonzero(mask, size=...) for the first "
                         "so many positions, or do this outside the function")
    return tuple([holding(where, dt.i64, x) for where in (np.nonzero(x._data()) if x.ndim else ())])


# -- gathering --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How index tensors over several dims become one index over one dim.

    order: the view's dims, those indexed together in place; place: where they stand; count: how many they are;
    flat: i64 index into their row-major product, of shape `batch`; shape: of the result."""

    order: tuple[int, ...]
    place: int
    count: int
    flat: Tensor
    shape: tuple[int, ...]

    @staticmethod
    def of(x: Tensor, found: list[tuple[int, Tensor]]) -> Plan:
        dims = [d for d, _ in found]
        together = dims == list(range(dims[0], dims[0] + len(dims)))
        place = dims[0] if together else 0      # apart: NumPy and PyTorch put the indexed dims first
        others = [d for d in range(x.ndim) if d not in dims]
        sizes = x._type.static_shape
        flat = _flattened([wrapped(i, sizes[d], d) for d, i in found], [sizes[d] for d in dims])
        rest = tuple([sizes[d] for d in others])
        shape = rest[:place] + flat._type.static_shape + rest[place:]
        return Plan((*others[:place], *dims, *others[place:]), place, len(dims), flat, shape)

    def merged(self, x: Tensor) -> Tensor:
        """x with the indexed dims as one, at `place`."""
        x = permuted(x, self.order)
        sizes = x._type.static_shape
        after = self.place + self.count
        return reshaped(x, (*sizes[:self.place], math.prod(sizes[self.place:after]), *sizes[after:]))

    def put(self, x: Tensor, updates: Tensor) -> Tensor:
        """x with its elements at the indices replaced."""
        whole = self.merged(x)
        new = put_rows(whole, self.place, self.flat, updates)
        ordered = reshaped(new, tuple([x._type.static_shape[d] for d in self.order]))
        return permuted(ordered, sorted(range(x.ndim), key=self.order.__getitem__))


def _gathered(x: Tensor, found: list[tuple[int, Tensor]]) -> Tensor:
    """x at the index tensors. Those without dims drop theirs first, as ints do, and have no part in where the others'
    dims go."""
    if len(found) > 1:
        for d, index in reversed(found):
            if not index.ndim:
                x = dispatch(ops.Take(d), x, wrapped(index, x._type.static_shape[d], d))
        gone = [d for d, index in found if not index.ndim]
        found = [(d - sum(g < d for g in gone), index) for d, index in found if index.ndim]
        if not found:
            return x
    plan = Plan.of(x, found)
    return dispatch(ops.Take(plan.place), plan.merged(x), plan.flat)


def wrapped(index: Tensor, size: int, dim: int) -> Tensor:
    """i64 indices counted from the front. Eager ones are looked at: out of range raises here."""
    index = cast(index, dt.i64)
    if active.tracer is None:
        data = index._data()
        if data.size and not (-size <= data.min() and data.max() < size):
            bad = int(data[(data < -size) | (data >= size)][0])
            raise IndexOutOfRangeError(f"index {bad} is out of bounds for dim {dim} with size {size}")
        if not data.size or data.min() >= 0:
            return index
    below = dispatch(ops.lt, index, tensor_of(0, dt.i64))
    return dispatch(ops.where, below, dispatch(ops.add, index, tensor_of(size, dt.i64)), index)


def _flattened(indices: list[Tensor], sizes: list[int]) -> Tensor:
    """Broadcast indices as one into the product of their dims. Under trace an index out of its own range becomes
    one out of the product's, so that it can't pass for a neighbour's."""
    try:
        shape = broadcast_shapes(*[i._type.static_shape for i in indices], name="indices")
    except ShapeError as error:
        raise IndexOutOfRangeError(error.message, where=user_line(), hint=error.hint) from None
    indices = [expanded(i, shape) for i in indices]
    if len(indices) == 1:
        return indices[0]
    flat, valid = indices[0], None
    for position, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        if position:
            flat = dispatch(ops.add, dispatch(ops.mul, flat, tensor_of(size, dt.i64)), index)
        if active.tracer is not None:
            inside = dispatch(ops.lt, cast(index, dt.u64), tensor_of(size, dt.u64))      # negatives wrap to huge
            valid = inside if valid is None else dispatch(ops.logical_and, valid, inside)
    return flat if valid is None else dispatch(ops.where, valid, flat, tensor_of(math.prod(sizes), dt.i64))


def put_rows(x: Tensor, dim: int, index: Tensor, updates: Tensor) -> Tensor:
    """x with its slices at `index` along dim replaced by the updates (of shape x[..., index, ...])."""
    if index.numel() == 0:
        return unwritten(x, updates)
    last = _last_writer(index, x._type.static_shape[dim])
    written = dispatch(ops.ge, last, tensor_of(0, dt.i64))
    source = dispatch(ops.maximum, last, tensor_of(0, dt.i64))
    rank, sizes = index.ndim, updates._type.static_shape
    rows = reshaped(updates, (*sizes[:dim], index.numel(), *sizes[dim + rank:]))
    new = dispatch(ops.Take(dim), rows, source)
    return dispatch(ops.where, spread(written, x._type.static_shape, (dim,)), new, x)


def unwritten(x: Tensor, updates: Tensor) -> Tensor:
    """x, where none of the updates went: their gradient is 0, as that of any that were not the last."""
    if not updates._requires_grad:
        return clone(x)
    shape = x._type.static_shape
    nothing = spread(dispatch(ops.Sum((0,)), reshaped(updates, (updates.numel(),))), shape, ())
    return dispatch(ops.where, spread(tensor_of(True, dt.bool_), shape, ()), x, nothing)


def _last_writer(index: Tensor, size: int) -> Tensor:
    """i64[size]: the number of the last update that goes to each place, -1 for none."""
    if active.tracer is None:
        last = np.full(size, -1, np.int64)
        last[index._data().reshape(-1)] = np.arange(index.numel())
        return holding(last, dt.i64, index)
    return dispatch(ops.LastAlong(size, 0), reshaped(index, (index.numel(),)))


def checked(index: Tensor, size: int) -> Tensor:
    """The indices as i64, for a traced op that would leave out those it finds nowhere: each is looked up in the list
    of all, which is a KernelError outside [0, size)."""
    return dispatch(ops.Take(0), dispatch(ops.Iota(size, dt.i64)), cast(index, dt.i64))
