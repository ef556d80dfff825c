"""`x[...]` and its relatives: basic indices are views, index tensors gather, assignments write through views."""
from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau.errors import IndexOutOfRangeError, ShapeError, TraceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    broadcast_shapes,
    cast,
    expanded,
    full_of,
    is_number,
    one_tensor,
    permuted,
    reshaped,
    spread,
    stored,
    tensor_of,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.creation import holding, tensor
from flambeau.frontend.functions.elementwise import choose, mul
from flambeau.frontend.functions.views import clone, sliced
from flambeau.frontend.tape.dispatch import dispatch, dispatch_view
from flambeau.frontend.tape.writes import assign_, update_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.op import Op
from flambeau.ir.records import dataclass

# -- x[index] ---------------------------------------------------------------------------------------------------------


def getitem(self: Tensor, index: Any) -> Tensor:
    """x[index] with ints, slices, None and Ellipsis (a view), integer tensors and bool masks (a copy).

    Raises IndexError out of range, and TraceError for a mask under trace: its result's size depends on data."""
    view, found = _basic(self, index)
    return _gathered(view, found) if found else view


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, broadcast and cast to the elements written, on the tape too."""
    if is_number(value) or isinstance(value, Tensor) and value.numel() == 1:
        masked = _one_mask(self, index)
        if masked is not None:              # needs no positions, so it traces
            view, mask = masked
            update_(view, choose(mask, _value(value, view, ()), view))
            return
    if active.tracer is None:
        index = tuple([_known(item) for item in index]) if isinstance(index, tuple) else _known(index)
    view, found = _basic(self, index)
    if not found:
        assign_(view, _filled(_value(value, view, view._type.static_shape), view))
        return
    plan = _Plan.of(view, found)
    updates = expanded(_value(value, view, plan.shape), plan.shape)
    update_(view, plan.put(view, updates))


def _known(item: Any) -> Any:
    """An integer tensor without dims as an int, which has no part in where the dims of others go."""
    return operator.index(item) if isinstance(item, Tensor) and not item.ndim and item.dtype.is_integer else item


def _one_mask(x: Tensor, index: Any) -> tuple[Tensor, Tensor] | None:
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
            before += 0 if isinstance(item, int) else x.ndim - taken if item is Ellipsis else 1
    view, _ = _basic(x, tuple(basic))
    _check_mask(mask, view._type.static_shape[place:place + mask.ndim])
    return view, spread(mask, view._type.static_shape, range(place, place + mask.ndim))


def _value(value: Any, target: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What is assigned, in the target's dtype. Raises ShapeError if it does not broadcast to `shape`."""
    if is_number(value):
        return stored("x[index] = value", value, target._type.dtype, may_overflow=True)
    x = value if isinstance(value, Tensor) else tensor(value)
    sizes = x._type.static_shape
    while len(sizes) > len(shape) and sizes[0] == 1:
        sizes = sizes[1:]
    if len(sizes) > len(shape) or any(s not in (1, w) for s, w in zip(reversed(sizes), reversed(shape), strict=False)):
        raise ShapeError(f"can't assign a value of shape {tuple(x.shape)} to elements of shape {shape}",
                         where=user_line())
    return cast(reshaped(x, sizes), target._type.dtype)


def _filled(value: Tensor, like: Tensor) -> Tensor:
    """The value over the whole of `like`'s shape."""
    return expanded(value, like._type.static_shape)


