"""How a GPU runs the kinds of kernel. Loaded with its backend, so that programs for the CPU load none of it."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from flambeau.codegen.cuda.attention import emit_attention
from flambeau.codegen.cuda.contractions import emit_contraction
from flambeau.codegen.cuda.loops import emit_loops
from flambeau.codegen.cuda.sorts import emit_sort
from flambeau.codegen.cuda.text import KernelText, PhasedText
from flambeau.ir.gpu import GpuTarget
from flambeau.ir.kernel import ContractionKernel, LoopKernel
from flambeau.ir.kinds import Implementation, register_implementation
from flambeau.kinds.sort import SortKernel, TileSortSchedule
from flambeau.passes.cuda.attention import divide_attention, schedule_attention
from flambeau.passes.cuda.schedule_contraction import schedule_contraction
from flambeau.passes.cuda.schedule_loops import schedule_loops
from flambeau.passes.cuda.split_contraction import divide_contraction
from flambeau.passes.cuda.split_reductions import split_reductions
from flambeau.passes.lowering.lower import Call

__all__: list[str] = []


def _scheduled_loops(kernel: LoopKernel, target: GpuTarget) -> LoopKernel:
    return replace(kernel, schedule=schedule_loops(kernel, target))


def _divided_contraction(call: Call, target: GpuTarget) -> Sequence[Call]:
    return [replace(call, kernel=kernel, buffers=buffers)
            for kernel, buffers in divide_contraction(cast(ContractionKernel, call.kernel), call.buffers, target)]


def _divided_loops(call: Call, target: GpuTarget) -> list[Call]:
    return [replace(call, kernel=kernel, buffers=buffers)
            for kernel, buffers in split_reductions(cast(LoopKernel, call.kernel), call.buffers, target)]


def _sort(kernel: SortKernel, name: str) -> KernelText | PhasedText:
    assert isinstance(kernel.schedule, TileSortSchedule), f"kernel {kernel.name} has no tiles"
    return emit_sort(kernel, name, kernel.source, kernel.values, kernel.indices, kernel.descending, kernel.schedule.tile)


def sort_tile(kernel: SortKernel) -> int:
    """As many pairs as 32 KB of shared memory hold; of a few elements each is compared with each."""
    return 1 if kernel.length <= 32 else 2048 if kernel.dtype.itemsize == 8 else 4096


def _scheduled_sort(kernel: SortKernel, target: GpuTarget) -> SortKernel:
    return replace(kernel, schedule=TileSortSchedule(sort_tile(kernel)))


register_implementation("loop", "cuda", Implementation(emit_loops, _scheduled_loops, _divided_loops))
register_implementation("contraction", "cuda", Implementation(emit_contraction, schedule_contraction,
                                                                       _divided_contraction))
register_implementation("attention", "cuda", Implementation(emit_attention, schedule_attention, divide_attention))
register_implementation("sort", "cuda", Implementation(_sort, _scheduled_sort))
