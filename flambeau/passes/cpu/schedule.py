"""Kernel -> Kernel with a schedule: how it is tiled, vectorised and cut into tasks."""
from __future__ import annotations

from dataclasses import replace

from flambeau.ir.kernel import ContractionKernel, Kernel
from flambeau.ir.target import Target
from flambeau.passes.cpu.schedule_contraction import schedule_contraction
from flambeau.passes.cpu.schedule_loops import schedule_loops


def schedule(kernel: Kernel, target: Target) -> Kernel:
    """The kernel with a schedule chosen for `target`; one that has a schedule already is kept."""
    if kernel.schedule is not None:
        return kernel
    if isinstance(kernel, ContractionKernel):
        return schedule_contraction(kernel, target)
    return replace(kernel, schedule=schedule_loops(kernel, target))
