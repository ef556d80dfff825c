"""Losses of pairs, triplets and margins: one number, or one per sample."""
from __future__ import annotations

from collections.abc import Callable

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.activations import logsigmoid
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    floating,
    one_tensor,
    own_dim,
    reshaped,
    spread,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.distances import pairwise_distance
from flambeau.frontend.functions.elementwise import add, choose, clamp, div, mul, sub
from flambeau.frontend.functions.losses import reduced
from flambeau.frontend.functions.pointwise import hypot, neg
from flambeau.frontend.functions.reductions import norm
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1, and their sum where it is neither."""
    zero = tensor_of(0, input.dtype)
    is_positive, is_negative = (dispatch(ops.eq, target, tensor_of(sign, target.dtype)) for sign in (1, -1))
    below_margin = choose(is_positive, zero, clamp(sub(margin, input), min=0.0))
    return reduced(add(below_margin, choose(is_negative, zero, input)), reduction, size_average, reduce)


def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
                        size_average: bool | None = None, reduce: bool | None = None,
                        reduction: str = "mean") -> Tensor:
    """max(0, margin - target * (input1 - input2)). Raises RuntimeError unless all have as many dims."""
    _same_rank("margin_ranking_loss", input1, input2, target)
    return reduced(clamp(add(neg(mul(target, sub(input1, input2))), margin), min=0.0), reduction, size_average, reduce)


def _same_rank(name: str, *tensors: Tensor) -> None:
    if len({one_tensor(name, t).ndim for t in tensors}) > 1:
        raise ShapeError(f"{name}: all must have as many dims, got {', '.join(str(t._type) for t in tensors)}",
                         where=user_line())


def soft_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target * input))."""
    return reduced(neg(logsigmoid(mul(target, input))), reduction, size_average, reduce)


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
                          size_average: bool | None = None, reduce: bool | None = None,
                          reduction: str = "mean") -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1. In cos, 1e-12 is added to squared norms.

    input1, input2: [N, D] with target [N], or [D] with a 0-d target."""
    rank = one_tensor("cosine_embedding_loss", target).ndim
    if rank > 1 or any(one_tensor("cosine_embedding_loss", x).ndim != rank + 1 for x in (input1, input2)):
        raise ShapeError(f"cosine_embedding_loss: a target of 1 dim goes with inputs of 2, one of 0 with inputs of 1; "
                         f"got {target._type} for {input1._type} and {input2._type}", where=user_line())
    x, y = floating("cosine_embedding_loss", input1, input2)
    x, y = (div(v, hypot(norm(v, 2, -1, keepdim=True), tensor_of(1e-6, v.dtype))) for v in (x, y))
    cosine = sum_(mul(x, y), -1)
    zero = tensor_of(0, cosine.dtype)
    like, unlike = (dispatch(ops.eq, target, tensor_of(sign, target.dtype)) for sign in (1, -1))
    return reduced(add(choose(like, sub(1.0, cosine), zero), choose(unlike, clamp(sub(cosine, margin), min=0.0), zero)),
                   reduction, size_average, reduce)


# -- triplets ---------------------------------------------------------------------------------------------------------


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-06, swap: bool = False, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin). swap: the distance of positive and negative instead,
    where it is less than the latter. Raises ValueError unless margin > 0."""
    return _triplet("triplet_margin_loss", lambda x, y: pairwise_distance(x, y, p, eps), anchor, positive, negative,
                    margin, swap, reduction, size_average, reduce)


def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *,
                                      distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Tensor:
    """triplet_margin_loss by a distance of the user's own; pairwise_distance by default."""
    return _triplet("triplet_margin_with_distance_loss", distance_function or pairwise_distance, anchor, positive,
                    negative, margin, swap, reduction)


def _triplet(name: str, distance: Callable[[Tensor, Tensor], Tensor], anchor: Tensor, positive: Tensor,
             negative: Tensor, margin: float, swap: bool, reduction: str, size_average: bool | None = None,
             reduce: bool | None = None) -> Tensor:
    if margin <= 0:
        raise ValueError(f"{name}: margin must be greater than 0, got {margin}")
    _same_rank(name, anchor, positive, negative)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = dispatch(ops.minimum, far, distance(positive, negative))
    return reduced(clamp(add(sub(near, far), margin), min=0.0), reduction, size_average, reduce)


# -- several classes --------------------------------------------------------------------------------------------------