def _basic(x: Tensor, index: Any) -> tuple[Tensor, list[tuple[int, Tensor]]]:
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
        return _as_index(tensor(values) if len(values) else tensor(values, dtype=dt.i64))
    if isinstance(item, (bool, np.bool_)):
        return np.bool_(item)
    if not hasattr(item, "__index__"):
        raise IndexOutOfRangeError(f"an index must be an int, slice, None, Ellipsis or an integer or bool Tensor, got "
                                   f"{type(item).__name__}", where=user_line())
    return operator.index(item)


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
            for each in _positions(item, shape[d:d + _dims_taken(item)]):
                found.append((len(result), each))
                result.append(d)
                d += 1
        else:
            starts[d] = _in_range(item, d, shape[d])
            limits[d] = starts[d] + 1
            d += 1
    if list(shape) != limits or any(starts) or any(step != 1 for step in steps):
        x = dispatch_view(ops.Slice(tuple(starts), tuple(limits), tuple(steps)), x)
    elif result == list(range(len(shape))):
        return (x if found else dispatch_view(ops.Reshape(shape), x)), found
    cut = x._type.static_shape
    final = tuple([1 if k is None else cut[k] for k in result])
    return (x if final == cut else dispatch_view(ops.Reshape(final), x)), found


def _slice_bounds(item: slice, size: int) -> tuple[int, int, int]:
    step = 1 if item.step is None else operator.index(item.step)
    if step <= 0:
        raise ValueError(f"slice step must be positive, got {step}; use flip() to reverse")
    start, stop, _ = slice(item.start, item.stop, step).indices(size)
    return start, max(start, stop), step


