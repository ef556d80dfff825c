"""What memory tensors and compiled functions take on the host."""
from __future__ import annotations

from flambeau.frontend.call.compile import compiled_functions
from flambeau.frontend.words import size
from flambeau.runtime.buffer import memory_stats

__all__ = ["memory_summary"]


def memory_summary() -> str:
    """Memory of the host as a table: what the allocator gave out, and what each compiled function takes. Memory of eager
    tensors that NumPy allocated is not among it; of GPUs, `fb.cuda.memory_summary` tells."""
    stats = memory_stats()
    lines = [f"allocator of compiled functions: {size(stats.live_bytes)} in use, {size(stats.peak_bytes)} at most, "
             f"{size(stats.kept_bytes)} kept for reuse", "",
             f"{'scratch':>10} {'constants':>10} {'captured':>10}  function"]
    rows = []
    for function in list(compiled_functions):
        for number, signature in enumerate(function.signatures):
            programs = [part.program for part in signature.parts]
            captured = sum(state.type.nbytes for state in signature.traced.plan.states)
            scratch = sum(program.arena_bytes for program in programs)
            constants = sum(len(data) for program in programs for data in program.consts)
            name = function.name if len(function.signatures) == 1 else f"{function.name}, signature {number}"
            rows.append((scratch, f"{size(scratch):>10} {size(constants):>10} {size(captured):>10}  {name}"))
    return "\n".join([*lines, *[row for _, row in sorted(rows, reverse=True)]]) + "\n"
