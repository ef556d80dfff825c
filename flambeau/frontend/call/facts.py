"""What `explain` tells, as plain data for scripts: `python -m flambeau explain --json`, documented in docs/inspect.md."""
from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from flambeau.ir.kernel.work import work_of
from flambeau.passes.memory.timeline import lives, occupied

__all__ = ["facts"]


def facts(name: str, signatures: Sequence[Any], stats: Any) -> dict[str, Any]:
    """Of a compiled function that was called: its newest signature, and why there are others."""
    newest = signatures[-1]
    return {
        "name": name, "signatures": len(signatures), "calls": stats.calls,
        "recompiles": [signature.reason for signature in signatures if signature.reason],
        "ops": {"traced": stats.n_ops_traced, "backward": stats.n_backward_ops},
        "stages": {"trace": stats.trace_seconds, "passes": stats.passes_seconds, "lowering": stats.lower_seconds,
                   "machine_code": stats.codegen_seconds, "load": stats.load_seconds, "total": stats.compile_seconds,
                   "from_disk": stats.from_disk},
        "memory": {"scratch_bytes": stats.arena_bytes, "unshared_bytes": stats.unshared_bytes,
                   "state_bytes": stats.state_bytes, "kept_bytes": stats.kept_bytes,
                   "in_place_writes": stats.in_place_writes},
        "kernels": {"launches": stats.n_launches, "different": stats.n_kernels, "new": stats.n_new_kernels},
        "programs": [_program(part, newest.measured.get(number, {})) for number, part in enumerate(newest.parts)],
    }


def _program(compiled: Any, measured: dict[int, float]) -> dict[str, Any]:
    """Of the function, or of the backward of its results. measured: as a profile found it."""
    return {"device": compiled.backend.place, "peak": _peak(compiled), "steps": _steps(compiled, measured),
            "not_fused": [{"producer": producer, "consumer": consumer, "why": why}
                          for producer, consumer, why in compiled.unfused],
            "passes": [{"name": record.name, "seconds": record.seconds, "nodes_before": record.nodes_before,
                        "nodes_after": record.nodes_after, "rules": sorted({r.rule for r in record.rewrites})}
                       for record in compiled.report.records]}


def _steps(compiled: Any, measured: dict[int, float]) -> list[dict[str, Any]]:
    provenance, found = compiled.provenance, []
    peaks = import_module("flambeau.backends.peaks").peaks_of(compiled.backend.place) if measured else None
    for number, call in enumerate(compiled.memory.calls):
        kernel, seconds = call.kernel, measured.get(number)
        work = work_of(kernel, dict(zip(kernel.sizes, call.sizes, strict=False)))
        share = None if peaks is None or seconds is None else peaks.share(work.flops, work.bytes, seconds)
        found.append({
            "number": number, "phase": call.phase, "kind": kernel.keyword, "over": list(call.sizes or kernel.extents),
            "does": provenance.words(number), "modules": list(provenance.modules_of(number)),
            "lines": list(kernel.locations),
            "ops": [node.op.name for node in provenance.ops_of(number) if node.op.name != "constant"],
            "flops": work.flops, "bytes": work.bytes, "seconds": seconds, "share_of_peak": share})
    return found


def _peak(compiled: Any) -> dict[str, Any] | None:
    """Where scratch memory is fullest, and with what, the largest first; None where there is none."""
    found = lives(compiled.memory)
    if not found:
        return None
    used = occupied(found, len(compiled.memory.calls))
    step = used.index(max(used))
    alive = sorted((life for life in found if life.first <= step <= life.last), key=lambda life: -life.nbytes)
    return {"step": step, "bytes": used[step], "tensors": [
        {"bytes": life.nbytes, "type": str(life.values[-1].type) if life.values else None,
         "of": compiled.provenance.words(life.first, 1) if life.values else "a kernel's own memory",
         "first": life.first, "last": life.last} for life in alive]}
