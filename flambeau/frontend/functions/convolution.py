"""Convolution, 1-d by way of 2-d. Images are [N, C, H, W], or [C, H, W] for a single one."""
from __future__ import annotations

import operator
from typing import Any

from flambeau.errors import ShapeError, TypeInferenceError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import cast, one_tensor, reshaped, spread, user_line
from flambeau.frontend.functions.views import padded
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.op import Op

Pair = tuple[int, int]
_LAYOUT = "NCHW"


def pair(value: Any, name: str) -> Pair:
    """An int for both dims, or one for each."""
    found = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(found) not in (1, 2) or not all(hasattr(type(v), "__index__") for v in found):
        raise TypeInferenceError(f"{name} must be an int or a pair of ints, got {value!r}")
    return operator.index(found[0]), operator.index(found[-1])


def _single(value: Any) -> int:
    """An int, also given as a sequence of one."""
    found = value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value
    if not hasattr(type(found), "__index__"):
        raise TypeError(f"expected an int, or a tuple of one, got {value!r}")
    return operator.index(found)


def _images(x: Tensor, name: str) -> tuple[Tensor, bool]:
    """x as a batch, and whether it was a single image. Raises ShapeError for another number of dims."""
    if one_tensor(name, x).ndim == 3:
        return reshaped(x, (1, *x._type.static_shape)), True
    if x.ndim != 4:
        raise ShapeError(f"{name}: takes [N, C, H, W] or [C, H, W], got {x._type}", where=user_line())
    return x, False


def _unbatched(y: Tensor, single: bool) -> Tensor:
    return reshaped(y, y._type.static_shape[1:]) if single else y


def _flat(x: Tensor, name: str) -> Tensor:
    """[N, C, L] or [C, L] as images of height 1."""
    if one_tensor(name, x).ndim not in (2, 3):
        raise ShapeError(f"{name}: takes [N, C, L] or [C, L], got {x._type}", where=user_line())
    shape = x._type.static_shape
    return reshaped(x, (*shape[:-1], 1, shape[-1]))


def _unflat(y: Tensor) -> Tensor:
    shape = y._type.static_shape
    return reshaped(y, (*shape[:-2], shape[-1]))


# -- convolution ------------------------------------------------------------------------------------------------------


def _paddings(padding: Any, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) for ints, "valid", or "same" (the odd one at the end)."""
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding != "same":
            raise RuntimeError(f"conv: padding must be 'same', 'valid', an int or a pair, got {padding!r}")
        if stride != (1, 1):
            raise ValueError("conv: padding='same' is not supported for strided convolutions")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    high, wide = pair(padding, "padding")
    return (high, high), (wide, wide)


def _with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return y
    if bias._type.shape != (y._type.shape[1],):
        raise ShapeError(f"conv: bias {bias._type} must have one element per output channel of {y._type}",
                         where=user_line())
    return dispatch(ops.add, y, spread(bias, y._type.static_shape, (1,)))


def _check_weight(x: Tensor, weight: Tensor, groups: int, name: str) -> None:
    if one_tensor(name, weight).ndim != 4:
        raise ShapeError(f"{name}: weight must have 4 dims beside images {x._type}, got {weight._type}",
                         where=user_line())
    if x._type.dtype is not weight._type.dtype:
        raise RuntimeError(f"{name}: input {x.dtype!r} and weight {weight.dtype!r} must have one dtype")


def _product(op: Op, x: Tensor, weight: Tensor) -> Tensor:
    """A convolution. That of integers is exact up to 2**53, and wraps as their sums do."""
    dtype = x._type.dtype
    if not dtype.is_integer:
        return dispatch(op, x, weight)
    return cast(cast(dispatch(op, cast(x, dt.f64), cast(weight, dt.f64)), dt.i64), dtype)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Tensor:
    """Convolution (cross-correlation). input: [N, C, H, W]; weight: [O, C/groups, R, S]; bias: [O].

    padding: an int, a pair, "valid" or "same". Raises RuntimeError if the sizes don't fit."""
    x, single = _images(input, "conv2d")
    _check_weight(x, weight, groups, "conv2d")
    if x._type.shape[1] != weight._type.static_shape[1] * groups:
        raise ShapeError(f"conv2d: weight {weight._type} with groups={groups} takes "
                         f"{weight._type.static_shape[1] * groups} channels, input is {input._type}", where=user_line())
    strides, dilations = pair(stride, "stride"), pair(dilation, "dilation")
    pads = _paddings(padding, weight._type.static_shape[2:], strides, dilations)  # type: ignore[arg-type]
    y = _product(ops.Conv2d(strides, pads, dilations, groups, _LAYOUT), x, weight)
    return _unbatched(_with_bias(y, bias), single)


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Tensor:
    """input: [N, C, L]; weight: [O, C/groups, S]; bias: [O]."""
    x, w = _flat(input, "conv1d"), _flat(weight, "conv1d")
    pads = padding if isinstance(padding, str) else (0, _single(padding))
    return _unflat(conv2d(x, w, bias, (1, _single(stride)), pads, (1, _single(dilation)), groups))


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """The gradient of conv2d with respect to its input, as a function. weight: [C, O/groups, R, S]."""
    x, single = _images(input, "conv_transpose2d")
    _check_weight(x, weight, groups, "conv_transpose2d")
    if x._type.shape[1] != weight._type.shape[0]:
        raise ShapeError(f"conv_transpose2d: weight {weight._type} takes {weight.shape[0]} channels, input is "
                         f"{input._type}", where=user_line())
    strides, dilations, pads = pair(stride, "stride"), pair(dilation, "dilation"), pair(padding, "padding")
    extra = pair(output_padding, "output_padding")
    kernel, size = weight._type.static_shape[2:], x._type.static_shape[2:]
    out = tuple([(size[i] - 1) * strides[i] - 2 * pads[i] + dilations[i] * (kernel[i] - 1) + extra[i] + 1
                 for i in (0, 1)])
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise RuntimeError(f"conv_transpose2d: output_padding {extra} must be smaller than stride or dilation")
    # What is asked for beyond a stride would be the place of another input element: it takes from the padding at the
    # end first, and what is left no element reaches.
    taken = [0 if e < s else min(e, p) for e, s, p in zip(extra, strides, pads, strict=True)]
    unreached = [0 if e < s else e - t for e, s, t in zip(extra, strides, taken, strict=True)]
    reached = (out[0] - unreached[0], out[1] - unreached[1])
    ends = ((pads[0], pads[0] - taken[0]), (pads[1], pads[1] - taken[1]))
    y = _product(ops.Conv2dInputGrad(reached, strides, ends, dilations, groups, _LAYOUT), x, weight)
    if any(unreached):
        y = padded(y, [(0, 0), (0, 0), (0, unreached[0]), (0, unreached[1])])
    return _unbatched(_with_bias(y, bias), single)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """conv_transpose2d of images of height 1."""
    x, w = _flat(input, "conv_transpose1d"), _flat(weight, "conv_transpose1d")
    return _unflat(conv_transpose2d(x, w, bias, (1, _single(stride)), (0, _single(padding)),
                                    (0, _single(output_padding)), groups, (1, _single(dilation))))


__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]
public(globals(), __all__)
