"""Products of vectors, matrices and tensors. All end in one op: [B..., M, K] x [B..., K, N]."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Number,
    broadcast_shapes,
    cast,
    expanded,
    is_number,
    one_tensor,
    permuted,
    promoted,
    reshaped,
    result_type,
    spread,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.elementwise import add, mul
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.functions.views import diagonal
from flambeau.frontend.scalars import forced
from flambeau.frontend.tape.dispatch import dispatch, dispatch_view
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import by_whom
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import Dim, same


def _same_dtype(name: str, *tensors: Tensor) -> None:
    first = one_tensor(name, tensors[0])
    for t in tensors[1:]:
        if one_tensor(name, t)._type.dtype is not first._type.dtype:
            raise RuntimeError(f"{name}: operands must have one dtype, got {first.dtype!r} and {t.dtype!r}; "
                               "cast one with .to(dtype)")


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product over the last two dims, the others broadcast; a 1-d operand is a row on the left and a
    column on the right, and its dim disappears.

    Raises RuntimeError for different dtypes, ShapeError if the contracted dims differ."""
    _same_dtype("matmul", input, other)
    a, b = input._type.static_shape, other._type.static_shape
    if not a or not b:
        raise ShapeError(f"matmul: both operands need a dim, got {input._type} and {other._type}", where=user_line())
    inner = b[0] if len(b) == 1 else b[-2]
    if a[-1] != inner:
        raise ShapeError(f"{by_whom('matmul')}: contracting dims differ: lhs {input._type} dim {len(a) - 1} is {a[-1]}, "
                         f"rhs {other._type} dim {max(len(b) - 2, 0)} is {inner}", where=user_line(),
                         hint="did you mean rhs.mT?" if len(b) > 1 and b[-1] == a[-1] else None)
    if len(b) <= 2:
        return _by_matrix(input, other)
    if len(a) == 1:
        found = _batched(reshaped(input, (1, *a)), other)
        shape = found._type.static_shape
        return reshaped(found, (*shape[:-2], shape[-1]))
    return _batched(input, other)


_product = matmul                           # which autocast leaves alone, as PyTorch's does products with a vector


def _by_matrix(x: Tensor, w: Tensor) -> Tensor:
    """[..., K] x [K, N] or [K]: all rows of x as one matrix."""
    a, b = x._type.static_shape, w._type.static_shape
    rows = x if len(a) == 2 else reshaped(x, (math.prod(a[:-1]), a[-1]))
    columns = w if len(b) == 2 else reshaped(w, (b[0], 1))
    return reshaped(dispatch(ops.matmul, rows, columns), (*a[:-1], *b[1:]))


def _batched(x: Tensor, y: Tensor) -> Tensor:
    a, b = x._type.static_shape, y._type.static_shape
    batch = broadcast_shapes(a[:-2], b[:-2], name="matmul")
    return dispatch(ops.matmul, expanded(x, (*batch, *a[-2:])), expanded(y, (*batch, *b[-2:])))