def _in_range(index: int, dim: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexOutOfRangeError(f"index {index} is out of bounds for dim {dim} with size {size}", where=user_line())
    return index % size


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
        raise TraceError(f"{asked} gives a tensor whose size depends on data, which a compiled function can't have",
                         where=user_line(), hint="use fb.where(mask, x, other), fb.nonzero(mask, size=...) for the first "
                         "so many positions, or do this outside the function")
    return tuple([holding(where, dt.i64) for where in (np.nonzero(x._data()) if x.ndim else ())])


# -- gathering --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """How index tensors over several dims become one index over one dim.

    order: the view's dims, those indexed together in place; place: where they stand; count: how many they are;
    flat: i64 index into their row-major product, of shape `batch`; shape: of the result."""

    order: tuple[int, ...]
    place: int
    count: int
    flat: Tensor
    shape: tuple[int, ...]

    @staticmethod
    def of(x: Tensor, found: list[tuple[int, Tensor]]) -> _Plan:
        dims = [d for d, _ in found]
        together = dims == list(range(dims[0], dims[0] + len(dims)))
        place = dims[0] if together else 0      # apart: NumPy and PyTorch put the indexed dims first
        others = [d for d in range(x.ndim) if d not in dims]
        sizes = x._type.static_shape
        flat = _flattened([wrapped(i, sizes[d], d) for d, i in found], [sizes[d] for d in dims])
        rest = tuple([sizes[d] for d in others])
        shape = rest[:place] + flat._type.static_shape + rest[place:]
        return _Plan((*others[:place], *dims, *others[place:]), place, len(dims), flat, shape)

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
    plan = _Plan.of(x, found)
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
        return holding(last, dt.i64)
    return dispatch(ops.LastAlong(size, 0), reshaped(index, (index.numel(),)))


def checked(index: Tensor, size: int) -> Tensor:
    """The indices as i64, for a traced op that would leave out those it finds nowhere: each is looked up in the list
    of all, which is a KernelError outside [0, size)."""
    return dispatch(ops.Take(0), dispatch(ops.Iota(size, dt.i64)), cast(index, dt.i64))


# -- by name ----------------------------------------------------------------------------------------------------------


def index_tensor(index: Tensor, name: str) -> Tensor:
    if not isinstance(index, Tensor) or not index._type.dtype.is_integer:
        raise RuntimeError(f"{name}: expected an integer index tensor, got {getattr(index, '_type', type(index))}")
    return index


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of input at `index` (1-d) along dim. Raises IndexError out of range."""
    x = one_tensor("index_select", input)
    if index_tensor(index, "index_select").ndim > 1:
        raise IndexOutOfRangeError(f"index_select: the index must be 1-d, got {index._type}", where=user_line())
    dim = wrap_dim(dim, x.ndim, "index_select")
    if not x._type.shape and index.numel() != 1:
        raise IndexOutOfRangeError(f"index_select: a 0-d tensor has one element, got an index {index._type}",
                                   where=user_line())
    found = dispatch(ops.Take(dim), lifted(x), lifted(index))
    return found if x._type.shape else reshaped(found, ())


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened input at `index`."""
    flat = reshaped(input, (input.numel(),))
    return dispatch(ops.Take(0), flat, wrapped(index_tensor(index, "take"), input.numel(), 0))


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """y[i, j, k] = x[i, index[i, j, k], k] for dim 1. index may be smaller than input in the other dims."""
    x = one_tensor("gather", input)
    dim = wrap_dim(dim, x.ndim, "gather")
    if not index_tensor(index, "gather").numel() and index.ndim != x.ndim:
        return full_of(index._type.static_shape, 0, x.dtype)
    wide, at = lifted(x), lifted(index)
    if at.ndim != wide.ndim:
        raise RuntimeError(f"gather: index {index._type} must have as many dims as input {x._type}")
    found = dispatch(ops.TakeAlong(dim), _cropped(wide, at, dim, "gather"), at)
    return reshaped(found, index._type.static_shape)


def lifted(x: Tensor) -> Tensor:
    """A 0-d tensor as one of one element; others as they are."""
    return x if x._type.shape else reshaped(x, (1,))


def _cropped(x: Tensor, index: Tensor, dim: int, name: str) -> Tensor:
    """x cut to the index's sizes in the dims other than `dim`."""
    _check_within(x, index, dim, name)
    for d, (have, want) in enumerate(zip(x._type.static_shape, index._type.static_shape, strict=True)):
        if d != dim and want < have:
            x = sliced(x, d, 0, want)
    return x


def _check_within(x: Tensor, index: Tensor, dim: int, name: str) -> None:
    """Raise RuntimeError unless the index has x's dims, none but `dim` longer than x's."""
    if index.ndim != x.ndim:
        raise RuntimeError(f"{name}: index {index._type} must have as many dims as {x._type}")
    for d, (have, want) in enumerate(zip(x._type.static_shape, index._type.static_shape, strict=True)):
        if d != dim and want > have:
            raise RuntimeError(f"{name}: index {index._type} exceeds {x._type} in dim {d}, which is not dim {dim}")


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """gather(), with input and indices broadcast in the other dims; over the flattened input when dim is None."""
    indices = index_tensor(indices, "take_along_dim")
    if dim is None:
        flat = wrapped(reshaped(indices, (indices.numel(),)), one_tensor("take_along_dim", input).numel(), 0)
        return gather(reshaped(input, (input.numel(),)), 0, flat)
    dim = wrap_dim(dim, one_tensor("take_along_dim", input).ndim, "take_along_dim")
    if input.ndim != indices.ndim:
        raise RuntimeError(f"take_along_dim: indices {indices._type} must have as many dims as input {input._type}")
    indices = wrapped(indices, input._type.static_shape[dim], dim)
    sizes, wanted = list(input._type.static_shape), list(indices._type.static_shape)
    sizes[dim] = wanted[dim] = 1
    common = list(broadcast_shapes(sizes, wanted, name="take_along_dim"))
    wide = [(*common[:dim], t._type.static_shape[dim], *common[dim + 1:]) for t in (input, indices)]
    return gather(expanded(input, wide[0]), dim, expanded(indices, wide[1]))


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """input, where x[i, index[i, j, k], k] has gained src[i, j, k] for dim 1."""
    x = one_tensor("scatter_add", input)
    dim = wrap_dim(dim, x.ndim, "scatter_add")
    updates = source_of(x, index, src, dim, "scatter_add")
    found = sum_with(lifted(x), ops.ScatterAlongAdd(lifted(x)._type.static_shape[dim], dim), lifted(index), updates)
    return reshaped(found, x._type.static_shape)


def source_of(x: Tensor, index: Tensor, src: Any, dim: int, name: str) -> Tensor:
    """What is scattered: a number everywhere, or src cut to the index's shape."""
    index, x = lifted(index_tensor(index, name)), lifted(x)
    _check_within(x, index, dim, name)
    if is_number(src):
        return full_of(index._type.static_shape, src, x._type.dtype, name)
    src = lifted(one_tensor(name, src))
    if src._type.dtype is not x._type.dtype:
        raise RuntimeError(f"{name}: expected src of the dtype of input, {x.dtype!r}, got {src.dtype!r}")
    if index.ndim != x.ndim or src.ndim != x.ndim:
        raise RuntimeError(f"{name}: index {index._type} and src {src._type} must have as many dims as {x._type}")
    return _cropped(src, index, -1, name)


def grown(found: Tensor, x: Tensor, fill: int = 0) -> Tensor:
    """`fill` after, up to x's shape."""
    high = [have - want for have, want in zip(x._type.static_shape, found._type.static_shape, strict=True)]
    if not any(high):
        return found
    pad = ops.Pad((0,) * len(high), tuple(high), (0,) * len(high))
    if fill == 0 and found.dtype is not dt.bool_:
        return dispatch(pad, found)
    inside = dispatch(pad, full_of(found._type.static_shape, 1, dt.u8))
    wide = cast(dispatch(pad, cast(found, dt.u8)), dt.bool_) if found.dtype is dt.bool_ else dispatch(pad, found)
    return dispatch(ops.where, cast(inside, dt.bool_), wide, tensor_of(fill, found.dtype))


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None,
            reduce: str | None = None) -> Tensor:
    """input, where x[i, index[i, j, k], k] has become src[i, j, k] (or a number) for dim 1; of equal indices the
    last wins. reduce="add" adds instead, "multiply" multiplies."""
    x = one_tensor("scatter", input)
    src = value if src is None else src
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            raise RuntimeError(f"scatter: reduce must be 'add', 'multiply' or None, got {reduce!r}")
        dim = wrap_dim(dim, x.ndim, "scatter")
        updates = source_of(x, index, src, dim, "scatter")
        if reduce == "add":
            return scatter_add(input, dim, index, updates)
        if not index.numel():
            return unwritten(x, updates)
        wide = lifted(x)
        factors = products_along(wide._type.static_shape[dim], dim, cast(lifted(index), dt.i64), updates)
        return reshaped(mul(wide, grown(factors, wide, 1)), x._type.static_shape)
    dim = wrap_dim(dim, x.ndim, "scatter")
    updates = source_of(x, index, src, dim, "scatter")
    if index.numel() == 0:
        return unwritten(x, updates)
    found = _scattered(lifted(x), dim, lifted(index), updates)
    return reshaped(found, x._type.static_shape)


