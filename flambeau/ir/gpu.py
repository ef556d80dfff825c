"""What a backend may assume of a GPU. Plain data, so that kernels are written, compiled and tested where there is none."""
from __future__ import annotations

from flambeau.ir.records import dataclass

__all__ = ["SM80", "SM90", "GpuTarget"]


@dataclass(frozen=True)
class GpuTarget:
    """An NVIDIA GPU to compile for: compute capability, and what schedules depend on."""

    capability: tuple[int, int]
    multiprocessors: int
    threads: int = 2048                     # of one multiprocessor at the same time
    shared_bytes: int = 227 << 10           # of one block, at most
    l2_bytes: int = 50 << 20
    tf32: bool = False                      # whether products of f32 may round their operands to 10 bits of mantissa
    deterministic: bool = False             # sums at computed places have one order, and the same bits every time

    @property
    def arch(self) -> str:
        """What assemblers call it: sm_90."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    @property
    def schedule_key(self) -> str:
        """The text that decides the schedule of a kernel."""
        return repr(self)


SM80 = GpuTarget((8, 0), 108, shared_bytes=163 << 10, l2_bytes=40 << 20)        # A100
SM90 = GpuTarget((9, 0), 132)                                                   # H100, H200
