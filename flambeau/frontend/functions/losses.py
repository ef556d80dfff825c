"""Losses of classes, numbers and probabilities: one number, or one per sample."""
from __future__ import annotations

import math
from typing import Any

from flambeau.errors import IndexOutOfRangeError, ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.activations import softplus_one
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    check_operands,
    floating,
    one_tensor,
    promoted,
    reshaped,
    spread,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.elementwise import add, clamp, div, mul, sub
from flambeau.frontend.functions.pointwise import exp, log, neg, xlogy
from flambeau.frontend.functions.products import linear
from flambeau.frontend.functions.reductions import mean
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.scalars import Scalar
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.promotion import promote_types
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops


def reduction_of(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """The reduction that PyTorch's old arguments stand for, where one of them is given."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is not None and not reduce:
        return "none"
    return "mean" if size_average is None or size_average else "sum"


def reduced(losses: Tensor, reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> Tensor:
    """The mean, the sum, or the losses themselves. Raises ValueError for another reduction."""
    match reduction_of(reduction, size_average, reduce):
        case "mean":
            return mean(losses)
        case "sum":
            return sum_(losses)
        case "none":
            return losses
    raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


# -- classes ----------------------------------------------------------------------------------------------------------


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                  ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(input)[target], the classes along dim 1 (dim 0 of a single sample).

    input: [N, C, ...] or [C]; target: integer classes [N, ...] or [], or probabilities of input's shape; weight: [C].
    Targets equal to ignore_index count for nothing; "mean" divides by the weights of the others.
    Raises ShapeError, IndexError for a class out of range (NaN from a compiled function), ValueError."""
    x = one_tensor("cross_entropy", input)
    if not x.ndim:
        raise ShapeError(f"cross_entropy: input needs a dim of classes, got {x._type}", where=user_line())
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"cross_entropy: label_smoothing must lie in [0, 1], got {label_smoothing}")
    dim, reduction = 0 if x.ndim == 1 else 1, reduction_of(reduction, size_average, reduce)
    if target.is_floating_point():
        return _soft_targets(dispatch(ops.LogSoftmax(dim), x), target, weight, reduction, label_smoothing, dim)
    _check_targets(target, x, ignore_index, dim)
    logs = dispatch(ops.LogSoftmax(dim), _unless_ignored(x, target, ignore_index, dim))
    return _hard_targets(logs, target, weight, ignore_index, reduction, label_smoothing, dim)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
             ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """-input[target], for log-probabilities along dim 1. As cross_entropy otherwise."""
    x = one_tensor("nll_loss", input)
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"nll_loss: takes floating-point input, got {x._type}; pass input.float()")
    if not x.ndim:
        raise ShapeError(f"nll_loss: input needs a dim of classes, got {x._type}", where=user_line())
    dim = 0 if x.ndim == 1 else 1
    _check_targets(target, x, ignore_index, dim)
    return _hard_targets(x, target, weight, ignore_index, reduction_of(reduction, size_average, reduce), 0.0, dim)


