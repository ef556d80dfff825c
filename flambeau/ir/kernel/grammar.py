"""The loop level: a Kernel says how one fused group of ops is computed, index by index.

Two kinds share one scalar language:
- `LoopKernel`: parallel dims, and inside them an ordered list of stages. A stage walks its own inner dims,
  evaluates a flat SSA body at every point, reduces some values over its dims, and stores others. Values
  reduced by a stage, and values of a stage without inner dims, are visible to every later stage; all other
  values live in their stage. One such kernel is a softmax, a LayerNorm or a cross-entropy with its gradient.
- `ContractionKernel`: acc[b, m, n] = sum over k of lhs[b, m, k] * rhs[b, k, n], every role a list of dims with
  static strides (so GEMM, batched GEMM, convolution on a padded image and both its gradients are one thing),
  then an epilogue, an SSA body at every (b, m, n) that reads `acc` and stores.

Semantics common to both: a load sees what the buffer held when the kernel started, or what an earlier stage of
the same parallel point stored. Iterations of the parallel dims are independent and may run in any order.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from flambeau.ir.dtypes import DType

Extent = int | str                      # a str names a runtime size: its number is `Kernel.sizes.index(name)`

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
    strides: tuple[tuple[int, int], ...] = ()
    dynamic: tuple[tuple[int, int], ...] = ()
    guard: int | None = None

    def stride_of(self, dim: int) -> int:
        return dict(self.strides).get(dim, 0)


Attr = float | int | bool | Address | None


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
    stage's dims of the first extremum (a NaN wins); the others keep the dtype of `value`."""

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
    """One buffer of the kernel: `elements` of `dtype`. scratch contents mean nothing before and after."""

    name: str
    dtype: DType
    elements: Extent
    role: Role


@dataclass(frozen=True, slots=True)
class LoopSchedule:
    """vector_dim: the dim walked in vectors (an inner dim of the stages, or a parallel dim: then every value is a
    vector over it), None for scalar code. unroll: vectors per step. block: elements of a parallel vector_dim that
    one task takes. grain: tasks per chunk handed to a thread. parallel: worth more than one thread.
    row_dim, rows: a dim whose points go `rows` at a time beside the vectors of a parallel vector_dim. The innermost
    dim of reductions: each row has accumulators of its own, merged at the end. Another parallel dim: square tiles (at
    most a vector wide), whose accesses run along row_dim where memory does and are transposed in registers.

    Tasks number the parallel dims other than vector_dim in row-major order, times the blocks of vector_dim when it
    is parallel (blocks innermost, or, where vectors jump through memory that another parallel dim is contiguous
    along, that dim innermost: give such kernels blocks of a vector or two)."""

    vector_dim: int | None = None
    unroll: int = 1
    block: int = 1
    grain: int = 1
    parallel: bool = True
    row_dim: int | None = None
    rows: int = 1


@dataclass(frozen=True)
class LoopKernel:
    name: str
    params: tuple[Param, ...]
    extents: tuple[Extent, ...]         # of all dims; the first `n_parallel` are parallel, the rest are inner
    n_parallel: int
    stages: tuple[Stage, ...]
    schedule: LoopSchedule | None = None
    locations: tuple[str, ...] = field(default=(), compare=False)   # the user lines it computes

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the runtime sizes, in the order of the ABI's `sizes`."""
        return tuple(dict.fromkeys(e for e in self.extents if isinstance(e, str)))

    def instrs(self) -> Iterator[Instr]:
        for stage in self.stages:
            yield from stage.body


@dataclass(frozen=True, slots=True)
class ContractionSchedule:
    """m_tile: how many points of each m dim (outer to inner) one register tile takes; n_vectors: vectors of the
    innermost n dim in a tile; pack_rhs / pack_lhs: copy the operand into tile order in scratch first; k_block:
    points of the flattened k dims per pass (0: all at once); split_k: partial sums over so many slices of k, added in order
    by a second phase that runs the epilogue; m_block, n_block: register tiles of m and of n that one task takes;
    vectors: the role whose innermost dim is walked in vectors. With "k" (dot products; both operands contiguous
    along the innermost k dim) n_vectors counts columns of the tile; prefetch: ask for rhs that many points of k
    ahead (0: do not); grain, parallel as in LoopSchedule."""

    m_tile: tuple[int, ...]
    n_vectors: int
    pack_rhs: bool = False
    pack_lhs: bool = False
    k_block: int = 0
    split_k: int = 1
    m_block: int = 1
    n_block: int = 1
    vectors: Literal["n", "k"] = "n"
    prefetch: int = 0
    grain: int = 1
    parallel: bool = True


@dataclass(frozen=True)
class ContractionKernel:
    """acc = sum over k of lhs * rhs in `acc_dtype`, then `epilogue` (a Stage with dims ()) at every (batch, m, n).

    Address strides are keyed by dim number: lhs over batch+m+k, rhs over batch+k+n, epilogue over batch+m+n. Lists of
    dims run outer to inner. The innermost n dim is the vector dim."""

    name: str
    params: tuple[Param, ...]
    extents: tuple[int, ...]
    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    lhs: Address
    rhs: Address
    acc_dtype: DType
    epilogue: Stage
    schedule: ContractionSchedule | None = None
    locations: tuple[str, ...] = field(default=(), compare=False)

    @property
    def sizes(self) -> tuple[str, ...]:
        return ()

    def instrs(self) -> Iterator[Instr]:
        yield from self.epilogue.body


Kernel = LoopKernel | ContractionKernel
