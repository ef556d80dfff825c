"""The loop level: a kernel says how one fused group of ops is computed, index by index. Here is what all kinds of
kernel are written in: params, addresses, and stages of scalar instructions in SSA form.

Semantics common to all: a load sees what the buffer held when the kernel started, or what an earlier stage of the same
parallel point stored. Iterations of the parallel dims are independent and may run in any order.
"""
from __future__ import annotations

from typing import Final, Literal

from flambeau.ir.dtypes import DType
from flambeau.ir.records import dataclass

Extent = int | str                      # a str names a runtime number: which one, `Kernel.sizes.index(name)` says

Combiner = Literal["sum", "prod", "max", "min", "argmax", "argmin", "any", "all"]
IDENTITY_FREE: Final = frozenset({"argmax", "argmin"})


@dataclass(frozen=True, slots=True)
class Address:
    """Element offset + sum(stride * dim) + sum(stride * value) into buffer number `buffer`.

    `strides` are (dim, stride) pairs in elements, by dim, no zero strides; `dynamic` are (value id, stride) pairs
    of i64 values (gathers). `guard` is a bool value id: where it is false a load gives 0 and a store does nothing.
    """

    buffer: int
    offset: int = 0
    strides: tuple[tuple[int, Extent], ...] = ()
    dynamic: tuple[tuple[int, int], ...] = ()
    guard: int | None = None

    def stride_of(self, dim: int) -> int:
        """The stride along `dim`, which must be known."""
        stride = self.step_of(dim)
        assert isinstance(stride, int), f"the stride along %i{dim} is a runtime number, {stride}"
        return stride

    def step_of(self, dim: int) -> Extent:
        """The stride along `dim`, in general kernels perhaps the name of a runtime number."""
        for number, stride in self.strides:
            if number == dim:
                return stride
        return 0

    @property
    def known_strides(self) -> tuple[tuple[int, int], ...]:
        """`strides`, all of which must be known."""
        return tuple([(dim, self.stride_of(dim)) for dim, _ in self.strides])


Attr = float | int | bool | str | Address | None        # a str: the name of a runtime number, of a const


@dataclass(frozen=True, slots=True)
class Instr:
    """id = op(operands) : dtype, one scalar SSA value. Ids are unique in the kernel."""

    id: int
    op: str
    dtype: DType
    operands: tuple[int, ...] = ()
    attr: Attr = None


@dataclass(frozen=True, slots=True)
class Reduction:
    """id = combiner of `value` over the stage's dims. argmax/argmin give the i64 row-major position within the
    stage's dims of the first extremum (a NaN wins); the others keep the dtype of `value`, but a sum of f32 may be f64: it
    is as near to the true one as in f32, and has the range of f64."""

    id: int
    combiner: Combiner
    value: int
    dtype: DType


@dataclass(frozen=True, slots=True)
class Store:
    """Write `value` at `address`. combine="add" reads, adds and writes, one stage iteration after another."""

    address: Address
    value: int
    combine: Literal["set", "add"] = "set"


@dataclass(frozen=True, slots=True)
class Stage:
    """At each point of `dims` (inner dim numbers, outer to inner; () is one point): body, reductions, stores."""

    dims: tuple[int, ...]
    body: tuple[Instr, ...]
    reductions: tuple[Reduction, ...] = ()
    stores: tuple[Store, ...] = ()


Role = Literal["in", "out", "inout", "scratch"]


@dataclass(frozen=True, slots=True)
class Param:
    """One buffer of the kernel: `elements` of `dtype`. scratch contents mean nothing before and after. Addresses count from
    element `first`: 0, or the name of a runtime number."""

    name: str
    dtype: DType
    elements: Extent
    role: Role
    first: Extent = 0
