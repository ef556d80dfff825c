"""Layers that draw random numbers: dropout in all its forms, rrelu, gumbel_softmax."""
from __future__ import annotations

import math
from collections.abc import Callable

from flambeau.errors import ShapeError
from flambeau.frontend.functions.activations import applied, floats, leaky_relu
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Shape,
    cast,
    expanded,
    one_tensor,
    permuted,
    reshaped,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.distributions import keep_mask, uniform
from flambeau.frontend.functions.elementwise import add, choose, div, mul
from flambeau.frontend.functions.gathering import one_hot
from flambeau.frontend.functions.inplace import overwriting
from flambeau.frontend.functions.reductions import softmax
from flambeau.frontend.random import Generator
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

# -- dropout ----------------------------------------------------------------------------------------------------------


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *,
            generator: Generator | None = None) -> Tensor:
    """0 with probability p, else x / (1 - p); the input itself when not training or p is 0.

    Raises ValueError for p outside [0, 1]."""
    return _dropped(one_tensor("dropout", input), input._type.static_shape, p, training, inplace, generator)


def _dropped(x: Tensor, drawn: Shape, p: float, training: bool, inplace: bool,
             generator: Generator | None = None) -> Tensor:
    """One draw for each element of shape `drawn`, which broadcasts to x's."""
    p = _probability("dropout", p)
    if not training or p == 0.0:
        return x
    floats("dropout", x)
    keep = expanded(keep_mask(drawn, p, generator, place_like(x)), x._type.static_shape)
    scale, zero = tensor_of(1 / (1 - p) if p < 1 else 0.0, x._type.dtype), tensor_of(0, x._type.dtype)
    return applied(lambda x: dispatch(ops.where, keep, dispatch(ops.mul, x, scale), zero), x, inplace)


def _probability(name: str, p: float) -> float:
    p = float(p)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: probability has to be between 0 and 1, but got {p}")
    return p


def _whole(name: str, x: Tensor, lead: int) -> Shape:
    """The shape of a draw that the dims after the first `lead` share. Raises ShapeError when there are fewer."""
    if one_tensor(name, x).ndim < lead:
        raise ShapeError(f"{name}: takes {lead} dims or more, got {x._type}", where=user_line())
    shape = x._type.static_shape
    return (*shape[:lead], *(1,) * (len(shape) - lead))


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels of [N, C, L] or [C, L]."""
    if one_tensor("dropout1d", input).ndim not in (2, 3):
        raise ShapeError(f"dropout1d: takes 2 or 3 dims, got {input._type}", where=user_line())
    return _dropped(input, _whole("dropout1d", input, input.ndim - 1), p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels of [N, C, ...]: dim 0 is the batch, as in PyTorch, even if there are 3 dims."""
    return _dropped(input, _whole("dropout2d", input, 2), p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels of [N, C, D, H, W], or of [C, ...] with another number of dims."""
    lead = 2 if one_tensor("dropout3d", input).ndim == 5 else 1
    return _dropped(input, _whole("dropout3d", input, lead), p, training, inplace)


def feature_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels of [N, C, ...]."""
    return _dropped(input, _whole("feature_dropout", input, 2), p, training, inplace)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """dropout to selu's negative limit, scaled and shifted so that mean and variance stay."""
    return _alpha_dropped("alpha_dropout", input, lambda x: x._type.static_shape, p, training, inplace)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """alpha_dropout of whole channels of [N, C, ...]."""
    return _alpha_dropped("feature_alpha_dropout", input, lambda x: _whole("feature_alpha_dropout", x, 2), p, training,
                          inplace)


def _alpha_dropped(name: str, input: Tensor, drawn: Callable[[Tensor], Shape], p: float, training: bool,
                   inplace: bool) -> Tensor:
    """Klambauer et al., "Self-normalizing neural networks", 2017, section on alpha dropout."""
    x, p = one_tensor(name, input), _probability(name, p)
    if not training or p == 0.0:
        return x
    floats(name, x)
    limit = -1.7580993408473766             # -scale * alpha of selu
    a = 1 / math.sqrt((1 - p) * (1 + p * limit**2)) if p < 1 else 0.0
    keep = keep_mask(drawn(x), p, place=place_like(x))
    return applied(lambda x: add(mul(choose(keep, x, tensor_of(limit, x.dtype)), a), -a * limit * p), x, inplace)


# -- activations that draw --------------------------------------------------------------------------------------------


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False,
          *, generator: Generator | None = None) -> Tensor:
    """x above 0, slope * x below; each slope is drawn from [lower, upper) in training, else it is their mean.

    Raises RuntimeError unless lower <= upper, both finite."""
    if not lower <= upper or not math.isfinite(lower) or not math.isfinite(upper):
        raise RuntimeError(f"rrelu: lower {lower} must be at most upper {upper}, both finite")
    x = floats("rrelu", input)
    if not training:
        return leaky_relu(x, (lower + upper) / 2, inplace)
    slope = add(mul(uniform(x._type.static_shape, x.dtype, generator, place_like(x)), upper - lower), lower)
    return applied(lambda x: dispatch(ops.where, dispatch(ops.le, x, tensor_of(0, x.dtype)),
                                      dispatch(ops.mul, x, slope), x), x, inplace)


rrelu_ = overwriting(rrelu, "rrelu_")


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax((logits + Gumbel noise) / tau); hard: one-hot forward, the gradient of the soft one."""
    if not one_tensor("gumbel_softmax", logits).ndim:
        return reshaped(gumbel_softmax(reshaped(logits, (1,)), tau, hard, eps, dim), ())
    u = uniform(logits._type.static_shape, dt.f64, place=place_like(logits))
    waits = dispatch(ops.neg, dispatch(ops.log1p, dispatch(ops.neg, u)))
    noise = dispatch(ops.neg, dispatch(ops.log, dispatch(ops.maximum, waits, tensor_of(1e-300, dt.f64))))
    soft = softmax(div(add(logits, cast(noise, logits.dtype)), tau), dim)
    if not hard:
        return soft
    rank = soft.ndim
    best = one_hot(dispatch(ops.ArgMax(dim % rank), soft), soft._type.static_shape[dim])
    order = [*range(dim % rank), rank - 1, *range(dim % rank, rank - 1)]
    chosen = cast(permuted(best, order), soft.dtype)
    return add(chosen, add(soft, dispatch(ops.neg, dispatch(ops.stop_gradient, soft))))


__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout",
           "gumbel_softmax", "rrelu", "rrelu_"]
public(globals(), [*__all__, "feature_dropout"])