def _of_rank(name: str, *pairs: tuple[Tensor, int]) -> None:
    for t, rank in pairs:
        if one_tensor(name, t).ndim != rank:
            raise ShapeError(f"{name}: expected a tensor of {rank} dims, got {t._type}", where=user_line())


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The matrix product [M, K] x [K, N] -> [M, N]. Raises ShapeError for other ranks and for K that differ,
    RuntimeError for two dtypes."""
    _of_rank("mm", (input, 2), (mat2, 2))
    return matmul(input, mat2)


spmm = mm                   # of dense matrices; there are no others


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """[B, M, K] x [B, K, N]; the batch does not broadcast."""
    _of_rank("bmm", (input, 3), (mat2, 3))
    _same_dtype("bmm", input, mat2)
    if input.shape[0] != mat2.shape[0]:
        raise ShapeError(f"bmm: batch sizes differ: {input._type} and {mat2._type}", where=user_line())
    return matmul(input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """A matrix times a vector: [M, K] x [K] -> [M]. Raises ShapeError for other ranks and for K that differ."""
    _of_rank("mv", (input, 2), (vec, 1))
    return _product(input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of the products of two vectors: [K] x [K] -> a 0-d tensor. Raises ShapeError for other ranks and lengths."""
    _of_rank("dot", (input, 1), (tensor, 1))
    return _product(input, tensor)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """[K] x [K] -> a number; a complex input is conjugated."""
    _of_rank("vdot", (input, 1), (other, 1))
    return matmul(input, other)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """The products summed over both last dims."""
    if not input.ndim or not other.ndim:
        return mul(input, other)
    return tensordot(input, other, dims=([-1], [-1]))


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Every product of an element of one vector and one of the other: [M] and [N] -> [M, N]. Raises ShapeError for other
    ranks."""
    _of_rank("outer", (input, 1), (vec2, 1))
    return mul(reshaped(input, (*input._type.static_shape, 1)), vec2)


ger = outer


def combined(input: Tensor, product: Tensor, beta: Number, alpha: Number) -> Tensor:
    """beta * input + alpha * product; of integers the factors are cut to integers."""
    if product._type.dtype is dt.bool_:
        beta, alpha = bool(forced(beta)), bool(forced(alpha))
    elif product._type.dtype.is_integer:
        beta, alpha = int(forced(beta)), int(forced(alpha))
    if not _is_one(alpha):
        product = mul(product, alpha)
    if is_number(beta) and not hasattr(beta, "force") and beta == 0:
        return product                      # whatever input holds, NaN too
    return add(input if _is_one(beta) else mul(input, beta), product)


def _is_one(value: Number) -> bool:
    return type(value) in (int, float) and value == 1


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * mat1 @ mat2."""
    return combined(input, mm(mat1, mat2), beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * mat @ vec."""
    return combined(input, mv(mat, vec), beta, alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * batch1 @ batch2."""
    return combined(input, bmm(batch1, batch2), beta, alpha)


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)."""
    return combined(input, outer(vec1, vec2), beta, alpha)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias. input: [..., in]; weight: [out, in] or [in]; bias: [out] or a number."""
    _same_dtype("linear", input, weight)
    w = weight._type.static_shape
    if not weight.ndim:
        raise ShapeError(f"linear: weight must be [out, in] or [in], got {weight._type}", where=user_line())
    if not input.ndim or input._type.shape[-1] != w[-1]:
        raise ShapeError(f"linear: input {input._type} must end in {w[-1]}, the input features of weight "
                         f"{weight._type}", where=user_line())
    a = input._type.static_shape
    flat = len(a) == 2 or len(w) != 2
    rows = input if flat else reshaped(input, (math.prod(a[:-1]), a[-1]))
    y = matmul(rows, permuted(weight, (1, 0)) if len(w) == 2 else weight)
    if bias is not None:
        if isinstance(bias, Tensor) and len(w) == 2 and bias._type.shape not in ((), (1,), w[:1]):
            raise ShapeError(f"linear: bias {bias._type} must be of shape ({w[0]},) for weight {weight._type}",
                             where=user_line())
        y = add(y, bias)
    return y if flat else reshaped(y, (*a[:-1], w[0]))


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input1 @ weight[o] @ input2 for each o, plus bias. input1: [..., in1]; input2: [..., in2]; weight: [out, in1, in2];
    bias: [out]; result: [..., out]. Raises RuntimeError if shapes or dtypes differ."""
    _same_dtype("bilinear", input1, input2)
    _same_dtype("bilinear", input1, weight)
    a, b, w = input1._type.static_shape, input2._type.static_shape, weight._type.static_shape
    if not a or len(w) != 3 or a[:-1] != b[:-1] or (a[-1], b[-1]) != w[1:]:
        raise ShapeError(f"bilinear: takes [..., in1], [..., in2] and a weight [out, in1, in2], got {input1._type}, "
                         f"{input2._type} and {weight._type}", where=user_line())
    if bias is not None and bias._type.shape != w[:1]:
        raise ShapeError(f"bilinear: bias {bias._type} must have one element for each of {w[0]} outputs",
                         where=user_line())
    rows = math.prod(a[:-1])
    pairs = mul(reshaped(input1, (rows, a[-1], 1)), reshaped(input2, (rows, 1, b[-1])))
    y = linear(reshaped(pairs, (rows, a[-1] * b[-1])), reshaped(weight, (w[0], w[1] * w[2])), bias)
    return reshaped(y, (*a[:-1], w[0]))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """The products summed over pairs of dims: the last of a with the first of b (an int), or two lists of dims."""
    _same_dtype("tensordot", a, b)
    if isinstance(dims, (int, Dim)):
        dims = int(dims)
        lhs, rhs = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        lhs, rhs = ([wrap_dim(d, t.ndim, "tensordot") for d in (given if isinstance(given, (list, tuple)) else [given])]
                    for t, given in zip((a, b), dims, strict=True))
    sizes = [[t._type.static_shape[d] for d in each] for t, each in ((a, lhs), (b, rhs))]
    if any(not same(m, n) and m != n and 1 not in (m, n) for m, n in zip(*sizes, strict=True)):
        raise ShapeError(f"tensordot: contracted dims differ: {sizes[0]} of {a._type}, {sizes[1]} of {b._type}",
                         where=user_line())
    a, b = (_summed_where_other_is_1(t, own, other) for t, own, other in ((a, lhs, [b._type.static_shape[d] for d in rhs]),
                                                                          (b, rhs, [a._type.static_shape[d] for d in lhs])))
    free_a, free_b = ([d for d in range(t.ndim) if d not in each] for t, each in ((a, lhs), (b, rhs)))
    k = math.prod([m if same(m, n) else min(m, n) for m, n in zip(*sizes, strict=True)])
    shape_a, shape_b = ([t._type.static_shape[d] for d in each] for t, each in ((a, free_a), (b, free_b)))
    x = reshaped(permuted(a, (*free_a, *lhs)), (math.prod(shape_a), k))
    y = reshaped(permuted(b, (*rhs, *free_b)), (k, math.prod(shape_b)))
    return reshaped(dispatch(ops.matmul, x, y), (*shape_a, *shape_b))


def _summed_where_other_is_1(x: Tensor, dims: Sequence[int], other: Sequence[int]) -> Tensor:
    """x with those dims summed, and kept, that meet a size of 1: as PyTorch broadcasts them."""
    gone = tuple(sorted(d for d, size in zip(dims, other, strict=True)
                        if not same(size, x._type.static_shape[d]) and size == 1 and x._type.static_shape[d] != 1))
    return sum_(x, gone, True) if gone else x


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    _of_rank("trace", (input, 2))
    return sum_(diagonal(input))


# -- einsum -----------------------------------------------------------------------------------------------------------

_Term = tuple[Tensor, str]                  # a tensor and the label of each of its dims


def einsum(equation: Any, *operands: Any) -> Tensor:
    """The Einstein sum: "bij,bjk->bik" multiplies, then sums the labels missing on the right. `...` broadcasts. Also with
    lists of numbers for labels: einsum(x, [0, 1, 2], y, [0, 2, 3], [0, 1, 3]).

    Operands are contracted in pairs from the left. Raises RuntimeError for an equation that makes no sense, and for
    different dtypes where products are summed."""
    given: Sequence[Tensor] = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    if isinstance(equation, Tensor):
        equation, given = _from_lists((equation, *operands))
    inputs, output = _parsed(equation, given)
    sizes: dict[str, int] = {}
    terms = [_single(one_tensor("einsum", x), labels, sizes, equation)
             for x, labels in zip(given, inputs, strict=True)]
    missing = [label for label in output if label not in sizes]
    if missing:
        raise RuntimeError(f"einsum: label {missing[0]!r} of the output is in no operand of {equation!r}")
    x, labels = terms[0]
    for number, (y, other) in enumerate(terms[1:], 1):
        needed = set(output).union(*[rest for _, rest in terms[number + 1:]])
        x, labels = _pair((x, labels), (y, other), needed, sizes)
    x, labels = _summed(x, labels, set(output))
    shape = tuple([sizes[label] for label in output])
    x = permuted(x, [labels.index(label) for label in output])
    found = expanded(x, shape)
    if any(found is operand for operand in given):              # a view, not the same tensor
        return dispatch_view(ops.Permute(tuple(range(found.ndim))), found)
    return found


_LABELS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _from_lists(parts: tuple[Any, ...]) -> tuple[str, list[Tensor]]:
    """tensor, labels, tensor, labels, ... and perhaps the result's labels: as an equation and the tensors."""
    def spelt(labels: Any) -> str:
        if not isinstance(labels, (list, tuple)) or any(
                label is not Ellipsis and not (isinstance(label, int) and 0 <= label < len(_LABELS)) for label in labels):
            raise ValueError(f"einsum: labels are lists of numbers in [0, {len(_LABELS)}) and Ellipsis, got {labels!r}")
        return "".join("..." if label is Ellipsis else _LABELS[label] for label in labels)

    pairs = len(parts) // 2
    operands = [one_tensor("einsum", x) for x in parts[:2 * pairs:2]]
    equation = ",".join(spelt(labels) for labels in parts[1:2 * pairs:2])
    return (f"{equation}->{spelt(parts[-1])}" if len(parts) % 2 else equation), operands