def _scattered(x: Tensor, dim: int, index: Tensor, updates: Tensor) -> Tensor:
    last = _last_writer_along(index, dim, x._type.static_shape[dim])
    written = dispatch(ops.ge, last, tensor_of(0, dt.i64))
    new = dispatch(ops.TakeAlong(dim), updates, dispatch(ops.maximum, last, tensor_of(0, dt.i64)))
    written = cast(grown(cast(written, dt.u8), x), dt.bool_)
    return dispatch(ops.where, written, grown(new, x), x)


def _last_writer_along(index: Tensor, dim: int, size: int) -> Tensor:
    """Of the index's shape with dim of `size`: the place along dim of the last update to each, -1 for none."""
    if active.tracer is None:
        data = index._data()
        if data.size and not (data.min() >= 0 and data.max() < size):
            raise IndexOutOfRangeError(f"scatter: an index is out of bounds for dim {dim} with size {size}")
    return dispatch(ops.LastAlong(size, dim), index)


def products_along(size: int, dim: int, index: Tensor, updates: Tensor) -> Tensor:
    """The product of the updates to each place along dim, 1 where there are none.

    In the order of the places equal ones stand together; by doubling, each knows the product of the 2**k before it that
    go to the same place, and the last one all of it."""
    placed, order = dispatch(ops.Sort(dim), index)
    values = dispatch(ops.TakeAlong(dim), updates, order)
    if values.dtype is dt.bool_:
        values = cast(values, dt.u8)
    length, reach, one = index._type.static_shape[dim], 1, tensor_of(1, values.dtype)
    while reach < length:
        same = dispatch(ops.eq, sliced(placed, dim, 0, length - reach), sliced(placed, dim, reach, length))
        factor = choose(same, sliced(values, dim, 0, length - reach), one)
        rest = dispatch(ops.mul, sliced(values, dim, reach, length), factor)
        values = dispatch(ops.Concat(dim), sliced(values, dim, 0, reach), rest)
        reach *= 2
    last = dispatch(ops.LastAlong(size, dim), placed)
    product = dispatch(ops.TakeAlong(dim), values, dispatch(ops.maximum, last, tensor_of(0, dt.i64)))
    return cast(choose(dispatch(ops.lt, last, tensor_of(0, dt.i64)), one, product), updates.dtype)


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """input, whose slices at `index` along dim have gained alpha * source's."""
    x = one_tensor("index_add", input)
    dim = wrap_dim(dim, x.ndim, "index_add")
    source = one_tensor("index_add", source)
    if source._type.dtype is not x._type.dtype:
        raise RuntimeError(f"index_add: expected a source of the dtype of input, {x.dtype!r}, got {source.dtype!r}")
    updates = source if type(alpha) is int and alpha == 1 else \
        mul(source, stored("index_add alpha", alpha, x._type.dtype))
    wide, at = lifted(x), lifted(index_tensor(index, "index_add"))
    found = sum_with(wide, ops.ScatterAdd(wide._type.static_shape[dim], dim), at, lifted(updates))
    return reshaped(found, x._type.static_shape)


