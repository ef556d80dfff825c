"""`gather`, `scatter` and their relatives: elements found and written by index tensors along dims."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from flambeau.frontend.functions.elementwise import choose, mul
from flambeau.frontend.functions.indexing import (
    Plan,
    basic_part,
    checked,
    getitem,
    one_mask,
    put_rows,
    unwritten,
    value_for,
    wrapped,
)
from flambeau.frontend.functions.views import sliced
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import as_size, same_shape
from flambeau.ir.op import Op


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
    if index_tensor(index, "gather").ndim != x.ndim and not index.numel():
        return full_of(index._type.static_shape, 0, x.dtype, like=x)
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
        return full_of(index._type.static_shape, src, x._type.dtype, name, x)
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
        rows = full_of((*sizes[:dim], count, *sizes[dim + 1:]), value, x._type.dtype, "index_fill", x)
    return index_copy(x, dim, reshaped(index, (count,)), rows)


def index_put(input: Tensor, indices: Sequence[Tensor], values: Tensor, accumulate: bool = False) -> Tensor:
    """input with input[indices] replaced by the values, or increased by them."""
    if values.numel() == 1 and not accumulate:
        masked = one_mask(one_tensor("index_put", input), tuple(indices))
        if masked is not None and same_shape(masked[0]._type.shape, input._type.shape):
            return choose(masked[1], value_for(values, masked[0], ()), input)
    view, found = basic_part(one_tensor("index_put", input), tuple(indices))
    if not found:
        raise IndexOutOfRangeError("index_put: expected at least one index tensor", where=user_line())
    plan = Plan.of(view, found)
    updates = expanded(value_for(values, view, plan.shape), plan.shape)
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
    x, num_classes = index_tensor(tensor, "one_hot"), as_size(num_classes)
    if active.tracer is None or num_classes == -1:
        data = x._data()
        if num_classes == -1:
            num_classes = int(data.max()) + 1 if data.size else 0
        is_wrong = bool(data.size and not (data.min() >= 0 and data.max() < num_classes))
    else:
        is_wrong = bool(num_classes <= 0 and x.numel())     # no result has an element that would look
    if is_wrong:
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
    data, minlength = index_tensor(input, "bincount")._data(), as_size(minlength)
    if data.ndim != 1 or minlength < 0 or data.size and data.min() < 0:
        raise RuntimeError(f"bincount: takes a vector of integers >= 0 and a minlength >= 0, got {input._type} and "
                           f"{minlength}")
    size = max(int(data.max()) + 1 if data.size else 0, minlength)
    if weights is not None and weights._type.shape != input._type.shape:
        raise RuntimeError(f"bincount: weights must have the shape of input, got {weights._type} and {input._type}")
    updates = full_of(input._type.static_shape, 1, dt.i64, like=input) if weights is None else \
        weights if weights._type.dtype.is_floating_point else cast(weights, dt.f64)
    return dispatch(ops.ScatterAdd(size, 0), input, updates)


__all__ = ["bincount", "gather", "index_add", "index_copy", "index_fill", "index_put", "index_select", "masked_fill",
           "masked_select", "scatter", "scatter_add", "take", "take_along_dim"]
public(globals(), [*__all__, "one_hot"])
