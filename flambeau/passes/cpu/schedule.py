"""Kernel -> Kernel with a schedule: how it is tiled, vectorised and cut into tasks."""
from __future__ import annotations

from flambeau.ir.kernel import Kernel
from flambeau.ir.kinds import kind_of
from flambeau.ir.target import Target


def schedule(kernel: Kernel, target: Target) -> Kernel:
    """The kernel with a schedule chosen for `target`; one that has a schedule already is kept."""
    here = kind_of(kernel).implementations.get("cpu")
    if kernel.schedule is not None or here is None or here.schedule is None:
        return kernel
    return here.schedule(kernel, target)