def _parsed(equation: str, operands: Sequence[Tensor]) -> tuple[list[str], str]:
    """Labels of each operand and of the output, the ellipses replaced by labels of their own."""
    if not isinstance(equation, str):
        raise TypeError(f"einsum: argument 'equation' must be a str, got {type(equation).__name__}")
    operands = [one_tensor("einsum", x) for x in operands]
    left, arrow, right = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise RuntimeError(f"einsum: {equation!r} names {len(inputs)} operands, got {len(operands)}")
    hidden = 0
    found = []
    for text, x in zip(inputs, operands, strict=True):
        count = x.ndim - len(text.replace("...", ""))
        if count < 0 or (count and "..." not in text):
            raise RuntimeError(f"einsum: {text!r} in {equation!r} names {len(text.replace('...', ''))} dims, the "
                               f"operand is {x._type}")
        hidden = max(hidden, count)
        found.append((text, count))
    marks = "".join(chr(0x2460 + i) for i in range(hidden))         # labels that no equation can name
    expanded_inputs = [text.replace("...", marks[hidden - count:]) for text, count in found]
    if not arrow:
        once = [c for c in sorted(set(left)) if c.isalpha() and left.count(c) == 1]
        return expanded_inputs, marks + "".join(once)
    output = right.replace("...", marks)
    if any(not c.isalpha() and c not in marks for c in "".join(expanded_inputs) + output) \
            or len(set(output)) != len(output):
        raise RuntimeError(f"einsum: {equation!r}: labels are letters, each at most once in the output")
    return expanded_inputs, output


