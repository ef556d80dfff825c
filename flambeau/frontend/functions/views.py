"""Shapes: views that share memory, and what a view is turned into."""
from __future__ import annotations

import builtins
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

from flambeau.errors import IndexOutOfRangeError, ShapeError, UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Shape,
    broadcast_shapes,
    expanded,
    one_tensor,
    own_dim,
    reshaped,
    sizes_of,
    spread,
    tensor_of,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.creation import positions
from flambeau.frontend.functions.elementwise import choose
from flambeau.frontend.tape.dispatch import copied, dispatch, dispatch_view
from flambeau.frontend.tape.sharing import apart, is_in_rows, shares_memory
from flambeau.frontend.tensor.promotion import as_dtype
from flambeau.frontend.tensor.storage import DeviceStorage
from flambeau.frontend.tensor.strides import plain_place
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.answers import known
from flambeau.ir.dims import Dim, as_size, same, same_shape
from flambeau.ir.dtypes import DType
from flambeau.ir.types import TensorType

# -- the same elements under another shape ----------------------------------------------------------------------------


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """Another shape of as many elements, one size of which may be -1; a view where memory allows.

    Raises ShapeError if the elements don't fit."""
    x = one_tensor("reshape", input)
    return another(x, reshaped(x, inferred(x, sizes_of(shape, "reshape"), "reshape")))


def another(x: Tensor, result: Tensor) -> Tensor:
    """A view of x as a tensor of its own, although it shows all of x as it is."""
    return dispatch_view(ops.Reshape(x._type.shape), x) if result is x else result


