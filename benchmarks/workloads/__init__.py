"""The table of workloads. Nothing here imports a framework: peers pass their own modules in."""

from benchmarks.workloads import digits_cnn, kernels, lenet, mlp, tiny_call, transformer
from benchmarks.workloads.base import Call, Train, Workload

STEPS: tuple[Workload, ...] = (
    digits_cnn.WORKLOAD,
    mlp.WORKLOAD,
    lenet.WORKLOAD,
    *transformer.WORKLOADS,
    tiny_call.WORKLOAD,
)
KERNELS: tuple[Workload, ...] = kernels.WORKLOADS
BY_NAME: dict[str, Workload] = {workload.name: workload for workload in STEPS + KERNELS}

__all__ = ["BY_NAME", "KERNELS", "STEPS", "Call", "Train", "Workload"]