def linear_cross_entropy(input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None,
                         weight: Tensor | None = None, reduction: str = "mean", ignore_index: int | None = None,
                         label_smoothing: float = 0.0, options: Any = None) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target): a compiled function fuses the two.

    input: [N, in] or [in]; linear_weight: [C, in], or [C, d1, ..., in] for logits [N, C, d1, ...]. options, which
    choose how PyTorch cuts the work into pieces, change no result."""
    if one_tensor("linear_cross_entropy", linear_weight).ndim < 2:
        raise ShapeError(f"linear_cross_entropy: linear_weight must be [C, ..., in], got {linear_weight._type}",
                         where=user_line())
    *sizes, features = linear_weight._type.static_shape
    rows = reshaped(linear_weight, (math.prod(sizes), features))
    bias = None if linear_bias is None else reshaped(linear_bias, (math.prod(sizes),))
    logits = reshaped(linear(input, rows, bias), (*input._type.static_shape[:-1], *sizes))
    return cross_entropy(logits, target, weight, ignore_index=-100 if ignore_index is None else ignore_index,
                         reduction=reduction, label_smoothing=label_smoothing)


def _soft_targets(logs: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float,
                  dim: int) -> Tensor:
    """-sum(target * log p * weight) over the classes; "mean" divides by the number of samples."""
    if target._type.shape != logs._type.shape:
        raise ShapeError(f"cross_entropy: probabilities {target._type} must have the shape of input {logs._type}",
                         where=user_line(), hint="numbers of classes are integers: target.long()")
    classes = logs._type.static_shape[dim]
    if smoothing:
        target = add(mul(target, 1 - smoothing), smoothing / classes)
    terms = mul(logs, target)
    if weight is not None:
        terms = mul(terms, _weight_of_classes(weight, logs, dim))
    losses = neg(dispatch(ops.Sum((dim,)), terms))
    if reduction != "mean":
        return reduced(losses, reduction)
    return div(sum_(losses), max(logs.numel() // max(classes, 1), 1) if logs.numel() else float("nan"))


def _weight_of_classes(weight: Tensor, logs: Tensor, dim: int) -> Tensor:
    """weight[classes] along dim of the logs. Raises ShapeError for another number of weights."""
    if weight._type.shape != logs._type.shape[dim:dim + 1]:
        raise ShapeError(f"cross_entropy: weight {weight._type} must have one number for each of the "
                         f"{logs._type.shape[dim]} classes of input {logs._type}", where=user_line())
    return spread(weight, logs._type.static_shape, (dim,))


def _hard_targets(logs: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str,
                  smoothing: float, dim: int) -> Tensor:
    """The sum over classes of where(class == target, log p, 0): one pass over a row, together with the softmax.
    Rows that count for nothing are selected away, whatever they hold."""
    shape = logs._type.static_shape
    rows = [d for d in range(len(shape)) if d != dim]
    target = cast(target, dt.i64)
    classes = spread(dispatch(ops.Iota(shape[dim], dt.i64)), shape, (dim,))
    chosen = dispatch(ops.eq, classes, spread(target, shape, rows))
    zero = tensor_of(0, logs._type.dtype)
    weights = None if weight is None else _weight_of_classes(cast(weight, logs._type.dtype), logs, dim)
    terms = logs if weights is None else dispatch(ops.mul, logs, weights)
    losses = neg(dispatch(ops.Sum((dim,)), dispatch(ops.where, chosen, terms, zero)))
    share = tensor_of(1, logs._type.dtype)
    if weights is not None:
        share = dispatch(ops.Sum((dim,)), dispatch(ops.where, chosen, weights, zero))
    if smoothing:
        smooth = mul(neg(dispatch(ops.Sum((dim,)), terms)), smoothing / shape[dim])
        losses = add(mul(losses, 1 - smoothing), smooth)
    losses, share = (_counted(each, target, shape[dim], ignore_index) for each in (losses, share))
    return div(sum_(losses), sum_(share)) if reduction == "mean" else reduced(losses, reduction)


def _counted(x: Tensor, target: Tensor, classes: int, ignore_index: int) -> Tensor:
    """x where the target is a class, 0 where it is ignored. NaN where it is neither: a compiled function can't look at
    its targets first, and must not give a loss that leaves some out."""
    dtype = x._type.dtype
    inside = dispatch(ops.lt, cast(target, dt.u64), tensor_of(classes, dt.u64))      # negatives wrap to huge
    found = dispatch(ops.where, inside, x, tensor_of(float("nan"), dtype))
    return dispatch(ops.where, _is_ignored(target, ignore_index), tensor_of(0, dtype), found)


def _unless_ignored(x: Tensor, target: Tensor, ignore_index: int, dim: int) -> Tensor:
    """x, with zeros in the rows whose target is ignored: the softmax of a row that is masked whole is NaN, and so
    would be its gradient, though nothing flows into it."""
    shape = x._type.static_shape
    ignored = spread(_is_ignored(target, ignore_index), shape, [d for d in range(len(shape)) if d != dim])
    return dispatch(ops.where, ignored, tensor_of(0, x._type.dtype), x)


def _is_ignored(target: Tensor, ignore_index: int) -> Tensor:
    return dispatch(ops.eq, cast(target, dt.i64), tensor_of(ignore_index, dt.i64))


def _check_targets(target: Tensor, x: Tensor, ignore_index: int, dim: int) -> None:
    shape = x._type.static_shape
    rest, classes = (*shape[:dim], *shape[dim + 1:]), shape[dim]
    if target._type.shape != rest:
        raise ShapeError(f"cross_entropy: input {x._type} takes integer targets of shape {rest}, got {target._type}",
                         where=user_line())
    if not target._type.dtype.is_integer:
        raise RuntimeError(f"cross_entropy: targets must be integer classes or probabilities, got {target._type}")
    if active.tracer is None:
        data = target._data()
        outside = ((data < 0) | (data >= classes)) & (data != ignore_index)
        if outside.any():
            raise IndexOutOfRangeError(f"cross_entropy: target {int(data[outside].flat[0])} is out of bounds for "
                                       f"{classes} classes")


# -- regression -------------------------------------------------------------------------------------------------------


def _pair(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one shape and float dtype, or integers for l1_loss. The dtype of a 0-d one
    counts like another's: it is spread first."""
    check_operands(name, (input, target))
    if isinstance(input, Tensor) and isinstance(target, Tensor) and input._type.dtype is not target._type.dtype:
        dtype = promote_types(input._type.dtype, target._type.dtype)
        input, target = cast(input, dtype), cast(target, dtype)
    x, y = (floating if name != "l1_loss" else promoted)(name, input, target)
    return x, y


