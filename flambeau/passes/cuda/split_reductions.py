"""LoopKernel -> LoopKernels: reductions of fewer rows than a GPU has multiprocessors are cut into parts for all of them,
and a kernel combines the parts, always in the same order."""
from __future__ import annotations

from typing import Final

from flambeau.ir.gpu import GpuTarget
from flambeau.ir.graph import Value
from flambeau.ir.kernel import LoopKernel, Stage
from flambeau.passes.cuda.schedule_loops import MOST, WORK, addresses, count, fewest_columns, runs_inward
from flambeau.passes.lowering.parts import Split, can_split, in_parts, is_even, is_possible

__all__ = ["split_reductions"]

LAUNCH_NS: Final = 3000.0               # one more kernel, until the next can begin
BYTES_PER_NS: Final = 25.0              # what one multiprocessor moves
GAIN: Final = 0.75                      # of the time before, at most
PARTS: Final = 2                        # blocks that a multiprocessor is to have
PART: Final = 1024                      # points of a part, at least
ALIGNED: Final = 16                     # and a multiple of so many, so that parts begin where 32 bytes do
AT_ONCE: Final = 32768                  # points of a row that a block may keep: it loads them once


def split_reductions(kernel: LoopKernel, buffers: tuple[Value, ...], target: GpuTarget) -> list[Split]:
    """The kernel, or several that compute the same where a GPU would be faster with them."""
    parts = choose_parts(kernel, target)
    return in_parts(kernel, buffers, parts) if parts > 1 else [(kernel, buffers)]


def choose_parts(kernel: LoopKernel, target: GpuTarget) -> int:
    """How many parts each reduction is cut into; 1 to leave the kernel as it is."""
    heavy = [stage for stage in kernel.stages if stage.dims]
    if not can_split(kernel, positions=True):
        return 1
    points = count(kernel, range(kernel.n_parallel))
    blocks = points if runs_inward(kernel, heavy) else -(-points // fewest_columns(kernel, heavy))
    idle = target.multiprocessors / min(blocks, target.multiprocessors)
    passes = [_nbytes(kernel, stage) * points for stage in heavy]
    longest = max(count(kernel, stage.dims) for stage in heavy)
    now = (max(passes) if longest <= AT_ONCE else sum(passes)) * idle
    launches = sum(2 if stage.reductions else 1 for stage in heavy) - 1
    rate = BYTES_PER_NS * target.multiprocessors
    if longest < MOST * WORK // 2 or sum(passes) / rate + launches * LAUNCH_NS > GAIN * now / rate:
        return 1
    wanted = max(2, min(PARTS * target.multiprocessors // blocks, longest // PART))
    near = range(max(2, wanted // 2), 2 * wanted)
    even = [n for n in near if is_even(kernel, n)]
    possible = even or [n for n in near if is_possible(kernel, n)]
    return min(possible, key=lambda n: (longest // n % ALIGNED > 0, abs(n - wanted), -n), default=1)


def _nbytes(kernel: LoopKernel, stage: Stage) -> int:
    """That one row of a stage moves."""
    moved = {(a.buffer, a.offset, a.strides): kernel.params[a.buffer].dtype.itemsize for a in addresses(stage)
             if any(dim in stage.dims for dim, _ in a.strides)}
    return sum(moved.values()) * count(kernel, stage.dims)
