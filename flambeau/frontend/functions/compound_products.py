"""Products made of others: Kronecker's, chains of matrices, sums of batches, the cross product."""
from __future__ import annotations

from typing import Any

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Number,
    broadcast_shapes,
    expanded,
    one_tensor,
    reshaped,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.elementwise import mul, sub
from flambeau.frontend.functions.joining import roll
from flambeau.frontend.functions.marks import in_place, method
from flambeau.frontend.functions.products import bmm, combined, mm
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.functions.views import clone
from flambeau.frontend.tensor.tensor import Tensor


@method
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker's product: each element of input times the whole of other; missing dims in front count as 1."""
    x, y = one_tensor("kron", input), one_tensor("kron", other)
    rank = max(x.ndim, y.ndim)
    sizes = [(1,) * (rank - t.ndim) + t._type.static_shape for t in (x, y)]
    wide = [tuple([n for size in each for n in ((size, 1), (1, size))[place]]) for place, each in enumerate(sizes)]
    product = mul(reshaped(x, wide[0]), reshaped(y, wide[1]))
    return reshaped(product, tuple([a * b for a, b in zip(*sizes, strict=True)]))


def chain_matmul(*matrices: Any) -> Tensor:
    """The product of matrices in the order that takes the fewest multiplications (Cormen et al., Introduction to
    Algorithms, section 15.2)."""
    given = matrices[0] if len(matrices) == 1 and isinstance(matrices[0], (list, tuple)) else matrices
    factors = [one_tensor("chain_matmul", m) for m in given]
    if not factors or any(m.ndim != 2 for m in factors):
        raise RuntimeError(f"chain_matmul: takes matrices, got {[str(m._type) for m in factors]}")
    return multiplied(factors) if len(factors) > 1 else clone(factors[0])


def multiplied(factors: list[Tensor]) -> Tensor:
    """The product of matrices, bracketed so that it costs least."""
    sizes = [m._type.static_shape[0] for m in factors] + [factors[-1]._type.static_shape[1]]
    count = len(factors)
    cost = {(i, i): (0, i) for i in range(count)}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i, j] = min((cost[i, k][0] + cost[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                             for k in range(i, j))

    def product(i: int, j: int) -> Tensor:
        if i == j:
            return factors[i]
        k = cost[i, j][1]
        return mm(product(i, k), product(k + 1, j))

    return product(0, count - 1)


@method
@in_place
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * (batch1 @ batch2 summed over the batch)."""
    return combined(input, sum_(bmm(batch1, batch2), 0), beta, alpha)


@method
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The cross product of vectors along dim, of size 3 (by default the first dim that has it), the rest broadcast."""
    x, y = one_tensor("cross", input), one_tensor("cross", other)
    if x.ndim != y.ndim:
        raise RuntimeError(f"cross: both operands need as many dims, got {x._type} and {y._type}")
    shape = broadcast_shapes(x._type.static_shape, y._type.static_shape, name="cross")
    if dim is None:
        dim = next((d for d, size in enumerate(x._type.static_shape) if size == 3), None)
        if dim is None:
            raise RuntimeError(f"cross: no dim of {x._type} has size 3")
    dim = wrap_dim(dim, x.ndim, "cross")
    if x._type.static_shape[dim] != 3 or y._type.static_shape[dim] != 3:
        raise ShapeError(f"cross: dim {dim} must have size 3, got {x._type} and {y._type}", where=user_line())
    x, y = expanded(x, shape), expanded(y, shape)
    return sub(mul(roll(x, -1, dim), roll(y, 1, dim)), mul(roll(x, 1, dim), roll(y, -1, dim)))


__all__ = ["addbmm", "chain_matmul", "cross", "kron"]
public(globals(), __all__)