def _weighted_mean(losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """The losses, times weights if there are any: "mean" divides by the sum of the weights."""
    if weight is None:
        return reduced(losses, reduction)
    weighted = _weighted_by(losses, weight)
    return div(sum_(weighted), sum_(weight)) if reduction == "mean" else reduced(weighted, reduction)


def _weighted_by(losses: Tensor, weight: Tensor) -> Tensor:
    """Raises ValueError for weights of another shape."""
    if weight._type.shape != losses._type.shape:
        raise ValueError(f"a weight of {weight._type} goes with losses of its shape only, found {losses._type}")
    return mul(losses, weight)


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
             reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """(input - target)**2. weight: one for each loss; "mean" divides by their sum."""
    x, y = _pair("mse_loss", input, target)
    gap = dispatch(ops.sub, x, y)
    return _weighted_mean(dispatch(ops.mul, gap, gap), weight, reduction_of(reduction, size_average, reduce))


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
            reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """|input - target|. weight: one for each loss; "mean" divides by their sum."""
    x, y = _pair("l1_loss", input, target)
    return _weighted_mean(dispatch(ops.abs, dispatch(ops.sub, x, y)), weight,
                          reduction_of(reduction, size_average, reduce))


def _square_unless(far: Tensor, gap: Tensor) -> Tensor:
    """gap**2, or 0 where it is far: an infinite square's gradient would be NaN though nobody asks for it."""
    near = dispatch(ops.where, far, tensor_of(0, gap.dtype), gap)
    return dispatch(ops.mul, near, near)


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                   reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """gap**2 / (2 beta) where |gap| < beta, else |gap| - beta / 2."""
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, size_average, reduce, reduction)
    x, y = _pair("smooth_l1_loss", input, target)
    gap = dispatch(ops.sub, x, y)
    size = dispatch(ops.abs, gap)
    far = dispatch(ops.ge, size, tensor_of(beta, gap.dtype))
    losses = dispatch(ops.where, far, sub(size, 0.5 * beta), mul(_square_unless(far, gap), 0.5 / beta))
    return reduced(losses, reduction, size_average, reduce)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """gap**2 / 2 where |gap| <= delta, else delta * (|gap| - delta / 2). weight: a factor for each loss."""
    if not isinstance(delta, Scalar) and delta <= 0:
        raise RuntimeError(f"huber_loss: delta must be positive, got {delta}")
    x, y = _pair("huber_loss", input, target)
    gap = dispatch(ops.sub, x, y)
    size = dispatch(ops.abs, gap)
    far = dispatch(ops.gt, size, tensor_of(delta, gap.dtype))
    losses = dispatch(ops.where, far, mul(sub(size, 0.5 * delta), delta), mul(_square_unless(far, gap), 0.5))
    return reduced(losses if weight is None else _weighted_by(losses, weight), reduction)


# -- probabilities ----------------------------------------------------------------------------------------------------


