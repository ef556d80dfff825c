"""What ops of linear algebra share: their types, their errors, and the parts of matrices that derivatives are written with.

Builder functions take values [B..., M, N] and see matrices in the last two dims.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.errors import LinAlgError
from flambeau.ir import dtypes
from flambeau.ir.dims import same_shape
from flambeau.ir.op import Op
from flambeau.ir.ops.sampling import draw
from flambeau.ir.ops.slices import Slice
from flambeau.ir.ops.views import Diagonal
from flambeau.ir.types import TensorType, parse_type

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

SINGULAR: Final = 3             # statuses of kernels
NOT_POSITIVE_DEFINITE: Final = 4
NO_INVERSE: Final = 5
NO_EIGENVALUES: Final = 6
NO_SINGULAR_VALUES: Final = 7
NOT_DIAGONALIZED: Final = 8
MESSAGES: Final = {
    SINGULAR: "linalg.solve: {which} is singular",
    NOT_POSITIVE_DEFINITE: "linalg.cholesky: {which} is not positive-definite: its leading minor of order {1} is not",
    NO_INVERSE: "linalg.inv: {which} is singular",
    NO_EIGENVALUES: "linalg.eigh: the algorithm did not converge on {which}, which may hold NaN or infinities",
    NOT_DIAGONALIZED: "linalg.eig: the algorithm did not converge on {which}, which may hold NaN or infinities",
    NO_SINGULAR_VALUES: "linalg.svd: the algorithm did not converge on {which}, which may hold NaN or infinities",
}

# -- types ------------------------------------------------------------------------------------------------------------


def matrices(op: Op, a: TensorType) -> TensorType:
    """A batch of matrices. Raises TypeInferenceError."""
    if a.dtype not in (dtypes.f32, dtypes.f64):
        raise op.fail(f"takes f32 or f64, found {a}")
    if a.rank < 2:
        raise op.fail(f"takes matrices, found {a}")
    return a


def square(op: Op, a: TensorType) -> TensorType:
    """A batch of square ones. Raises TypeInferenceError."""
    if a.dtype not in (dtypes.f32, dtypes.f64):
        raise op.fail(f"takes f32 or f64, found {a}")
    if a.rank < 2 or a.shape[-1] != a.shape[-2]:
        raise op.fail(f"takes square matrices, found {a}")
    return a


# -- parts ------------------------------------------------------------------------------------------------------------


def compared(b: Builder, x: Value, comparison: str) -> Value:
    """Where the row compares so with the column: "ge" is the lower triangle."""
    rank = len(x.shape)
    rows, columns = (b.broadcast(b.iota(x.shape[d], dtypes.i64), x.shape, (d,)) for d in (rank - 2, rank - 1))
    found: Value = getattr(b, comparison)(rows, columns)
    return found


def kept(b: Builder, x: Value, comparison: str) -> Value:
    """x where the row compares so with the column, 0 elsewhere: "le" keeps the upper triangle, "gt" what is below the
    diagonal."""
    found: Value = b.where(compared(b, x, comparison), x, b.scalar(0.0, x))
    return found


def identity(b: Builder, like: Value, rows: int, columns: int) -> Value:
    """Ones on the diagonal, in the batch and the dtype of `like`."""
    full = b.full(like.type.with_shape((*like.shape[:-2], rows, columns)), 1.0)
    return kept(b, full, "eq")


def with_diagonal(b: Builder, around: Value, diagonal: Value) -> Value:
    """A square matrix with another diagonal."""
    return Diagonal.embed(b, around, diagonal)


def diagonal(b: Builder, x: Value) -> Value:
    """The diagonal of a square matrix."""
    found: Value = b.emit(Diagonal(), x)
    return found


def part(b: Builder, x: Value, rows: slice, columns: slice) -> Value:
    """The matrices x[..., rows, columns]."""
    shape = x.shape
    starts = (*[0] * (len(shape) - 2), rows.start or 0, columns.start or 0)
    stops = (*shape[:-2], *[size if each.stop is None else each.stop
                            for each, size in zip((rows, columns), shape[-2:], strict=True)])
    if same_shape(starts, (0,) * len(shape)) and same_shape(stops, shape):
        return x
    found: Value = b.emit(Slice(starts, stops, (1,) * len(shape)), x)
    return found


def by_columns(b: Builder, x: Value, numbers: Value) -> Value:
    """x @ diag(numbers)."""
    rank = len(x.shape)
    found: Value = b.mul(x, b.broadcast(numbers, x.shape, (*range(rank - 2), rank - 1)))
    return found


def by_rows(b: Builder, x: Value, numbers: Value) -> Value:
    """diag(numbers) @ x."""
    found: Value = b.mul(x, b.broadcast(numbers, x.shape, tuple(range(len(x.shape) - 1))))
    return found


# -- rounding ---------------------------------------------------------------------------------------------------------


def unbounded(results: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """No bound on rounding: vectors of a matrix may be any others where its values lie close together."""
    return [np.full(r.shape, np.inf) for r in results]


def error_of_values(type: TensorType, a: np.ndarray, error: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    """Of eigenvalues of symmetric matrices, and of singular values: they move by no more than the matrix does, in norm
    (Weyl), which is roundings of the whole."""
    eps = float(np.finfo(type.dtype.storage).eps)
    off = eps * (8.0 + sum(type.static_shape[-2:])) * np.sqrt((a * a).sum(axis=(-2, -1)))
    if error is not None:
        off = off + np.sqrt((error * error).sum(axis=(-2, -1)))
    return np.broadcast_to(off[..., None], values.shape)


# -- errors -----------------------------------------------------------------------------------------------------------


def failure_message(status: int, matrices: int) -> str:
    """What a status means, for that many matrices; "{0}" and "{1}" stand for the details of a `LinAlgError`."""
    which = "matrix {0} of the batch" if matrices > 1 else "the matrix"
    return MESSAGES[status].replace("{which}", which)


def failure(status: int, shape: Sequence[int], *details: int) -> LinAlgError:
    """What to raise for matrices of this shape."""
    message = failure_message(status, math.prod(shape[:-2]))
    for number, detail in enumerate(details):
        message = message.replace(f"{{{number}}}", str(detail))
    return LinAlgError(message, status=status, details=(details[0], details[-1] if len(details) > 1 else 0))


def first_failing(function: object, a: np.ndarray) -> int:
    """The number of the first matrix of a batch on which NumPy's function raises."""
    assert callable(function), "a function of NumPy's"
    for number, matrix in enumerate(a.reshape(-1, *a.shape[-2:])):
        try:
            function(matrix)
        except np.linalg.LinAlgError:
            return number
    raise AssertionError("it raised on one of them")


# -- samples ----------------------------------------------------------------------------------------------------------


def well_conditioned(type: str, seed: int = 0) -> np.ndarray:
    """Matrices of that type which are symmetric and positive-definite, and far from singular."""
    parsed = parse_type(type)
    drawn, n = draw(parsed, seed=seed), parsed.static_shape[-1]
    return ((drawn + np.swapaxes(drawn, -1, -2)) / 2 + 2 * n * np.eye(n)).astype(parsed.dtype.storage)


def skewed(type: str) -> np.ndarray:
    """Matrices far from singular, and not symmetric."""
    return (well_conditioned(type) + draw(parse_type(type), seed=1)).astype(parse_type(type).dtype.storage)


def spread_out(type: str, seed: int = 0) -> np.ndarray:
    """Matrices of that type, square or not, whose singular values are far apart."""
    parsed = parse_type(type)
    drawn = draw(parsed, seed=seed)
    rows, columns = parsed.static_shape[-2:]
    steps = np.eye(rows, columns) * (1.0 + 3.0 * np.arange(columns))
    return (drawn / 2 + steps).astype(parsed.dtype.storage)