def _single(x: Tensor, labels: str, sizes: dict[str, int], equation: str) -> _Term:
    """An operand with repeated labels taken as diagonals; its sizes are noted. A size of 1 broadcasts."""
    while len(set(labels)) < len(labels):
        label = next(c for c in labels if labels.count(c) > 1)
        first = labels.index(label)
        second = labels.index(label, first + 1)
        x = diagonal(x, 0, first, second)
        labels = labels[:first] + labels[first + 1:second] + labels[second + 1:] + label
    for label, size in zip(labels, x._type.static_shape, strict=True):
        known = sizes.setdefault(label, size)
        if same(size, known):
            continue
        if size != known and 1 not in (size, known):
            raise ShapeError(f"einsum: label {label!r} in {equation!r} stands for sizes {known} and {size}",
                             where=user_line())
        sizes[label] = max(size, known) if 0 not in (size, known) else 0
    return x, labels


def _summed(x: Tensor, labels: str, needed: set[str]) -> _Term:
    """Labels that nobody needs any more are summed away."""
    gone = [d for d, label in enumerate(labels) if label not in needed]
    if not gone:
        return x, labels
    return dispatch(ops.Sum(tuple(gone)), x), "".join(c for c in labels if c in needed)


def _pair(lhs: _Term, rhs: _Term, needed: set[str], sizes: dict[str, int]) -> _Term:
    """Two operands as one, over the labels still needed."""
    x, a = _summed(*lhs, needed | set(rhs[1]))
    y, b = _summed(*rhs, needed | set(lhs[1]))
    both = [c for c in a if c in b]
    x, y = _grown(x, a, both, sizes), _grown(y, b, both, sizes)
    batch, k = [c for c in both if c in needed], [c for c in both if c not in needed]
    m, n = [c for c in a if c not in both], [c for c in b if c not in both]
    if not k:
        order = [*batch, *m, *n]
        shape = tuple([(x._type.static_shape[a.index(c)] if c in a else y._type.static_shape[b.index(c)])
                       for c in order])
        found = [spread(permuted(t, [labels.index(c) for c in order if c in labels]), shape,
                        [d for d, c in enumerate(order) if c in labels]) for t, labels in ((x, a), (y, b))]
        return dispatch(ops.mul, *promoted("einsum", *found)), "".join(order)
    if x._type.dtype is not y._type.dtype and all(sizes[c] == 1 for c in k):
        dtype = result_type(x, y)           # promoted where one product is the sum
        x, y = cast(x, dtype), cast(y, dtype)
    _same_dtype("einsum", x, y)
    return _contracted(x, a, y, b, (batch, m, k, n))


def _grown(x: Tensor, labels: str, both: list[str], sizes: dict[str, int]) -> Tensor:
    """Shared labels of size 1 expanded to the other operand's size."""
    shape = tuple([sizes[c] if c in both else s for c, s in zip(labels, x._type.static_shape, strict=True)])
    return expanded(x, shape)


def _contracted(x: Tensor, a: str, y: Tensor, b: str, groups: tuple[list[str], ...]) -> _Term:
    """One matrix product: [batch, m, k] x [batch, k, n]."""
    batch, m, k, n = groups
    lhs = permuted(x, [a.index(c) for c in (*batch, *m, *k)])
    rhs = permuted(y, [b.index(c) for c in (*batch, *k, *n)])
    size = dict(zip(a, x._type.static_shape, strict=True)) | dict(zip(b, y._type.static_shape, strict=True))
    sizes = [[size[c] for c in group] for group in groups]
    total = [math.prod(each) for each in sizes]
    lead = tuple(sizes[0])
    product = dispatch(ops.matmul, reshaped(lhs, (*lead, total[1], total[2])),
                       reshaped(rhs, (*lead, total[2], total[3])))
    return reshaped(product, (*lead, *sizes[1], *sizes[3])), "".join((*batch, *m, *n))


__all__ = ["addmm", "addmv", "addr", "baddbmm", "bilinear", "bmm", "dot", "einsum", "ger", "inner", "matmul", "mm", "mv",
           "outer", "spmm", "tensordot", "trace", "vdot"]
public(globals(), [*__all__, "linear"])