def _weighted(losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    return reduced(losses if weight is None else mul(losses, weight), reduction)


def _same_shape(name: str, input: Tensor, target: Tensor) -> None:
    if one_tensor(name, input)._type.shape != one_tensor(name, target)._type.shape:
        raise ShapeError(f"{name}: target {target._type} must have the shape of input {input._type}", where=user_line())


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """-(t log p + (1 - t) log(1 - p)), the logarithms cut at -100. Raises ShapeError if shapes differ, and
    RuntimeError for eager probabilities outside [0, 1]."""
    _same_shape("binary_cross_entropy", input, target)
    if active.tracer is None:
        p = dt.to_compute(input._data(), input.dtype)
        if p.size and not (p.min() >= 0 and p.max() <= 1):
            raise RuntimeError("binary_cross_entropy: all elements of input must lie in [0, 1]")
    losses = dispatch(ops.binary_cross_entropy, input, cast(target, input.dtype))
    return _weighted(losses, weight, reduction_of(reduction, size_average, reduce))


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     size_average: bool | None = None, reduce: bool | None = None,
                                     reduction: str = "mean", pos_weight: Tensor | None = None) -> Tensor:
    """binary_cross_entropy of sigmoid(input), without overflow: (1 - t) * x + softplus(-x), the second term weighted
    for positives by pos_weight."""
    _same_shape("binary_cross_entropy_with_logits", input, target)
    target = cast(target, input.dtype)
    soft = softplus_one(neg(input))
    if pos_weight is not None:
        soft = mul(soft, add(mul(sub(pos_weight, 1.0), target), 1.0))
    return _weighted(add(mul(sub(1.0, target), input), soft), weight, reduction_of(reduction, size_average, reduce))


def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
           reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target * (log target - input), for log-probabilities `input`; "batchmean" divides the sum by dim 0's size."""
    terms = mul(exp(target), sub(target, input)) if log_target else sub(xlogy(target, target), mul(target, input))
    if reduction == "batchmean":
        return div(sum_(terms), input._type.static_shape[0] if input.ndim else 1)
    return reduced(terms, reduction, size_average, reduce)


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False,
                     size_average: bool | None = None, eps: float = 1e-08, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """exp(input) - target * input (input - target * log(input + eps) unless log_input)."""
    losses = sub(exp(input), mul(target, input)) if log_input else sub(input, mul(target, log(add(input, eps))))
    if full:
        stirling = add(sub(mul(target, log(clamp(target, min=1e-30))), target),
                       mul(log(clamp(mul(target, 6.283185307179586), min=1e-30)), 0.5))
        large = dispatch(ops.gt, target, tensor_of(1, target.dtype))
        losses = add(losses, dispatch(ops.where, large, stirling, tensor_of(0, stirling.dtype)))
    return reduced(losses, reduction, size_average, reduce)


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-06,
                      reduction: str = "mean") -> Tensor:
    """(log var + (input - target)**2 / var) / 2, var being at least eps: a number, or in input's shape, whose last dim
    may be 1 or missing. Raises ValueError for another shape, and for eager variances below 0."""
    var = _variance(var, one_tensor("gaussian_nll_loss", input))
    gap, floor = sub(input, target), at_least(var, eps)
    losses = mul(add(log(floor), div(mul(gap, gap), floor)), 0.5)
    return reduced(add(losses, 0.9189385332046727) if full else losses, reduction)


def at_least(x: Tensor, least: float) -> Tensor:
    """max(x, least) with the gradient of x everywhere."""
    raised = add(sub(x, dispatch(ops.stop_gradient, x)), least)
    return dispatch(ops.where, dispatch(ops.lt, x, tensor_of(least, x.dtype)), raised, x)


def _variance(var: Tensor | float, input: Tensor) -> Tensor:
    if not isinstance(var, Tensor):
        if var < 0:
            raise ValueError("gaussian_nll_loss: var has negative entries")
        return tensor_of(var, input.dtype)
    shape, given = input._type.static_shape, var._type.static_shape
    if len(given) != len(shape) or given != shape:
        if len(given) == len(shape) - 1 and given == shape[:-1]:
            var = reshaped(var, (*given, 1))
        elif len(given) != len(shape) or given != (*shape[:-1], 1):
            raise ValueError(f"gaussian_nll_loss: var {var._type} does not fit input {input._type}")
    if active.tracer is None and (var._data() < 0).any():
        raise ValueError("gaussian_nll_loss: var has negative entries")
    return var


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll_loss", "huber_loss",
    "kl_div", "l1_loss", "linear_cross_entropy", "mse_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss",
]
public(globals(), __all__)
