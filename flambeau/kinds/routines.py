"""The functions that the kind "library" calls: for each what it means, an op, and how Fortran routines compute it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Final, Literal

from flambeau.ir import ops
from flambeau.ir.op import Op
from flambeau.ir.ops.matrices import (
    NO_EIGENVALUES,
    NO_INVERSE,
    NO_SINGULAR_VALUES,
    NOT_DIAGONALIZED,
    NOT_POSITIVE_DEFINITE,
    SINGULAR,
)
from flambeau.ir.records import dataclass


@dataclass(frozen=True)
class Array:
    """What a routine works on: scratch memory of a matrix, in columns, or of a vector. rows, columns: expressions of a
    function's dims, such as "n" or "3*n+1". loads: the operand it starts as. gives: the result it becomes; of a triangle
    that is kept the other one becomes zeros. holds: integers are as wide as the library has them, and i32 as results."""

    rows: str
    columns: str = "1"
    loads: int | None = None
    gives: int | None = None
    keeps: Literal["all", "lower", "upper"] = "all"
    holds: Literal["elements", "integers"] = "elements"

    def shape(self, batch: int, value: Mapping[str, int]) -> tuple[int, ...]:
        """Of all of them, as an op has it. value: of its expressions."""
        return (batch, value[self.rows]) if self.columns == "1" else (batch, value[self.rows], value[self.columns])


@dataclass(frozen=True)
class Function:
    """op: what it means. dims: (name, operand, dim of that operand) of each size that arrays depend on; of two dims, the
    smaller. calls: Fortran calls, without the letter for the dtype; an argument is an array, 'a letter', an expression, a
    number with a point, or `info`, which is 0 for success. Without calls NumPy's meaning of the op computes it. fails: the
    status that another info becomes, with the number of the matrix and info as details. An array called info is no failure,
    but a result; what other arrays give is NaN then, unless gives_failed. numbers: an array whose diagonal holds numbers if
    the call succeeded (not every routine sees NaN); of a vector, all."""

    op: Op
    dims: tuple[tuple[str, int, int | tuple[int, int]], ...]
    arrays: Mapping[str, Array]
    calls: tuple[str, ...]
    fails: int | None = None
    numbers: str | None = None
    gives_failed: bool = False

    @property
    def operands(self) -> list[Array]:
        """The array that each operand fills."""
        return self._placed([(array.loads, array) for array in self.arrays.values()])

    @property
    def results(self) -> list[Array]:
        """The array that each result comes from."""
        return self._placed([(array.gives, array) for array in self.arrays.values()])

    def _placed(self, found: Sequence[tuple[int | None, Array]]) -> list[Array]:
        placed = {number: array for number, array in found if number is not None}
        return [placed[number] for number in range(len(placed))]

    @property
    def sizes(self) -> tuple[str, ...]:
        """Every expression that the code of this function needs the value of, each once."""
        of_arrays = chain.from_iterable([(a.rows, a.columns) for a in self.arrays.values()])
        passed = [a for call in self.calls for a in arguments_of(call) if self._is_size(a)]
        return tuple(dict.fromkeys([*of_arrays, *passed]))

    def extent(self, shapes: Sequence[Sequence[int]], number: int) -> int:
        """The size of dim `number`, for operands of these shapes."""
        _, operand, dim = self.dims[number]
        return min([shapes[operand][d] for d in dim]) if isinstance(dim, tuple) else shapes[operand][dim]

    def batch(self, shapes: Sequence[Sequence[int]]) -> int:
        """How many matrices, or vectors, there are, for operands of these shapes."""
        return prod(shapes[0][:-1 if self.operands[0].columns == "1" else -2])

    def _is_size(self, argument: str) -> bool:
        return argument not in self.arrays and argument != "info" and argument[0] != "'" and "." not in argument


def arguments_of(call: str) -> list[str]:
    """`gesv(n, k, a)` -> n, k, a."""
    return [argument.strip() for argument in call.partition("(")[2].rstrip(")").split(",")]


def value_of(expression: str, sizes: Mapping[str, int]) -> int:
    """`3*n+1`, or `n/2+1`, rounded down, in numbers."""
    return sum(prod(_factor(factor, sizes) for factor in term.split("*")) for term in expression.split("+"))


def _factor(text: str, sizes: Mapping[str, int]) -> int:
    name, _, divisor = text.partition("/")
    return (sizes[name] if name in sizes else int(name)) // int(divisor or 1)


_EQUATIONS: Final = (("n", 0, -1), ("k", 1, -1))
_SOLVING: Final = {"a": Array("n", "n", loads=0), "b": Array("n", "k", loads=1, gives=0)}
_OBLONG: Final = (("m", 0, -2), ("n", 0, -1), ("k", 0, (-2, -1)))
_UNSEEN: Final = {"status": Array("1", holds="integers")}           # an info that is always 0


def _triangular(triangle: str, diagonal: str, op: Op) -> Function:
    return Function(op, _EQUATIONS, _SOLVING, (f"trsm('L', '{triangle}', 'N', '{diagonal}', n, k, 1.0, a, n, b, n)",))


def _symmetric(op: Op, letter: str, work: str, integers: str, vectors: int | None) -> Function:
    arrays = {"a": Array("n", "n", loads=0, gives=vectors), "w": Array("n", gives=0), "work": Array(work),
              "integers": Array(integers, holds="integers")}
    return Function(op, (("n", 0, -1),), arrays,
                    (f"syevd('{letter}', 'L', n, a, n, w, work, {work}, integers, {integers}, info)",),
                    fails=NO_EIGENVALUES, numbers="w")


def _singular(op: Op, letter: str, u: tuple[str, str], vh: tuple[str, str], work: str) -> Function:
    gives = letter != "N"
    arrays = {"a": Array("m", "n", loads=0), "u": Array(*u, gives=0 if gives else None),
              "s": Array("k", gives=1 if gives else 0), "vh": Array(*vh, gives=2 if gives else None),
              "work": Array(work), "integers": Array("8*k", holds="integers")}
    return Function(op, _OBLONG, arrays,
                    (f"gesdd('{letter}', m, n, a, m, s, u, {u[0]}, vh, {vh[0]}, work, {work}, integers, info)",),
                    fails=NO_SINGULAR_VALUES, numbers="s")


def _swaps(inverse: bool) -> Function:
    return Function(ops.RowSwaps(inverse), (("m", 0, -2), ("n", 0, -1), ("k", 1, -1)),
                    {"x": Array("m", "n", loads=0, gives=0), "pivots": Array("k", loads=1, holds="integers")},
                    (f"laswp(n, x, m, 1, k, pivots, {-1 if inverse else 1})",))


_WITH_VECTORS: Final = "4*k*k+7*k+65*m+65*n"
FUNCTIONS: Final[dict[str, Function]] = {
    "solve": Function(
        ops.Solve(), _EQUATIONS, _SOLVING | {"pivots": Array("n", holds="integers")},
        ("gesv(n, k, a, n, pivots, b, n, info)",), fails=SINGULAR),
    "solve_ex": Function(
        ops.SolveEx(), _EQUATIONS,
        _SOLVING | {"pivots": Array("n", holds="integers"), "info": Array("1", gives=1, holds="integers")},
        ("gesv(n, k, a, n, pivots, b, n, info)",)),
    "inverse": Function(
        ops.Inverse(), (("n", 0, -1),),
        {"a": Array("n", "n", loads=0), "x": Array("n", "n", gives=0), "pivots": Array("n", holds="integers")},
        ("laset('A', n, n, 0.0, 1.0, x, n)", "gesv(n, n, a, n, pivots, x, n, info)"), fails=NO_INVERSE),
    "solve_lower": _triangular("L", "N", ops.SolveTriangular(upper=False)),
    "solve_upper": _triangular("U", "N", ops.SolveTriangular(upper=True)),
    "solve_unit_lower": _triangular("L", "U", ops.SolveTriangular(upper=False, unit=True)),
    "solve_unit_upper": _triangular("U", "U", ops.SolveTriangular(upper=True, unit=True)),
    "cholesky": Function(
        ops.Cholesky(), (("n", 0, -1),), {"a": Array("n", "n", loads=0, gives=0, keeps="lower")},
        ("potrf('L', n, a, n, info)",), fails=NOT_POSITIVE_DEFINITE, numbers="a"),
    "cholesky_ex": Function(
        ops.CholeskyEx(), (("n", 0, -1),),
        {"a": Array("n", "n", loads=0, gives=0, keeps="lower"), "info": Array("1", gives=1, holds="integers")},
        ("potrf('L', n, a, n, info)",), numbers="a"),
    "lu": Function(
        ops.Lu(), _OBLONG,
        {"a": Array("m", "n", loads=0, gives=0), "pivots": Array("k", gives=1, holds="integers"),
         "info": Array("1", gives=2, holds="integers")},
        ("getrf(m, n, a, m, pivots, info)",), gives_failed=True),
    "row_swaps": _swaps(inverse=False),
    "row_swaps_back": _swaps(inverse=True),
    "geqrf": Function(
        ops.Geqrf(), _OBLONG,
        {"a": Array("m", "n", loads=0, gives=0), "tau": Array("k", gives=1), "work": Array("64*n")} | _UNSEEN,
        ("geqrf(m, n, a, m, tau, work, 64*n, status)",)),
    "eigh": _symmetric(ops.Eigh(), "V", "1+6*n+2*n*n", "3+5*n", vectors=1),
    "eigvalsh": _symmetric(ops.Eigvalsh(), "N", "1+2*n", "1", vectors=None),
    "eig": Function(
        ops.Eig(), (("n", 0, -1),),
        {"re": Array("n", "n", loads=0), "im": Array("n", "n", loads=1), "values_re": Array("n", gives=0),
         "values_im": Array("n", gives=1), "vectors_re": Array("n", "n", gives=2), "vectors_im": Array("n", "n", gives=3)},
        (), fails=NOT_DIAGONALIZED),
    "svd": _singular(ops.Svd(full=False), "S", ("m", "k"), ("k", "n"), _WITH_VECTORS),
    "svd_full": _singular(ops.Svd(full=True), "A", ("m", "m"), ("n", "n"), _WITH_VECTORS),
    "svdvals": _singular(ops.Svdvals(), "N", ("1", "1"), ("1", "1"), "10*k+65*m+65*n"),
    **{name: Function(ops.Fft(inverse), (("n", 0, -2),), {"x": Array("n", "2", loads=0), "y": Array("n", "2", gives=0)}, ())
       for name, inverse in (("fft", False), ("fft_back", True))},
    "rfft": Function(ops.Rfft(), (("n", 0, -1),), {"x": Array("n", loads=0), "y": Array("n/2+1", "2", gives=0)}, ()),
    **{name: Function(ops.Irfft(odd), (("m", 0, -2),), {"x": Array("m", "2", loads=0), "y": Array(n, gives=0)}, ())
       for name, odd, n in (("irfft_even", False, "2*m+-2"), ("irfft_odd", True, "2*m+-1"))},
    "matrix_exp": Function(
        ops.MatrixExp(), (("n", 0, -1),), {"a": Array("n", "n", loads=0), "x": Array("n", "n", gives=0)}, ()),
}
