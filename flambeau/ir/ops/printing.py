"""The op that prints: an effect, which stays in the graph's order."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.op import Effect, Op, Sample, register
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

__all__ = ["Print", "printed"]


@register("print")
@dataclass(frozen=True)
class Print(Op):
    """Prints `text`, its `{0}`, `{1:.3f}` filled with the operands: arrays, and numbers of rank 0. Gives nothing."""

    text: str
    kernel_kind = "print"
    effect = Effect.IO

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return ()

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        print(printed(self.text, operands), flush=True)
        return ()

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return iter(())                     # it gives nothing that could be compared: tests/frontend/test_debug_print.py


def printed(text: str, arrays: Sequence[np.ndarray]) -> str:
    """What is printed of arrays; bf16 as f32."""
    shown = [dtypes.bf16_to_f32(a) if a.dtype == np.uint16 else a for a in arrays]
    return text.format(*[a if a.ndim else a.item() for a in shown])
