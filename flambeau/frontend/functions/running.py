"""Running extremes and sums along a dim, differences of neighbours, and the areas under sampled curves."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    TensorLike,
    cast,
    is_number,
    one_tensor,
    own_dim,
    reshaped,
    spread,
    tensor_of,
    wrap_dim,
)
from flambeau.frontend.functions.elementwise import add, div, mul, sub
from flambeau.frontend.functions.joining import cat
from flambeau.frontend.functions.marks import method
from flambeau.frontend.functions.pointwise import ne
from flambeau.frontend.functions.reductions import ValuesAndIndices, cumsum
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.functions.views import clone, select, sliced
from flambeau.frontend.tape.dispatch import constant, dispatch
from flambeau.frontend.tape.moves import place_like, placed
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import as_size

# -- running ----------------------------------------------------------------------------------------------------------


@method
def cummax(input: Tensor, dim: int) -> ValuesAndIndices:
    """(the greatest of x[0] ... x[i] along dim, its i64 position there): of equal ones the last, and NaN is greatest."""
    return _running_extreme("cummax", input, dim, ops.gt)


@method
def cummin(input: Tensor, dim: int) -> ValuesAndIndices:
    """(the least of x[0] ... x[i] along dim, its i64 position there): of equal ones the last, and NaN is least."""
    return _running_extreme("cummin", input, dim, ops.lt)


def _running_extreme(name: str, input: Tensor, dim: int, beats: Any) -> ValuesAndIndices:
    """By doubling: after step k each place knows the extreme of the 2**k elements that end at it. The gradient goes to
    the element that was chosen."""
    x = one_tensor(name, input)
    dim = wrap_dim(dim, x.ndim, name)
    if not x.ndim:
        return ValuesAndIndices(clone(x), placed(constant(0, dt.i64), place_like(x)))
    size = x._type.static_shape[dim]
    best = cast(x, dt.u8) if x.dtype is dt.bool_ else dispatch(ops.stop_gradient, x)
    where = spread(dispatch(ops.Iota(size, dt.i64)), x._type.static_shape, (dim,))
    reach = 1
    while reach < size:
        before, here = sliced(best, dim, 0, size - reach), sliced(best, dim, reach, size)
        stays = dispatch(beats, before, here)
        if x.dtype.is_floating_point:
            only_before = dispatch(ops.logical_not, dispatch(ops.isnan, here))
            stays = dispatch(ops.logical_or, stays, dispatch(ops.logical_and, dispatch(ops.isnan, before), only_before))
        earlier = sliced(where, dim, 0, size - reach)
        where = _with_head(where, dim, reach, dispatch(ops.where, stays, earlier, sliced(where, dim, reach, size)))
        best = _with_head(best, dim, reach, dispatch(ops.where, stays, before, here))
        reach *= 2
    return ValuesAndIndices(dispatch(ops.TakeAlong(dim), x, where), clone(where))


def _with_head(x: Tensor, dim: int, count: int, rest: Tensor) -> Tensor:
    """The first `count` of x along dim, then the rest."""
    return dispatch(ops.Concat(dim), sliced(x, dim, 0, count), rest)


@method
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """log(exp(x[0]) + ... + exp(x[i])) along dim, without overflow on the way.

    By doubling, on pairs (greatest, sum of exp(x - greatest)); the sum alone carries the gradient. Raises RuntimeError
    for integers."""
    x = one_tensor("logcumsumexp", input)
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"logcumsumexp: takes floating-point tensors, got {x._type}")
    dim = wrap_dim(dim, x.ndim, "logcumsumexp")
    if not x.ndim:
        return clone(x)
    wide, size = cast(x, dt.f32) if x.dtype.itemsize == 2 else x, x._type.static_shape[dim]
    zero = tensor_of(0, wide.dtype)
    top = dispatch(ops.stop_gradient, wide)
    total = dispatch(ops.exp, dispatch(ops.where, dispatch(ops.isinf, wide), zero, dispatch(ops.sub, wide, top)))
    reach = 1
    while reach < size:
        before, here = sliced(top, dim, 0, size - reach), sliced(top, dim, reach, size)
        both = dispatch(ops.maximum, before, here)
        sums = [dispatch(ops.mul, part, _decay(each, both, zero)) for part, each in (
            (sliced(total, dim, 0, size - reach), before), (sliced(total, dim, reach, size), here))]
        total = _with_head(total, dim, reach, dispatch(ops.add, *sums))
        top = _with_head(top, dim, reach, both)
        reach *= 2
    return cast(dispatch(ops.add, top, dispatch(ops.log, total)), x.dtype)


def _decay(x: Tensor, top: Tensor, zero: Tensor) -> Tensor:
    """exp(x - top), 1 where they are equal, infinite ones too."""
    return dispatch(ops.exp, dispatch(ops.where, dispatch(ops.eq, x, top), zero, dispatch(ops.sub, x, top)))


# -- differences ------------------------------------------------------------------------------------------------------


@method
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None,
         append: Tensor | None = None) -> Tensor:
    """x[i+1] - x[i] along dim, n times over; of bools, whether they differ. prepend, append: joined on first.

    Raises RuntimeError for a negative n and a 0-d tensor."""
    x, n = one_tensor("diff", input), as_size(n)
    if not x.ndim or n < 0:
        raise RuntimeError(f"diff: takes 1 dim or more and an order n >= 0, got {x._type} and {n}")
    dim = wrap_dim(dim, x.ndim, "diff")
    if n == 0:
        return clone(x)
    if prepend is not None or append is not None:
        x = cat([t for t in (prepend, x, append) if t is not None], dim)
    for _ in range(min(n, x._type.static_shape[dim])):
        size = x._type.static_shape[dim]
        x = (ne if x.dtype is dt.bool_ else sub)(sliced(x, dim, 1, size), sliced(x, dim, 0, max(size - 1, 0)))
    return x if x is not input else clone(x)


def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """The slopes of sampled values along each of `dim` (all by default): central differences inside, one-sided ones of
    order `edge_order` (1 or 2) at both ends.

    spacing: a number, one number for each dim, or for each dim a vector of coordinates. Raises RuntimeError for too few
    samples along a dim."""
    x = one_tensor("gradient", input)
    named = range(x.ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = [own_dim(x, d, "gradient") for d in named]
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"gradient: a dim appears more than once in {tuple(dims)}")
    spacing = 1 if spacing is None else spacing
    steps = list(spacing) if isinstance(spacing, (tuple, list)) else [spacing] * len(dims)
    if len(steps) != len(dims):
        raise RuntimeError(f"gradient: expected a spacing for each of {len(dims)} dims, got {len(steps)}")
    if edge_order not in (1, 2):
        raise RuntimeError(f"gradient: edge_order must be 1 or 2, got {edge_order!r}")
    return tuple([_slopes(x, d, step, edge_order) for d, step in zip(dims, steps, strict=True)])


def _slopes(x: Tensor, dim: int, spacing: TensorLike, edge_order: int) -> Tensor:
    size = x._type.static_shape[dim]
    if size < edge_order + 1:
        raise RuntimeError(f"gradient: dim {dim} of {x._type} needs at least {edge_order + 1} samples")
    if isinstance(spacing, Tensor) and spacing.ndim:
        if spacing._type.static_shape != (size,):
            raise RuntimeError(f"gradient: the coordinates of dim {dim} of {x._type} must be a vector, "
                               f"got {spacing._type}")
        return _slopes_at(x, dim, diff(spacing), edge_order)
    rise = div(sub(sliced(x, dim, 2, size), sliced(x, dim, 0, size - 2)), mul(spacing, 2))
    if edge_order == 1:
        ends = [div(sub(sliced(x, dim, i + 1, i + 2), sliced(x, dim, i, i + 1)), spacing) for i in (0, size - 2)]
    else:
        ends = [div(_weighted(x, dim, start, weights), spacing)
                for start, weights in ((0, (-1.5, 2.0, -0.5)), (size - 3, (0.5, -2.0, 1.5)))]
    return cat([ends[0], rise, ends[1]], dim)


def _slopes_at(x: Tensor, dim: int, steps: Tensor, edge_order: int) -> Tensor:
    """The same over uneven steps: the slope of the parabola through three neighbours."""
    size, rank = x._type.static_shape[dim], x.ndim
    gaps = reshaped(steps, tuple([size - 1 if d == dim else 1 for d in range(rank)]))
    left, right = sliced(gaps, dim, 0, size - 2), sliced(gaps, dim, 1, size - 1)
    parts = [sliced(x, dim, i, size - 2 + i) for i in range(3)]
    both = add(left, right)
    inside = _sum_of(parts, (div(mul(right, -1), mul(left, both)), div(sub(right, left), mul(left, right)),
                             div(left, mul(right, both))))
    if edge_order == 1:
        ends = [div(sub(sliced(x, dim, i + 1, i + 2), sliced(x, dim, i, i + 1)), sliced(gaps, dim, i, i + 1))
                for i in (0, size - 2)]
        return cat([ends[0], inside, ends[1]], dim)
    ends = []
    for start, is_first in ((0, True), (size - 3, False)):
        a, b = sliced(gaps, dim, start, start + 1), sliced(gaps, dim, start + 1, start + 2)
        near, far = (a, b) if is_first else (b, a)
        span = add(near, far)
        weights = [div(mul(add(mul(near, 2), far), -1), mul(near, span)), div(span, mul(near, far)),
                   div(mul(near, -1), mul(far, span))]
        if not is_first:
            weights = [mul(w, -1) for w in reversed(weights)]
        ends.append(_sum_of([sliced(x, dim, start + i, start + i + 1) for i in range(3)], weights))
    return cat([ends[0], inside, ends[1]], dim)


def _weighted(x: Tensor, dim: int, start: int, weights: Sequence[float]) -> Tensor:
    return _sum_of([sliced(x, dim, start + i, start + i + 1) for i in range(3)], weights)


def _sum_of(parts: Sequence[Tensor], weights: Sequence[TensorLike]) -> Tensor:
    a, b, c = (mul(part, weight) for part, weight in zip(parts, weights, strict=True))
    return add(add(a, b), c)


# -- areas ------------------------------------------------------------------------------------------------------------


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: TensorLike = 1, dim: int = -1) -> Tensor:
    """The area under y along dim by the trapezoidal rule, over points x or steps of `dx`."""
    values, dim, steps = _curve("trapezoid", y, x, dx, dim)
    size = values._type.static_shape[dim]
    if isinstance(steps, Tensor) and steps.ndim:
        return div(sum_(mul(steps, _pair_sums(values, dim)), dim), 2)
    if not size:
        return sum_(values, dim)
    ends = mul(add(select(values, dim, 0), select(values, dim, -1)), 0.5)
    return mul(sub(sum_(values, dim), ends), steps)


def trapz(y: Tensor, x: Tensor | None = None, *, dx: TensorLike = 1, dim: int = -1) -> Tensor:
    """trapezoid()."""
    return trapezoid(y, x, dx=dx, dim=dim)


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: TensorLike = 1, dim: int = -1) -> Tensor:
    """The areas under y along dim up to each point but the first, by the trapezoidal rule."""
    values, dim, steps = _curve("cumulative_trapezoid", y, x, dx, dim)
    sums = _pair_sums(values, dim)
    if isinstance(steps, Tensor) and steps.ndim:
        return div(cumsum(mul(steps, sums), dim), 2)
    return mul(cumsum(sums, dim), div(steps, 2) if isinstance(steps, Tensor) else steps / 2)


def _curve(name: str, y: Tensor, x: Tensor | None, dx: TensorLike, dim: int) -> tuple[Tensor, int, Any]:
    """y, the dim, and the steps between points: a number, or a tensor that broadcasts with y's neighbouring pairs."""
    y = one_tensor(name, y)
    dim = own_dim(y, dim, name)
    if x is None:
        return y, dim, dx
    if is_number(x):
        raise TypeError(f"{name}: x must be a Tensor, got a number; pass dx= for the step")
    points = one_tensor(name, x)
    if points.dtype is dt.bool_ or y.dtype is dt.bool_:
        raise RuntimeError(f"{name}: takes no bools, got {y._type} and {points._type}")
    size = y._type.static_shape[dim]
    if points.ndim == 1:
        if points.numel() != size:
            raise RuntimeError(f"{name}: there must be a point for each of {size} values along dim {dim}, "
                               f"got {points._type}")
        shape = tuple([size if d == dim else 1 for d in range(y.ndim)])
    else:
        shape = (1,) * (y.ndim - points.ndim) + points._type.static_shape
    return y, dim, diff(reshaped(points, shape), dim=dim - y.ndim)


def _pair_sums(y: Tensor, dim: int) -> Tensor:
    size = y._type.static_shape[dim]
    return add(sliced(y, dim, 1, max(size, 1)) if size else y, sliced(y, dim, 0, max(size - 1, 0)))


__all__ = ["cummax", "cummin", "cumulative_trapezoid", "diff", "gradient", "logcumsumexp", "trapezoid", "trapz"]
public(globals(), __all__)
