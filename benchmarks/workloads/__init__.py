"""The table of workloads. Nothing here imports a framework: peers pass their own modules in."""

from benchmarks.workloads import digits_cnn, growing, kernels, lenet, mlp, tiny_call, transformer
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



def find(name: str) -> Workload:
    """The workload of a name, one of a family too, such as gpt96. Raises KeyError."""
    return BY_NAME.get(name) or growing.of_name(name) or BY_NAME[name]


__all__ = ["BY_NAME", "KERNELS", "STEPS", "Call", "Train", "Workload", "find"]
