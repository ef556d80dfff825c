"""LoopKernel of stages that only store, at computed places too -> a launch for each stage, every point of all its dims a
thread of its own. Sums at one place are atomic, in whatever order threads come.

    parallel c; stage (r) { store 0 to y[r, c] }; stage (u) { accumulate x[u, c] to y[index[u], c] }
    ->  a thread for each (r, c), 16 bytes at once; then one for each (u, c), which adds
"""
from __future__ import annotations

from dataclasses import replace

from flambeau.codegen.cuda.code import Code
from flambeau.codegen.cuda.text import KernelText, PhasedText, Writer
from flambeau.codegen.cuda.wide import emit_wide
from flambeau.ir.kernel import BlockSchedule, LoopKernel, Stage
from flambeau.ir.kernel.scatters import flattened, is_scattered

__all__ = ["emit_scatter"]


def emit_scatter(kernel: LoopKernel, name: str) -> PhasedText:
    """The texts of a kernel whose `BlockSchedule` is atomic."""
    assert isinstance(kernel.schedule, BlockSchedule), f"kernel {kernel.name} has no blocks"
    texts: list[KernelText] = []
    for number, stage in enumerate(kernel.stages):
        flat = flattened(kernel, stage)
        emit = _emit_atomic if any(is_scattered(store) for store in stage.stores) else emit_wide
        last = flat.extents[-1] if flat.extents else 1
        width = kernel.schedule.width if isinstance(last, int) and last % kernel.schedule.width == 0 else 1
        texts.append(emit(replace(flat, schedule=BlockSchedule(kernel.schedule.points, width=width)), f"{name}_{number}"))
    return PhasedText(tuple(texts))


def _emit_atomic(kernel: LoopKernel, name: str) -> KernelText:
    assert isinstance(kernel.schedule, BlockSchedule)
    code = Code(kernel, Writer())
    (stage,) = kernel.stages
    threads, count = kernel.schedule.points, code.product(kernel.extents)
    with code.head(name):
        block = code.cast("cuda.blockIdx.x")
        code.w.line(f"point = {code.cast(f'{block} * {threads} + cuda.threadIdx.x')}")
        with code.w.block(f"if point < {count}:"):
            code.split("point", list(kernel.parallel))
            code.body(stage)
            _stores(code, stage)
    return code.finished(name, kernel.extents, threads, threads)


def _stores(code: Code, stage: Stage) -> None:
    """Sums are added, and positions, of which the last is to stay, are the greatest."""
    for store in stage.stores:
        address, dtype = store.address, code.kernel.params[store.address.buffer].dtype
        if not is_scattered(store):
            code.stores([store])
            continue
        how = "add" if store.combine == "add" else "max"
        guards = code.guards(address)
        with code.w.block(f"if {' & '.join(guards) or 'True'}:"):
            code.w.line(f"atomic_{how}_{dtype.name}(b{address.buffer}, {code.place_of(address)}, v{store.value})")
