"""The kernel of sums of products: acc[b, m, n] = sum over k of lhs[b, m, k] * rhs[b, k, n].

Every role is a list of dims with static strides, so GEMM, batched GEMM, convolution on a padded image and both its
gradients are one thing. Then comes an epilogue, an SSA body at every (b, m, n) that reads `acc` and stores.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import scalar
from flambeau.ir.kernel.base import Kernel, map_address
from flambeau.ir.kernel.grammar import Address, Extent, Stage
from flambeau.ir.records import dataclass

if TYPE_CHECKING:
    from flambeau.ir.kernel.interpreter import Array, Machine
    from flambeau.ir.kernel.parser import Parser
    from flambeau.ir.kernel.text import Printer
    from flambeau.ir.kernel.verifier import Checker

__all__ = ["ContractionKernel", "ContractionSchedule", "TileSchedule", "WinogradSchedule"]


@dataclass(frozen=True, slots=True)
class ContractionSchedule:
    """m_tile: how many points of each m dim (outer to inner) one register tile takes; n_vectors: vectors of the
    innermost n dim in a tile; pack_rhs / pack_lhs: copy the operand into tile order in scratch first; k_block:
    steps over the flattened k dims per pass (0: all at once); split_k: partial sums over so many slices of k, added in
    order by a second phase that runs the epilogue; m_block, n_block: register tiles of m and of n that one task takes, in
    general kernels perhaps runtime numbers;
    vectors: the role whose innermost dim is walked in vectors. With "k" (dot products; both operands contiguous
    along the innermost k dim) n_vectors counts columns of the tile; prefetch: ask for rhs that many points of k
    ahead (0: do not); group: points along the innermost k dim that one instruction multiplies and adds, a step over k:
    pairs of bf16, fours of bytes. Both operands are read in words of a group, rhs from panels, lhs too unless its rows are
    whole words; grain, parallel as in LoopSchedule. Of general kernels, whose numbers do not tell: k_loops: how many
    k dims each loop of a register tile walks as one; last_vectors: vectors of the last tile along n."""

    m_tile: tuple[int, ...]
    n_vectors: int
    pack_rhs: bool = False
    pack_lhs: bool = False
    k_block: int = 0
    split_k: int = 1
    m_block: Extent = 1
    n_block: Extent = 1
    vectors: Literal["n", "k"] = "n"
    prefetch: int = 0
    group: int = 1
    grain: int = 1
    parallel: bool = True
    k_loops: tuple[int, ...] = ()
    last_vectors: int = 0


@dataclass(frozen=True, slots=True)
class TileSchedule:
    """For a device of many threads in blocks: each block sums a tile of `m` x `n` points of the flattened m and n dims,
    `k` of the flattened k dims at a time from shared memory; each thread `rows` x `columns` of them in registers. stages:
    slices of k that shared memory holds at once; with two the next one is on its way while one is summed. resident: blocks
    that a multiprocessor is to have registers for at once. unit: "fma", or "mma" for tensor cores, where each warp has
    `rows` x `columns` results; "tf32" for f32 on them, whose products are of operands rounded to 10 bits of mantissa."""

    m: int
    n: int
    k: int
    rows: int
    columns: int
    stages: int = 1
    resident: int = 1
    unit: Literal["fma", "mma", "tf32"] = "fma"


@dataclass(frozen=True, slots=True)
class WinogradSchedule:
    """For windows of 3 x 3 that move by one: `tile` x `tile` results (2 or 4) at once, from a patch of `tile` + 2 in each
    direction, by (`tile` + 2)^2 products for each channel where there were 9 `tile`^2. Lavin and Gray, "Fast algorithms for
    convolutional neural networks", 2016. The m dims end with the window's height and width, the k dims are (height, width,
    channels). rows, n_vectors: tiles and vectors of results in a register tile; columns_first: tasks go through all tiles
    for some columns before they take the next, not the other way round; own_images: a task takes all columns of its tiles,
    and transforms their images itself, on its stack."""

    tile: int
    rows: int
    n_vectors: int
    columns_first: bool = False
    own_images: bool = False
    parallel: bool = True


@dataclass(frozen=True)
class ContractionKernel(Kernel):
    """acc = sum over k of lhs * rhs in `acc_dtype`, then `epilogue` (a Stage with dims ()) at every (batch, m, n).

    Address strides are keyed by dim number: lhs over batch+m+k, rhs over batch+k+n, epilogue over batch+m+n. Lists of
    dims run outer to inner. The innermost n dim is the vector dim. keeps_lhs, keeps_rhs: the operand is the same from call
    to call, so that what packs it runs once (`ops.Kept`)."""

    keyword: ClassVar[str] = "contraction"
    schedules: ClassVar[Mapping[str, type]] = {"schedule": ContractionSchedule, "tiles": TileSchedule,
                                               "winograd": WinogradSchedule}

    extents: tuple[int, ...]
    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    lhs: Address
    rhs: Address
    acc_dtype: DType
    epilogue: Stage
    keeps_lhs: bool = field(default=False, kw_only=True)
    keeps_rhs: bool = field(default=False, kw_only=True)
    schedule: ContractionSchedule | TileSchedule | WinogradSchedule | None = field(default=None, kw_only=True)

    @property
    def operand_dtypes(self) -> tuple[DType, DType]:
        return self.params[self.lhs.buffer].dtype, self.params[self.rhs.buffer].dtype

    @property
    def group_size(self) -> int:
        """How many neighbours along k fill 32 bits that processors know to multiply and add at once: 2 of bf16 (summed in
        f32), 4 of an unsigned and a signed byte (in i32), else 1."""
        dtypes = self.operand_dtypes
        if dtypes == (dt.bf16, dt.bf16) and self.acc_dtype is dt.f32:
            return 2
        return 4 if set(dtypes) == {dt.u8, dt.i8} and self.acc_dtype is dt.i32 else 1

    @property
    def lhs_lies_in_groups(self) -> bool:
        """Whether the points of each group are neighbours in lhs, where it lies."""
        inner = self.k[-1]
        return self.lhs.stride_of(inner) == 1 and self.extents[inner] % self.group_size == 0

    @property
    def code(self) -> tuple[Stage, ...]:
        return (self.epilogue,)

    def with_code(self, code: Sequence[Stage]) -> Self:
        (epilogue,) = code
        return replace(self, epilogue=epilogue)

    def walked(self, stage: Stage) -> tuple[int, ...]:
        return (*self.batch, *self.m, *self.n)

    @property
    def product_flops(self) -> int:
        return 2 * prod(self.extents) if self.acc_dtype.is_floating_point else 0

    def addresses(self) -> Iterator[Address]:
        yield from (self.lhs, self.rhs)
        yield from super().addresses()

    def map(self, *, address: Callable[[Address], Address] | None = None, value: Callable[[int], int] | None = None,
            dim: Callable[[int], int | None] | None = None) -> Self:
        lhs, rhs = (map_address(operand, address=address, dim=dim) for operand in (self.lhs, self.rhs))
        kernel = replace(super().map(address=address, value=value, dim=dim), lhs=lhs, rhs=rhs)
        if dim is None:
            return kernel
        batch, m, n, k = (tuple([new for d in role if (new := dim(d)) is not None])
                          for role in (self.batch, self.m, self.n, self.k))
        return replace(kernel, batch=batch, m=m, n=n, k=k)

    def reads_beside_packing(self, operand: int) -> bool:
        """Of Winograd's, sums that are not finite are added up anew from the operands themselves."""
        return isinstance(self.schedule, WinogradSchedule) or super().reads_beside_packing(operand)

    def may_share(self, read: int, written: int) -> bool:
        return read not in (self.lhs.buffer, self.rhs.buffer) and super().may_share(read, written)

    @property
    def walks_windows(self) -> bool:
        """Whether the sums are over windows of 3 x 3 and contiguous channels, in f32, that move by one: m dims end with
        height and width, k dims are (height, width, channels), n is one dim."""
        if self.batch or len(self.m) < 2 or len(self.n) != 1 or len(self.k) != 3 or 0 in self.extents:
            return False
        dtypes = {self.acc_dtype, *[self.params[address.buffer].dtype for address in (self.lhs, self.rhs)]}
        moves = [self.lhs.stride_of(d) for d in self.m[-2:]]
        return ([self.extents[d] for d in self.k[:2]] == [3, 3] and self.lhs.stride_of(self.k[2]) == 1 and
                moves == [self.lhs.stride_of(d) for d in self.k[:2]] and dtypes == {dt.f32})

    # Text

    def lines(self, printer: Printer) -> Iterator[str]:
        if self.extents:
            yield f"  dims {', '.join(printer.extents(self.extents))}"
        for keyword, dims in (("batch", self.batch), ("m", self.m), ("n", self.n), ("k", self.k)):
            if dims:
                yield f"  {keyword} {printer.dims(dims)}"
        lhs, rhs = (f"{'kept ' * is_kept}{printer.address(address)}"
                    for address, is_kept in ((self.lhs, self.keeps_lhs), (self.rhs, self.keeps_rhs)))
        yield f"  sum {lhs} * {rhs} : {self.acc_dtype}"
        yield from printer.stage("epilogue", self.epilogue)

    @classmethod
    def read(cls, parser: Parser, name: str) -> Self:
        cursor = parser.cursor
        extents: Any = cursor.optional("dims", lambda: parser.extents(0, static=True))
        batch, m, n, k = (cursor.optional(role, lambda: cursor.listed(cursor.dim)) for role in ("batch", "m", "n", "k"))
        cursor.require("sum")
        keeps_lhs, lhs = cursor.accept("kept"), parser.address()
        cursor.require("*")
        keeps_rhs, rhs = cursor.accept("kept"), parser.address()
        acc_dtype = parser.result_dtype()
        epilogue = parser.stage("epilogue")
        return cls(name, tuple(parser.params), extents, batch, m, n, k, lhs, rhs, acc_dtype, epilogue, keeps_lhs=keeps_lhs,
                   keeps_rhs=keeps_rhs)

    # Rules

    def check(self, checker: Checker) -> None:
        roles = (*self.batch, *self.m, *self.n, *self.k)
        for dim, times in Counter(roles).items():
            if not 0 <= dim < len(self.extents):
                checker.fail(f"there is no dim %i{dim}")
            if times > 1:
                checker.fail(f"dim %i{dim} has {times} roles")
        for dim in set(range(len(self.extents))) - set(roles):
            if self.extents[dim] != 1:
                checker.fail(f"dim %i{dim}, of extent {self.extents[dim]}, has no role")
        if not (self.acc_dtype.is_floating_point or self.acc_dtype.is_integer):
            checker.fail(f"{self.acc_dtype} has no sum")
        # an operand without the empty dim in its strides is not read either
        checker.reads_nothing = 0 in self.extents
        self._check_operand(checker, "lhs", self.lhs, (*self.batch, *self.m, *self.k))
        self._check_operand(checker, "rhs", self.rhs, (*self.batch, *self.k, *self.n))
        self._check_epilogue(checker)
        checker.place = "schedule"
        if isinstance(self.schedule, ContractionSchedule):
            self._check_schedule(checker, self.schedule)
        elif isinstance(self.schedule, WinogradSchedule):
            checker.require_positive(self.schedule, ("rows", "n_vectors"))
            if self.schedule.tile not in (2, 4):
                checker.fail(f"tile={self.schedule.tile} is neither 2 nor 4")
            if not self.walks_windows:
                checker.fail("its sums are none over windows of 3 x 3 and contiguous channels, in f32, that move by one")
        elif self.schedule is not None:
            self._check_tiles(checker, self.schedule)

    def _check_operand(self, checker: Checker, side: str, address: Address, dims: Sequence[int]) -> None:
        if address.dynamic or address.guard is not None:
            checker.fail("an operand has neither gathered indices nor a guard", side)
        checker.check_address(address, set(dims), side)
        checker.check_read(address.buffer, side)
        dtype = self.params[address.buffer].dtype
        acc = self.acc_dtype
        fits = dtype.kind == acc.kind and dtype.itemsize <= acc.itemsize
        if not fits and not (dtype.kind == "uint" and acc.kind == "int" and dtype.itemsize < acc.itemsize):
            checker.fail(f"{dtype} products cannot be summed in {self.acc_dtype}", side)

    def _check_epilogue(self, checker: Checker) -> None:
        checker.place = "epilogue"
        if self.epilogue.dims or self.epilogue.reductions:
            checker.fail("it walks no dims of its own and reduces nothing")
        checker.check_stage(self.epilogue, set(self.walked(self.epilogue)), self.acc_dtype)
        for side, address in (("lhs", self.lhs), ("rhs", self.rhs)):
            if address.buffer in checker.stored:
                checker.fail(f"stores to param {self.params[address.buffer].name}, which is the {side}")

    def _check_schedule(self, checker: Checker, schedule: ContractionSchedule) -> None:
        checker.require_positive(schedule, ("n_vectors", "split_k", "m_block", "n_block", "grain"))
        tile = schedule.m_tile
        if len(tile) != len(self.m) or not all(checker.is_count(rows) and rows for rows in tile):
            checker.fail(f"m_tile={tile} does not give a positive size for each of the {len(self.m)} m dims")
        if not checker.is_count(schedule.k_block):
            checker.fail(f"k_block={schedule.k_block!r} is no number of points")
        if schedule.vectors == "k" and not self.k:          # without n dims there is one column, which "n" allows
            checker.fail("vectors='k', but there are no k dims")
        if schedule.group != 1:
            self._check_group(checker, schedule)

    def _check_group(self, checker: Checker, schedule: ContractionSchedule) -> None:
        if schedule.group != self.group_size:
            checker.fail(f"group={schedule.group!r}, but {self.operand_dtypes[0]} products summed in {self.acc_dtype} are "
                         f"multiplied in groups of {self.group_size}")
        if not self.k or schedule.vectors == "k" or not schedule.pack_rhs:
            checker.fail("groups are of points along k, in panels of rhs whose vectors run along n")
        elif not schedule.pack_lhs and not self.lhs_lies_in_groups:
            checker.fail("lhs is not packed, and its rows are no whole groups")

    def _check_tiles(self, checker: Checker, tile: TileSchedule) -> None:
        checker.require_positive(tile, ("m", "n", "k", "rows", "columns", "stages", "resident"))
        if tile.m % tile.rows or tile.n % tile.columns:
            checker.fail(f"threads of {tile.rows} x {tile.columns} points do not fill a tile of {tile.m} x {tile.n}")
        if tile.unit not in ("fma", "mma", "tf32"):
            checker.fail(f"unit={tile.unit!r} is none of 'fma', 'mma' and 'tf32'")
        if tile.unit != "fma":
            kinds = {self.params[address.buffer].dtype for address in (self.lhs, self.rhs)}
            known = {dt.f32} if tile.unit == "tf32" else {dt.bf16, dt.f16}
            if len(kinds) > 1 or not kinds <= known or self.acc_dtype is not dt.f32:
                checker.fail(f"tensor cores sum products of {' or of '.join(sorted(map(str, known)))} in f32")
            if tile.rows % 16 or tile.columns % 16 or tile.k % 16:
                checker.fail(f"warps of {tile.rows} x {tile.columns} points, {tile.k} of k, are no matrices of 16 x 16")

    # Meaning

    def run(self, machine: Machine) -> None:
        points = self.walked(self.epilogue)
        if 0 in machine.shape(points):
            return
        batch, m, n, k = (prod(machine.shape(dims)) for dims in (self.batch, self.m, self.n, self.k))
        lhs = self._operand(machine, self.lhs, (*self.batch, *self.m, *self.k)).reshape(batch, m, k)
        rhs = self._operand(machine, self.rhs, (*self.batch, *self.k, *self.n)).reshape(batch, k, n)
        acc = scalar.rounded(np.matmul(lhs, rhs).reshape(machine.shape(points)), self.acc_dtype)
        machine.run_stage(self.epilogue, points, len(points), {}, acc)

    def _operand(self, machine: Machine, address: Address, dims: tuple[int, ...]) -> Array:
        """The operand at every point of `dims`, in the type its products are summed in."""
        cast = scalar.cast(machine.loaded(address, dims), self.acc_dtype)
        return cast.astype(np.float64) if self.acc_dtype.kind == "float" else cast
