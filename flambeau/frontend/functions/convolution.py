"""Convolution of 1 to 3 dims and its transpose. Inputs are [N, C, *sizes], or [C, *sizes] for a single one."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import cast, one_tensor, permuted, reshaped, spread, user_line
from flambeau.frontend.functions.views import padded
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import as_size
from flambeau.ir.op import Op

Pair = tuple[int, int]


class _Rank(NamedTuple):
    """How convolution over so many dims is computed. One dim is an image of height 1."""

    forward: Any
    transposed: Any
    layout: str


_RANKS: Final = {1: _Rank(ops.Conv2d, ops.Conv2dInputGrad, "NCHW"), 2: _Rank(ops.Conv2d, ops.Conv2dInputGrad, "NCHW"),
                 3: _Rank(ops.Conv3d, ops.Conv3dInputGrad, "NCDHW")}


def _per_dim(value: Any, rank: int, name: str, least: int) -> tuple[int, ...]:
    """An int for all dims, or one for each. Raises TypeError, RuntimeError for others and for what is below `least`."""
    found = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not all(hasattr(type(v), "__index__") for v in found):
        raise TypeError(f"{name} must be an int or {rank} of them, got {value!r}")
    if len(found) not in (1, rank):
        raise RuntimeError(f"{name} must be an int or {rank} of them, got {value!r}")
    sizes = tuple([as_size(v) for v in found])
    if min(sizes) < least:
        raise RuntimeError(f"{name} must {'be positive' if least else 'not be negative'}, got {value!r}")
    return sizes if len(sizes) == rank else sizes * rank


def _operands(name: str, rank: int, input: Tensor, weight: Tensor, bias: Tensor | None,
              groups: int) -> tuple[Tensor, bool]:
    """The input as a batch, and whether it was a single one, after checking what every convolution asks for."""
    x = one_tensor(name, input)
    single = x.ndim == rank + 1
    if single:
        x = reshaped(x, (1, *x._type.static_shape))
    elif x.ndim != rank + 2:
        raise ShapeError(f"{name}: takes {rank + 2} dims, [N, C, ...], or {rank + 1} without N, got {input._type}",
                         where=user_line())
    if as_size(groups) < 1:
        raise RuntimeError(f"{name}: groups must be positive, got {groups}")
    if one_tensor(name, weight).ndim != rank + 2:
        raise ShapeError(f"{name}: weight must have {rank + 2} dims beside input {input._type}, got {weight._type}",
                         where=user_line())
    if weight._type.static_shape[0] % groups or not weight._type.static_shape[0]:
        raise ShapeError(f"{name}: dim 0 of weight {weight._type} must be a multiple of groups={groups}",
                         where=user_line())
    if x._type.dtype is not weight._type.dtype or bias is not None and bias._type.dtype is not x._type.dtype:
        found = f"input {x.dtype!r} and weight {weight.dtype!r}" + (f" and bias {bias.dtype!r}" if bias is not None else "")
        raise RuntimeError(f"{name}: {found} must have one dtype")
    return x, single


def _check_channels(name: str, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, takes: int,
                    gives: int) -> None:
    if x._type.shape[1] != takes:
        raise ShapeError(f"{name}: weight {weight._type} with groups={groups} takes {takes} channels, input is "
                         f"{x._type}", where=user_line())
    if bias is not None and bias._type.shape != (gives,):
        raise ShapeError(f"{name}: bias {bias._type} must have one element for each of {gives} output channels",
                         where=user_line())


def _computed(op: Op, x: Tensor, weight: Tensor, bias: Tensor | None, rank: int, single: bool) -> Tensor:
    """The op's result in the user's dims, plus bias. That of integers is exact up to 2**53, and wraps as their sums
    do."""
    if rank == 1:
        x, weight = (reshaped(t, (*t._type.static_shape[:2], 1, t._type.static_shape[2])) for t in (x, weight))
    dtype = x._type.dtype
    if dtype is dt.bool_:
        raise NotImplementedError(f"{op.name}: there is no convolution of {dtype}")
    y = dispatch(op, x, weight) if not dtype.is_integer else cast(
        cast(dispatch(op, cast(x, dt.f64), cast(weight, dt.f64)), dt.i64), dtype)
    if rank == 1:
        y = reshaped(y, (*y._type.static_shape[:2], y._type.static_shape[3]))
    return _finished(y, bias, single)


def _finished(y: Tensor, bias: Tensor | None, single: bool) -> Tensor:
    """y plus bias, without the batch dim where the input had none."""
    if bias is not None:
        y = dispatch(ops.add, y, spread(bias, y._type.static_shape, (1,)))
    return reshaped(y, y._type.static_shape[1:]) if single else y


def _paddings(name: str, padding: Any, kernel: Sequence[int], stride: Sequence[int],
              dilation: Sequence[int]) -> list[Pair]:
    """(before, after) for each dim, of ints, "valid", or "same" (the odd one at the end)."""
    if not isinstance(padding, str):
        return [(p, p) for p in _per_dim(padding, len(kernel), f"{name}: padding", 0)]
    if padding not in ("same", "valid"):
        raise RuntimeError(f"{name}: padding must be 'same', 'valid', an int or {len(kernel)} of them, got {padding!r}")
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if max(stride) > 1:
        raise RuntimeError(f"{name}: padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return [(t // 2, t - t // 2) for t in total]


def _convolution(name: str, rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
                 dilation: Any, groups: int) -> Tensor:
    x, single = _operands(name, rank, input, weight, bias, groups)
    outputs, per_group, *kernel = weight._type.static_shape
    _check_channels(name, x, weight, bias, groups, per_group * groups, outputs)
    steps = _per_dim(stride, rank, f"{name}: stride", 1)
    apart = _per_dim(dilation, rank, f"{name}: dilation", 1)
    pads = _paddings(name, padding, kernel, steps, apart)
    size = x._type.static_shape[2:]
    for k, d, s, (low, high) in zip(kernel, apart, size, pads, strict=True):
        if k < 1 or s + low + high < d * (k - 1) + 1:
            raise ShapeError(f"{name}: kernel {tuple(kernel)} (dilation {apart}) is larger than input {input._type} with "
                             f"padding {tuple(pads)}", where=user_line())
    kinds = _RANKS[rank]
    if rank == 1:
        steps, pads, apart = (1, *steps), [(0, 0), *pads], (1, *apart)
    return _computed(kinds.forward(steps, tuple(pads), apart, groups, kinds.layout), x, weight, bias, rank, single)


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Tensor:
    """Convolution (cross-correlation). input: [N, C, L]; weight: [O, C/groups, S]; bias: [O].

    padding: an int, "valid" or "same". Raises RuntimeError if the sizes don't fit."""
    return _convolution("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Tensor:
    """Convolution (cross-correlation). input: [N, C, H, W]; weight: [O, C/groups, R, S]; bias: [O].

    padding: an int, a pair, "valid" or "same". Raises RuntimeError if the sizes don't fit."""
    return _convolution("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Tensor:
    """Convolution (cross-correlation). input: [N, C, D, H, W]; weight: [O, C/groups, Q, R, S]; bias: [O].

    padding: an int, three, "valid" or "same". Raises RuntimeError if the sizes don't fit."""
    return _convolution("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _transposed(name: str, rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
                output_padding: Any, groups: int, dilation: Any) -> Tensor:
    x, single = _operands(name, rank, input, weight, bias, groups)
    channels, per_group, *kernel = weight._type.static_shape
    _check_channels(name, x, weight, bias, groups, channels, per_group * groups)
    steps = _per_dim(stride, rank, f"{name}: stride", 1)
    apart = _per_dim(dilation, rank, f"{name}: dilation", 1)
    pads = _per_dim(padding, rank, f"{name}: padding", 0)
    extra = _per_dim(output_padding, rank, f"{name}: output_padding", 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, apart, strict=True)):
        raise RuntimeError(f"{name}: output_padding {extra} must be smaller than stride or dilation")
    size = x._type.static_shape[2:]
    out = [(size[i] - 1) * steps[i] - 2 * pads[i] + apart[i] * (kernel[i] - 1) + extra[i] + 1 for i in range(rank)]
    if any(o < 1 for o in out) or not all(size):
        raise ShapeError(f"{name}: of input {input._type} and weight {weight._type} comes an output of size {tuple(out)}",
                         where=user_line())
    # What is asked for beyond a stride would be the place of another input element: it takes from the padding at the
    # end first, and what is left no element reaches.
    taken = [0 if e < s else min(e, p) for e, s, p in zip(extra, steps, pads, strict=True)]
    unreached = [0 if e < s else e - t for e, s, t in zip(extra, steps, taken, strict=True)]
    reached = tuple([o - u for o, u in zip(out, unreached, strict=True)])
    ends = [(p, p - t) for p, t in zip(pads, taken, strict=True)]
    kinds = _RANKS[rank]
    if rank == 1:
        reached, steps, ends, apart = (1, *reached), (1, *steps), [(0, 0), *ends], (1, *apart)
    op = kinds.transposed(reached, steps, tuple(ends), apart, groups, kinds.layout)
    if not any(unreached):
        return _computed(op, x, weight, bias, rank, single)
    y = padded(_computed(op, x, weight, None, rank, False), [(0, 0), (0, 0), *[(0, u) for u in unreached]])
    return _finished(y, bias, single)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """The gradient of conv1d with respect to its input, as a function. input: [N, C, L]; weight: [C, O/groups, S];
    bias: [O]. output_padding: elements more at the end. Raises RuntimeError if the sizes don't fit."""
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """The gradient of conv2d with respect to its input, as a function. input: [N, C, H, W]; weight: [C, O/groups, R, S];
    bias: [O]. output_padding: rows and columns more at the end. Raises RuntimeError if the sizes don't fit."""
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """The gradient of conv3d with respect to its input, as a function. input: [N, C, D, H, W]; weight: [C, O/groups, Q, R,
    S]; bias: [O]. output_padding: planes, rows and columns more at the end. Raises RuntimeError if the sizes don't fit."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """conv1d of time first, channels last. input: [T, N, C]; weight: [S, C, O]; bias: [O]; result: [new T, N, O].

    Raises RuntimeError if the sizes don't fit."""
    if one_tensor("conv_tbc", input).ndim != 3 or one_tensor("conv_tbc", weight).ndim != 3:
        raise ShapeError(f"conv_tbc: takes [T, N, C] and a weight [S, C, O], got {input._type} and {weight._type}",
                         where=user_line())
    y = _convolution("conv_tbc", 1, permuted(input, (1, 2, 0)), permuted(weight, (2, 1, 0)), bias, 1, pad, 1, 1)
    return permuted(y, (2, 0, 1))


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
                transposed: bool, output_padding: Any, groups: int) -> Tensor:
    """conv1d to conv3d, or conv_transpose1d to 3d, by the number of dims of the weight."""
    rank = one_tensor("convolution", weight).ndim - 2
    if rank not in _RANKS:
        raise ShapeError(f"convolution: takes a weight of 3 to 5 dims, got {weight._type}", where=user_line())
    if transposed:
        return _transposed("convolution", rank, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return _convolution("convolution", rank, input, weight, bias, stride, padding, dilation, groups)


__all__ = ["conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
public(globals(), [*__all__, "convolution"])       # which is fb.convolution only