def sum_with(x: Tensor, scatter: Op, index: Tensor, updates: Tensor) -> Tensor:
    """x + scatter(index, updates); bools add up as `or`."""
    if x._type.dtype is dt.bool_:
        counts = grown(dispatch(scatter, index, cast(updates, dt.i64)), x)
        return dispatch(ops.logical_or, x, cast(counts, dt.bool_))
    return dispatch(ops.add, x, grown(dispatch(scatter, index, updates), x))


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """input, whose slices at `index` along dim have become source's."""
    x = one_tensor("index_copy", input)
    dim = wrap_dim(dim, x.ndim, "index_copy")
    wide, at = lifted(x), lifted(index_tensor(index, "index_copy"))
    at = wrapped(at, wide._type.static_shape[dim], dim)
    rows = lifted(cast(one_tensor("index_copy", source), x._type.dtype))
    shape = wide._type.static_shape
    if at.ndim != 1 or rows._type.static_shape != (*shape[:dim], at.numel(), *shape[dim + 1:]):
        raise ShapeError(f"index_copy: index {index._type} and source {source._type} don't fit dim {dim} of {x._type}",
                         where=user_line())
    return reshaped(put_rows(wide, dim, at, rows), x._type.static_shape)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """input, whose slices at `index` along dim have become `value`."""
    x = one_tensor("index_fill", input)
    dim = wrap_dim(dim, x.ndim, "index_fill")
    sizes, count = lifted(x)._type.static_shape, index_tensor(index, "index_fill").numel()
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(f"index_fill: value must be a number or a 0-d tensor, got {value._type}")
        rows = expanded(cast(value, x._type.dtype), (*sizes[:dim], count, *sizes[dim + 1:]))
    else:
        rows = full_of((*sizes[:dim], count, *sizes[dim + 1:]), value, x._type.dtype, "index_fill")
    return index_copy(x, dim, reshaped(index, (count,)), rows)