def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
                      size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """The mean over classes i of max(0, margin - x[y] + x[i]) ** p, i being any class but the right one y.

    input: [N, C] or [C]; target: [N], or one class; weight: [C], by the right class. Raises ValueError for p other
    than 1 and 2, RuntimeError for a class out of range."""
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: only p == 1 and p == 2 are supported, got {p}")
    x = one_tensor("multi_margin_loss", input)
    if x.ndim > 2:
        raise ShapeError(f"multi_margin_loss: takes [N, C] or [C], got {x._type}", where=user_line())
    x = x if x.ndim == 2 else reshaped(x, (1, x.numel()))
    n, classes = shape = x._type.static_shape
    if target.numel() != n or target.ndim > 1:
        raise ShapeError(f"multi_margin_loss: input {input._type} takes one class for each of its {n} samples, got "
                         f"{target._type}", where=user_line())
    _check_classes("multi_margin_loss", target, 0, classes)
    right = cast(reshaped(target, (n, 1)), dt.i64)
    gaps = sub(x, spread(reshaped(dispatch(ops.TakeAlong(1), x, right), (n,)), shape, (0,)))
    terms = dispatch(ops.relu, add(gaps, margin))
    terms = dispatch(ops.mul, terms, terms) if p == 2 else terms
    if weight is not None:
        if weight._type.shape != (classes,):
            raise ShapeError(f"multi_margin_loss: weight {weight._type} has not the {classes} classes of input",
                             where=user_line())
        terms = dispatch(ops.mul, terms, spread(dispatch(ops.Take(0), weight, reshaped(right, (n,))), shape, (0,)))
    is_right = dispatch(ops.eq, spread(dispatch(ops.Iota(classes, dt.i64)), shape, (1,)),
                        spread(reshaped(right, (n,)), shape, (0,)))
    losses = div(sum_(choose(is_right, tensor_of(0, x.dtype), terms), 1), classes)
    return reduced(reshaped(losses, target._type.static_shape), reduction, size_average, reduce)


def _check_classes(name: str, target: Tensor, least: int, classes: int) -> None:
    if active.tracer is None and target.numel():
        data = target._data()
        if data.min() < least or data.max() >= classes:
            raise RuntimeError(f"{name}: target is out of range [{least}, {classes})")


def multilabel_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                           reduction: str = "mean") -> Tensor:
    """The sum of max(0, 1 - x[j] + x[i]) over right classes j and wrong ones i, over the number of classes.

    input: [N, C] or [C]; target: of its shape, the right classes of each sample before its first -1."""
    x, shape = one_tensor("multilabel_margin_loss", input), input._type.static_shape
    if x.ndim > 2 or target._type.shape != shape:
        raise ShapeError(f"multilabel_margin_loss: takes [N, C] or [C] and targets of that shape, got {x._type} and "
                         f"{target._type}", where=user_line())
    classes = shape[-1] if shape else 1
    _check_classes("multilabel_margin_loss", target, -1, classes)
    x, labels = (reshaped(t, (x.numel() // max(classes, 1), classes)) for t in (x, cast(target, dt.i64)))
    n = x._type.static_shape[0]
    ended = dispatch(ops.Cumsum(1), cast(dispatch(ops.lt, labels, tensor_of(0, dt.i64)), dt.i64))
    counts = dispatch(ops.eq, ended, tensor_of(0, dt.i64))
    labels = dispatch(ops.where, counts, labels, tensor_of(0, dt.i64))
    is_right = dispatch(ops.ScatterAlongAdd(classes, 1), labels, cast(counts, dt.i64))
    wide = (n, classes, classes)
    right = dispatch(ops.TakeAlong(1), x, labels)
    gaps = dispatch(ops.relu, add(sub(spread(x, wide, (0, 2)), spread(right, wide, (0, 1))), 1))
    wanted = dispatch(ops.logical_and, spread(counts, wide, (0, 1)),
                      spread(dispatch(ops.eq, is_right, tensor_of(0, dt.i64)), wide, (0, 2)))
    losses = div(sum_(choose(wanted, gaps, tensor_of(0, x.dtype)), (1, 2)), classes)
    return reduced(losses if len(shape) == 2 else reshaped(losses, ()), reduction, size_average, reduce)


def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                size_average: bool | None = None, reduce: bool | None = None,
                                reduction: str = "mean") -> Tensor:
    """The mean over classes (the last dim) of binary cross-entropies of sigmoid(input). weight: [C]."""
    dim = own_dim(one_tensor("multilabel_soft_margin_loss", input), -1, "multilabel_soft_margin_loss")
    if target._type.shape != input._type.shape:
        raise ShapeError(f"multilabel_soft_margin_loss: target {target._type} must have the shape of input "
                         f"{input._type}", where=user_line())
    losses = neg(add(mul(target, logsigmoid(input)), mul(sub(1, target), logsigmoid(neg(input)))))
    losses = losses if weight is None else mul(losses, weight)
    return reduced(div(sum_(losses, dim), input._type.static_shape[dim]), reduction, size_average, reduce)


__all__ = [
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]
public(globals(), __all__)
