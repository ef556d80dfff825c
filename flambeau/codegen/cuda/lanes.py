"""Reductions of a loop kernel -> text: what a lane reduced, and what the lanes of a point then merge, by shuffles within a
warp and through shared memory beyond. Merging gives every lane the result, always in the same order."""
from __future__ import annotations

from contextlib import nullcontext

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.wide import WideCode
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import IDENTITY_FREE, BlockSchedule, LoopKernel, Reduction
from flambeau.ir.kernel.identities import identity

__all__ = ["WARP", "Lanes"]

WARP = 32


class Lanes(WideCode):
    """Lines of a kernel whose points are shared by lanes."""

    kernel: LoopKernel
    schedule: BlockSchedule
    points: int
    lanes: int
    shared: bool                                        # the work at a point, by several threads
    loaded = stored = False                             # by some lane, since all of them last met

    def start(self, reduction: Reduction) -> None:
        dtype = self.dtype_of(reduction)
        name = f"v{reduction.id}"
        first = ex.constant(identity(reduction.combiner, dtype), dtype)
        if reduction.combiner in IDENTITY_FREE:
            self.w.line(f"{name}_best = {first}")
            self.w.line(f"{name} = int64(-1)")
        else:
            self.w.line(f"{name} = {first}")

    def dtype_of(self, reduction: Reduction) -> DType:
        """What its values are reduced in."""
        if reduction.dtype is dt.f64:
            return dt.f64
        if reduction.value in self.dtypes:
            return self.dtypes[reduction.value]
        return next(i.dtype for i in self.kernel.instrs() if i.id == reduction.value)

    def add(self, reduction: Reduction, at: str) -> None:
        """The value at this point joins what was reduced so far."""
        name, value = f"v{reduction.id}", f"v{reduction.value}"
        if reduction.combiner in IDENTITY_FREE:
            self.w.line(f"{name}_at = int64({at})")
            self.better(reduction, value, f"{name}_at")
        else:
            self.w.line(f"{name} = {self.combined(reduction, name, value)}")

    def combined(self, reduction: Reduction, a: str, b: str) -> str:
        """Both, in the type that is summed in: f16 and bf16 are rounded at the end."""
        dtype = self.dtype_of(reduction)
        if dtype in (dt.f16, dt.bf16):
            dtype = dt.f32
        op = {"sum": "add", "prod": "mul", "any": "or", "all": "and"}.get(reduction.combiner, reduction.combiner)
        return ex.expression(op, dtype, [a, b])

    def better(self, reduction: Reduction, value: str, at: str) -> None:
        """Take (value, at) where it is further out, or as far and earlier. A NaN is furthest, the first of them."""
        name = f"v{reduction.id}"
        sign = ">" if reduction.combiner == "argmax" else "<"
        dtype = self.dtype_of(reduction)
        best = f"{name}_best"
        a, b = (f"int32({value})", f"int32({best})") if dtype is dt.bool_ else (value, best)
        beyond, tie = f"({a} {sign} {b})", f"({a} == {b})"
        if dtype.is_floating_point:
            beyond = f"({beyond} | ({a} != {a})) & ({b} == {b})"
            tie = f"({tie} | (({a} != {a}) & ({b} != {b})))"
        earlier = f"(({name} < 0) | ({at} < {name}))"
        self.w.line(f"{name}_wins = ({at} >= 0) & (({beyond}) | ({tie} & {earlier}))")
        self.w.line(f"{name} = {at} if {name}_wins else {name}")
        self.w.line(f"{best} = {value} if {name}_wins else {best}")

    def alone(self, reduction: Reduction) -> None:
        """Over no dims: the value itself, or position 0."""
        where = reduction.combiner in IDENTITY_FREE
        value = f"float64(v{reduction.value})" if reduction.dtype is dt.f64 else f"v{reduction.value}"
        self.w.line(f"v{reduction.id} = {'int64(0)' if where else value}")
        self.dtypes[reduction.id] = reduction.dtype

    def merge(self, reduction: Reduction) -> None:
        """Every lane has the result of all."""
        name, w = f"v{reduction.id}", self.w
        if self.shared:
            in_warp = min(self.lanes, WARP) if self.schedule.lanes_inner else 1
            if in_warp > 1:
                self.shuffled(reduction, in_warp)
            if self.lanes > in_warp:
                self.through_shared(reduction, in_warp)
        dtype = self.dtype_of(reduction)
        if dtype in (dt.f16, dt.bf16) and reduction.combiner not in IDENTITY_FREE:
            w.line(f"{name} = {ex.rounded(name, dtype)}")
        self.dtypes[reduction.id] = reduction.dtype

    def shuffled(self, reduction: Reduction, lanes: int) -> None:
        name, w = f"v{reduction.id}", self.w
        steps = lanes.bit_length() - 1
        with w.block(f"for step in range({steps}):"):
            w.line(f"{name}_other = {self.exchanged(self.kept(reduction), self.dtype_of(reduction), lanes)}")
            if reduction.combiner in IDENTITY_FREE:
                w.line(f"{name}_at = {self.exchanged(name, dt.i64, lanes)}")
            self.join(reduction)

    def kept(self, reduction: Reduction) -> str:
        return f"v{reduction.id}_best" if reduction.combiner in IDENTITY_FREE else f"v{reduction.id}"

    def exchanged(self, text: str, dtype: DType, lanes: int) -> str:
        """The value that the lane `lanes / 2 >> step` away has."""
        wide = dtype in (dt.i64, dt.u64) or dtype.is_floating_point
        word = f"int64({text})" if dtype is dt.u64 else text if wide else f"int32({text})"
        moved = f"cuda.shfl_xor_sync(0xffffffff, {word}, {lanes // 2} >> step)"
        if dtype is dt.bool_:
            return f"({moved} != 0)"
        return moved if wide and dtype is not dt.u64 else f"{ex.numba_type(dtype)}({moved})"

    def through_shared(self, reduction: Reduction, in_warp: int) -> None:
        """Groups of lanes that are merged already leave their results in shared memory. Where lanes are neighbours each
        warp merges those of its point by shuffles; else half of them takes in the other half until one is left."""
        name, w, points = f"v{reduction.id}", self.w, self.points
        groups = self.lanes // in_warp
        parts = [(f"s{reduction.id}", self.kept(reduction), self.dtype_of(reduction))]
        if reduction.combiner in IDENTITY_FREE:
            parts.append((f"s{reduction.id}_at", name, dt.i64))
        row = "" if points == 1 else f" * {points} + {self.column()}"
        for shared, _, dtype in parts:
            kind = "uint8" if dtype is dt.bool_ else ex.numba_type(dtype)
            w.line(f"{shared} = cuda.shared.array({groups * points}, {kind})")

        def leave(group: str) -> None:
            for shared, text, dtype in parts:
                w.line(f"{shared}[uint32({group}{row})] = {f'uint8({text})' if dtype is dt.bool_ else text}")

        def take(group: str) -> list[str]:
            return [f"{shared}[uint32({group}{row})]{' != 0' if dtype is dt.bool_ else ''}" for shared, _, dtype in parts]

        with w.block(f"if lane % {in_warp} == 0:") if in_warp > 1 else nullcontext():
            leave("lane" if in_warp == 1 else f"lane // {in_warp}")
        w.line("cuda.syncthreads()")
        self.loaded = self.stored = False
        if self.schedule.lanes_inner and groups <= in_warp:
            for (_, text, _), found in zip(parts, take(f"lane % {groups}"), strict=True):
                w.line(f"{text} = {found}")
            self.shuffled(reduction, groups)
            return
        half = groups // 2
        while half:
            with w.block(f"if lane < {half}:"):
                for part, found in zip(("other", "at"), take(f"(lane + {half})"), strict=False):
                    w.line(f"{name}_{part} = {found}")
                self.join(reduction)
                leave("lane")
            w.line("cuda.syncthreads()")
            half //= 2
        for (_, text, _), found in zip(parts, take("0"), strict=True):
            w.line(f"{text} = {found}")

    def join(self, reduction: Reduction) -> None:
        """What another lane has, `_other` (from `_at`), joins this one's."""
        name = f"v{reduction.id}"
        if reduction.combiner in IDENTITY_FREE:
            self.better(reduction, f"{name}_other", f"{name}_at")
        else:
            self.w.line(f"{name} = {self.combined(reduction, name, f'{name}_other')}")

    def column(self) -> str:
        return f"thread // {self.lanes}" if self.schedule.lanes_inner else f"thread % {self.points}"