def index_put(input: Tensor, indices: Sequence[Tensor], values: Tensor, accumulate: bool = False) -> Tensor:
    """input with input[indices] replaced by the values, or increased by them."""
    if values.numel() == 1 and not accumulate:
        masked = _one_mask(one_tensor("index_put", input), tuple(indices))
        if masked is not None and masked[0]._type.shape == input._type.shape:
            return choose(masked[1], _value(values, masked[0], ()), input)
    view, found = _basic(one_tensor("index_put", input), tuple(indices))
    if not found:
        raise IndexOutOfRangeError("index_put: expected at least one index tensor", where=user_line())
    plan = _Plan.of(view, found)
    updates = expanded(_value(values, view, plan.shape), plan.shape)
    if not accumulate:
        return plan.put(view, updates)
    whole = plan.merged(view)
    total = sum_with(whole, ops.ScatterAdd(whole._type.static_shape[plan.place], plan.place), plan.flat, updates)
    ordered = reshaped(total, tuple([input._type.static_shape[d] for d in plan.order]))
    return permuted(ordered, sorted(range(input.ndim), key=plan.order.__getitem__))


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """input with `value` where the mask holds."""
    x = one_tensor("masked_fill", input)
    if not isinstance(mask, Tensor) or mask._type.dtype is not dt.bool_:
        raise RuntimeError(f"masked_fill: the mask must be a bool tensor, got {getattr(mask, '_type', type(mask))}")
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(f"masked_fill: value must be a number or a 0-d tensor, got {value._type}")
    value = cast(value, x._type.dtype) if isinstance(value, Tensor) else stored("masked_fill", value, x._type.dtype)
    return choose(mask, value, x)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector (eager only)."""
    shape = broadcast_shapes(lifted(input)._type.static_shape, mask._type.static_shape, name="masked_select")
    return getitem(expanded(input, shape), expanded(mask, shape))


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """i64[..., num_classes] with a 1 at each index. num_classes -1: one more than the greatest (eager only).

    Raises RuntimeError for a class out of range (KernelError in a compiled function, which finds it as it runs)."""
    x, num_classes = index_tensor(tensor, "one_hot"), operator.index(num_classes)
    if active.tracer is None or num_classes == -1:
        data = x._data()
        if num_classes == -1:
            num_classes = int(data.max()) + 1 if data.size else 0
        if data.size and not (data.min() >= 0 and data.max() < num_classes):
            raise RuntimeError(f"one_hot: class values must lie in [0, {num_classes})")
    if active.tracer is not None:
        x = checked(x, num_classes)
    wide = (*x._type.static_shape, num_classes)
    classes = spread(dispatch(ops.Iota(num_classes, dt.i64)), wide, (x.ndim,))
    return cast(dispatch(ops.eq, spread(cast(x, dt.i64), wide, range(x.ndim)), classes), dt.i64)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each value occurs (or its summed weights, integers in float64); the length depends on data (eager only)."""
    if active.hides(input):
        raise TraceError("bincount() gives a tensor whose size depends on data, which a compiled function can't have",
                         where=user_line(), hint="zeros(size).index_add(0, input, ones) counts up to a size that is known")
    data, minlength = index_tensor(input, "bincount")._data(), operator.index(minlength)
    if data.ndim != 1 or minlength < 0 or data.size and data.min() < 0:
        raise RuntimeError(f"bincount: takes a vector of integers >= 0 and a minlength >= 0, got {input._type} and "
                           f"{minlength}")
    size = max(int(data.max()) + 1 if data.size else 0, minlength)
    if weights is not None and weights._type.shape != input._type.shape:
        raise RuntimeError(f"bincount: weights must have the shape of input, got {weights._type} and {input._type}")
    updates = full_of(input._type.static_shape, 1, dt.i64) if weights is None else \
        weights if weights._type.dtype.is_floating_point else cast(weights, dt.f64)
    return dispatch(ops.ScatterAdd(size, 0), input, updates)


__all__ = ["bincount", "gather", "index_add", "index_copy", "index_fill", "index_put", "index_select", "masked_fill",
           "masked_select", "scatter", "scatter_add", "take", "take_along_dim"]
public(globals(), [*__all__, "one_hot"])