def inferred(x: Tensor, shape: Shape, name: str) -> Shape:
    """The shape with its -1 worked out. Raises ShapeError if x's elements don't fill it."""
    if known() is None:
        n_open, least = shape.count(-1), builtins.min(shape, default=0)
    else:
        n_open, least = builtins.sum(map(is_open, shape)), -2 if builtins.any(size < -1 for size in shape) else 0
    if n_open > 1 or least < -1:
        raise ShapeError(f"{name}: invalid shape {shape}: sizes are positive, and at most one is -1", where=user_line())
    total, rest = x.numel(), math.prod(shape)
    if n_open:
        rest = -rest
        if rest and total % rest == 0:
            return tuple([total // rest if is_open(size) else size for size in shape])
    if n_open or rest != total:
        raise ShapeError(f"{name}: shape {shape} is invalid for {x._type}, which has {total} elements",
                         where=user_line())
    return shape


def is_open(size: Any) -> bool:
    """Whether -1 stands for a size: for one that is to be found. Those with names are sizes."""
    return type(size) is int and size == -1


def view(self: Tensor, *size: Any, dtype: Any = None) -> Tensor:
    """Another shape, sharing memory (`view(dtype)`: the same bytes as another dtype). Raises RuntimeError where that is
    not possible; use reshape() then."""
    if dtype is not None or len(size) == 1 and isinstance(size[0], (DType, type)):
        return _reinterpreted(self, as_dtype(size[0] if dtype is None else dtype, "view"))
    shape = sizes_of(size, "view")
    op = ops.Reshape(inferred(self, shape, "view"))
    if not same_shape(op.shape, self._type.shape) and not shares_memory(op, self):
        raise ShapeError(f"view: strides {self.stride()} of {self._type} don't allow a view of shape {op.shape}",
                         where=user_line(), hint="use reshape(), which copies")
    return dispatch_view(op, self)


def _reinterpreted(x: Tensor, dtype: DType | None) -> Tensor:
    """The bytes of x as elements of `dtype`, in the same memory; the last dim grows or shrinks with the element size."""
    if dtype is None or dtype is x._type.dtype:
        return dispatch_view(ops.Reshape(x._type.shape), x)
    if active.tracer is not None:
        raise UnsupportedError("view(dtype) inside a compiled function is not supported yet", where=user_line(),
                               hint="do it outside; to convert the numbers use .to(dtype)")
    if x._storage.is_elsewhere:
        return _reinterpreted_elsewhere(x, dtype)
    data, mine, theirs = x._data(), x._type.dtype.itemsize, dtype.itemsize
    if mine != theirs and (not data.ndim or data.shape[-1] * mine % theirs or data.strides[-1] != mine):
        raise ShapeError(f"view: the bytes of {x._type} don't divide into elements of {dtype} along the last dim")
    made = Tensor._from_array(data.view(dtype.storage), dtype)
    for storage in (x._storage, made._storage):         # two over one memory
        storage.share(address=True)
    return made


def _reinterpreted_elsewhere(x: Tensor, dtype: DType) -> Tensor:
    """The same on another device: over the same memory where x lies from its start on, row-major; else over a copy."""
    shape, mine, theirs = x._type.static_shape, x._type.dtype.itemsize, dtype.itemsize
    if mine != theirs:
        if not shape or shape[-1] * mine % theirs:
            raise ShapeError(f"view: the bytes of {x._type} don't divide into elements of {dtype} along the last dim")
        shape = (*shape[:-1], shape[-1] * mine // theirs)
    own, type = x if plain_place(x) == 0 else copied(x), TensorType(shape, dtype, x._type.device)
    return Tensor._make(DeviceStorage(own._storage.buffer, type), type)


def view_as(self: Tensor, other: Tensor) -> Tensor:
    """A view in the shape of `other`."""
    return view(self, other.shape)


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """Reshaped as `other`."""
    return reshape(self, other.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dims start_dim to end_dim as one."""
    x = one_tensor("flatten", input)
    if not x._type.shape:
        return reshaped(x, (1,))
    first, last = wrap_dim(start_dim, x.ndim, "flatten"), wrap_dim(end_dim, x.ndim, "flatten")
    if first > last:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    shape = x._type.static_shape
    return reshaped(x, (*shape[:first], math.prod(shape[first:last + 1]), *shape[last + 1:]))


def ravel(input: Tensor) -> Tensor:
    """All dims as one; of a tensor that is not contiguous, a copy always."""
    return reshape(contiguous(one_tensor("ravel", input)), (-1,))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dim `dim` as several; one size may be -1. Raises ShapeError if they don't multiply to it."""
    x = one_tensor("unflatten", input)
    dim = own_dim(x, dim, "unflatten")
    shape = x._type.static_shape
    known = math.prod([size for size in sizes if not is_open(size)])
    parts = tuple([shape[dim] // builtins.max(known, 1) if is_open(size) else size for size in sizes])
    if math.prod(parts) != shape[dim]:
        raise ShapeError(f"unflatten: sizes {tuple(sizes)} don't multiply to {shape[dim]}, dim {dim} of {x._type}",
                         where=user_line())
    return another(x, reshaped(x, (*shape[:dim], *parts, *shape[dim + 1:])))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dims of size 1: all of them, or those named."""
    x = one_tensor("squeeze", input)
    shape = x._type.static_shape
    named = range(len(shape)) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = {wrap_dim(d, x.ndim, "squeeze") for d in named} if shape else set()
    return dispatch_view(ops.Reshape(tuple([s for d, s in enumerate(shape) if d not in dims or s != 1])), x)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A view with a new dim of size 1 at `dim` (of the result: -1 is the last). Raises IndexError out of range."""
    x = one_tensor("unsqueeze", input)
    place = wrap_dim(dim, x.ndim + 1, "unsqueeze")
    shape = x._type.static_shape
    return dispatch_view(ops.Reshape((*shape[:place], 1, *shape[place:])), x)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Dim i of the result is dim dims[i]. Raises RuntimeError unless dims name each dim once."""
    x = one_tensor("permute", input)
    order = sizes_of(dims, "permute")
    found = [wrap_dim(d, x.ndim, "permute") for d in order]
    if sorted(found) != list(range(x.ndim)):
        raise RuntimeError(f"permute: dims {order} must name each of the {x.ndim} dims of {x._type} once")
    return dispatch_view(ops.Permute(tuple(found)), x)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dims swapped. Raises IndexError for a dim out of range."""
    x = one_tensor("transpose", input)
    order = list(range(x.ndim))
    a, b = wrap_dim(dim0, x.ndim, "transpose"), wrap_dim(dim1, x.ndim, "transpose")
    if order:
        order[a], order[b] = order[b], order[a]
    return dispatch_view(ops.Permute(tuple(order)), x)


swapdims = transpose


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """transpose()."""
    return transpose(input, axis0, axis1)


def t(input: Tensor) -> Tensor:
    """A matrix transposed (0-d and 1-d tensors as they are). Raises RuntimeError for more dims."""
    if input.ndim > 2:
        raise RuntimeError(f"t: takes at most 2 dims, got {input._type}; use .mT or transpose(dim0, dim1)")
    return reversed_dims(input)


def reversed_dims(input: Tensor) -> Tensor:
    """All dims in reverse order: `x.T`."""
    return dispatch_view(ops.Permute(tuple(reversed(range(input.ndim)))), input)


def matrix_transposed(input: Tensor) -> Tensor:
    """The last two dims swapped: `x.mT`. Raises RuntimeError for fewer than 2 dims."""
    if input.ndim < 2:
        raise RuntimeError(f"mT: takes 2 dims or more, got {input._type}")
    return transpose(input, -2, -1)


def adjoint(input: Tensor) -> Tensor:
    """Conjugated matrices with their dims swapped: `x.mH`. Raises RuntimeError for fewer than 2 dims."""
    return input.adjoint()


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dims `source` moved to `destination`, the others keeping their order."""
    x = one_tensor("movedim", input)
    if not x.ndim:                          # its dim 0 and -1 are none
        x = reshaped(x, (1,))
        return reshaped(movedim(x, source, destination), ())
    given = [each if isinstance(each, (tuple, list)) else (each,) for each in (source, destination)]
    sources, places = ([wrap_dim(d, x.ndim, "movedim") for d in each] for each in given)
    if len(sources) != len(places) or len(set(sources)) != len(sources) or len(set(places)) != len(places):
        raise RuntimeError(f"movedim: source {source} and destination {destination} must name as many different dims")
    order = [d for d in range(x.ndim) if d not in sources]
    for place, dim in sorted(zip(places, sources, strict=True)):
        order.insert(place, dim)
    return dispatch_view(ops.Permute(tuple(order)), x)


moveaxis = movedim


def expand(self: Tensor, *size: Any) -> Tensor:
    """A view with dims of size 1 grown, and new dims in front; -1 keeps a size. Raises ShapeError otherwise."""
    sizes = sizes_of(size, "expand")
    own = self._type.static_shape
    lead = len(sizes) - len(own)
    if lead < 0:
        raise ShapeError(f"expand: {len(sizes)} sizes {sizes} for {self._type}", where=user_line())
    if builtins.any(map(is_open, sizes[:lead])):
        raise ShapeError(f"expand: -1 is not allowed for a new dim in {sizes}", where=user_line())
    found = (*sizes[:lead], *[o if is_open(s) else s for s, o in zip(sizes[lead:], own, strict=True)])
    for d, (s, o) in enumerate(zip(found[lead:], own, strict=True)):
        if not same(o, 1) and o not in (s, 1):
            raise ShapeError(f"expand: dim {d} of {self._type} has size {o}, not 1, and can't become {s}",
                             where=user_line())
    if same_shape(found, own):                   # nothing shares an element: it may be written through
        return dispatch_view(ops.Permute(tuple(range(len(own)))), self)
    return dispatch_view(ops.Broadcast(found, tuple(range(lead, len(found)))), self)


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """Expanded to the shape of `other`."""
    return expand(self, other.shape)


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """expand()."""
    return expand(input, size)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All expanded to the shape they broadcast to."""
    shape = broadcast_shapes(*[one_tensor("broadcast_tensors", x)._type.static_shape for x in tensors],
                             name="broadcast_tensors")
    return tuple([another(x, expanded(x, shape)) for x in tensors])


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements whose positions along dim1 and dim2 differ by `offset`, as a new last dim."""
    x = one_tensor("diagonal", input)
    first, second = wrap_dim(dim1, x.ndim, "diagonal"), wrap_dim(dim2, x.ndim, "diagonal")
    if first == second or x.ndim < 2:
        raise RuntimeError(f"diagonal: dim1 {dim1} and dim2 {dim2} must be two dims of {x._type}")
    x = movedim(x, (first, second), (-2, -1))
    n, m = x._type.static_shape[-2:]
    row, column = builtins.min(builtins.max(-offset, 0), n), builtins.min(builtins.max(offset, 0), m)
    length = builtins.min(n - row, m - column)
    square = sliced(sliced(x, x.ndim - 2, row, row + length), x.ndim - 1, column, column + length)
    return dispatch_view(ops.Diagonal(), square)


def contiguous(self: Tensor) -> Tensor:
    """Itself when its elements lie in row-major order, else a copy where they do."""
    return self if is_in_rows(self) else apart(self, clone(self))


# -- parts ------------------------------------------------------------------------------------------------------------


def sliced(x: Tensor, dim: int, start: int, stop: int, step: int = 1) -> Tensor:
    """x[start:stop:step] along `dim`, in bounds, as a view."""
    shape = x._type.static_shape
    if same_shape((start, stop, step), (0, shape[dim], 1)):
        return x
    starts, steps, limits = [0] * len(shape), [1] * len(shape), list(shape)
    starts[dim], limits[dim], steps[dim] = start, stop, step
    return dispatch_view(ops.Slice(tuple(starts), tuple(limits), tuple(steps)), x)


def bound(place: Any, size: int) -> int:
    """Where a slice that is to start or to stop at a place does, in a dim of a size. Raises TypeError for no integer."""
    if not hasattr(type(place), "__index__"):
        raise TypeError("slice indices must be integers or None or have an __index__ method")
    place = as_size(place)
    place = place + size if place < 0 else place
    return builtins.min(builtins.max(place, 0), size)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` elements from `start` along dim, as a view. Raises IndexError, RuntimeError out of range."""
    x = one_tensor("narrow", input)
    dim = own_dim(x, dim, "narrow")
    size = x._type.static_shape[dim]
    start, length = as_size(start), as_size(length)
    if not -size <= start <= size:
        raise IndexOutOfRangeError(f"narrow: start {start} is out of range for size {size}", where=user_line())
    start += size if start < 0 else 0
    if length < 0 or start + length > size:
        raise RuntimeError(f"narrow: start {start} and length {length} exceed size {size} of dim {dim}")
    return another(x, sliced(x, dim, start, start + length))


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice at `index` along dim, which is dropped. Raises IndexError out of range."""
    x = one_tensor("select", input)
    if not x._type.shape:
        raise IndexOutOfRangeError("select: a 0-d tensor has no dims to select from", where=user_line())
    dim = wrap_dim(dim, x.ndim, "select")
    shape, index = x._type.static_shape, as_size(index)
    if not -shape[dim] <= index < shape[dim]:
        raise IndexOutOfRangeError(f"index {index} is out of bounds for dim {dim} with size {shape[dim]}",
                                   where=user_line())
    index = index + shape[dim] if index < 0 else index
    return dispatch_view(ops.Reshape((*shape[:dim], *shape[dim + 1:])), sliced(x, dim, index, index + 1))


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Every slice along dim, without that dim: as many views as its size. Raises IndexError for a dim out of range."""
    x = one_tensor("unbind", input)
    dim = own_dim(x, dim, "unbind")
    return _siblings("unbind", [select(x, dim, i) for i in range(x._type.static_shape[dim])])


def _siblings(name: str, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Views that one function made. As in PyTorch, the tape does not follow a write to one of them."""
    for part in parts:
        part._pinned = part._pinned or f"made by {name}() among others"
    return tuple(parts)


def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of `split_size` elements along dim (the last may be shorter), or of the given sizes."""
    x = one_tensor("split", tensor)
    dim = own_dim(x, dim, "split")
    size = x._type.static_shape[dim]
    if isinstance(split_size_or_sections, (int, Dim)):
        step = as_size(split_size_or_sections)
        if step < 0 or (step == 0 and size):
            raise RuntimeError(f"split: split_size must be positive, got {step}")
        whole = operator.index(-(-size // step)) - 1 if size else 0
        sizes = [step] * whole + [size - whole * step]
    else:
        sizes = [as_size(length) for length in split_size_or_sections]
        if builtins.sum(sizes) != size or builtins.min(sizes, default=0) < 0:
            raise RuntimeError(f"split: sizes {sizes} don't add up to {size}, dim {dim} of {x._type}")
    parts, start = [], 0
    for length in sizes:
        parts.append(another(x, sliced(x, dim, start, start + length)))
        start += length
    return _siblings("split", parts)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size (the last may be shorter)."""
    x, chunks = one_tensor("chunk", input), as_size(chunks)
    if chunks < 1:
        raise RuntimeError(f"chunk: chunks must be positive, got {chunks}")
    size = x._type.static_shape[own_dim(x, dim, "chunk")]
    return split(input, builtins.max(-(-size // chunks), 1) if size else [0] * chunks, dim)


def tensor_split(input: Tensor, indices_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views between the given indices, or `sections` views whose sizes differ by at most 1."""
    dim = own_dim(one_tensor("tensor_split", input), dim, "tensor_split")
    size = input._type.static_shape[dim]
    if isinstance(indices_or_sections, Tensor):
        if not indices_or_sections.dtype.is_integer or indices_or_sections.ndim > 1:
            raise ShapeError(f"tensor_split: takes a number of sections or a vector of indices, got "
                             f"{indices_or_sections._type}")
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, (int, Dim)):
        indices_or_sections = operator.index(indices_or_sections)
        if indices_or_sections < 1:
            raise ShapeError(f"tensor_split: the number of sections must be positive, got {indices_or_sections}")
        least, longer = divmod(size, indices_or_sections)
        sizes = [least + (i < longer) for i in range(indices_or_sections)]
        cuts = [0, *itertools.accumulate(sizes)]
    else:
        cuts = [0, *[bound(i, size) for i in indices_or_sections], size]
    return tuple([another(input, sliced(input, dim, a, builtins.max(a, b))) for a, b in itertools.pairwise(cuts)])


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """Zeros above the diagonal of the last two dims (moved up by `diagonal`)."""
    return _triangle(input, diagonal, ops.le, "tril")


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """Zeros below the diagonal of the last two dims (moved up by `diagonal`)."""
    return _triangle(input, diagonal, ops.ge, "triu")


def _triangle(input: Tensor, diagonal: int, keeps: Any, name: str) -> Tensor:
    x = one_tensor(name, input)
    if x.ndim < 2:
        raise RuntimeError(f"{name}: takes 2 dims or more, got {x._type}")
    rows, columns = positions(*x._type.static_shape[-2:])
    if diagonal:
        rows = dispatch(ops.add, rows, tensor_of(diagonal, rows.dtype))
    return choose(dispatch(keeps, columns, rows), x, tensor_of(0, x.dtype))


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as the diagonal of a matrix of zeros, or the diagonal of a matrix."""
    x = one_tensor("diag", input)
    if x.ndim == 2:
        return clone(take_diagonal(x, diagonal))
    if x.ndim != 1:
        raise RuntimeError(f"diag: takes 1 or 2 dims, got {x._type}")
    return diag_embed(x, diagonal)


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last dim as the diagonal of matrices of zeros, which lie along dim1 and dim2."""
    x, shift = one_tensor("diag_embed", input), as_size(offset)
    own_dim(x, -1, "diag_embed")
    n = x._type.static_shape[-1] + builtins.abs(shift)
    low, high = builtins.max(-shift, 0), builtins.max(shift, 0)
    row = padded(x, [(0, 0)] * (x.ndim - 1) + [(high, low)])
    rows, columns = positions(n, n)
    on = dispatch(ops.eq, columns, dispatch(ops.add, rows, tensor_of(shift, rows.dtype)))
    shape = (*x._type.static_shape[:-1], n, n)
    spread_row = spread(row, shape, (*range(x.ndim - 1), x.ndim))
    return movedim(choose(on, spread_row, tensor_of(0, x.dtype)), (-2, -1), (dim1, dim2))


take_diagonal = diagonal


# -- copies -----------------------------------------------------------------------------------------------------------


def padded(x: Tensor, amounts: Sequence[tuple[int, int]]) -> Tensor:
    """Zeros around: amounts[d] = (before, after) for each dim."""
    if not builtins.any(a or b for a, b in amounts):
        return x
    low, high = zip(*amounts, strict=True)
    return dispatch(ops.Pad(tuple(low), tuple(high), (0,) * len(low)), x)


def clone(input: Tensor) -> Tensor:
    """A copy of its own memory, on the tape."""
    x = one_tensor("clone", input)
    return dispatch(ops.Reshape(x._type.shape), x)


__all__ = [
    "adjoint", "broadcast_tensors", "broadcast_to", "chunk", "clone", "diag", "diag_embed", "diagonal", "flatten",
    "moveaxis", "movedim", "narrow", "permute", "ravel", "reshape", "select", "split", "squeeze", "swapaxes", "swapdims",
    "t", "tensor_split", "transpose", "tril", "triu", "unbind", "unflatten", "unsqueeze",
]
public(globals(), [*__all__, "contiguous", "expand", "expand_as", "reshape_as", "view", "view_as"])
