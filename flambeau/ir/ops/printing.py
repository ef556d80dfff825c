"""The ops that call Python, to print or to be called back: effects, which stay in the graph's order."""
from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from flambeau.errors import VerificationError
from flambeau.ir import dtypes
from flambeau.ir.op import Effect, Op, Sample, register
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

__all__ = ["Callback", "Print", "call_back", "callback", "printed"]


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


@register("callback")
@dataclass(frozen=True)
class Callback(Op):
    """Calls the Python function of this number (`callback` gives one) with the operands, as compute arrays of its own.
    Gives nothing. The function lives as long as an op that calls it."""

    number: int
    kernel_kind = "callback"
    effect = Effect.IO

    def __post_init__(self) -> None:
        object.__setattr__(self, "_held", _held.get(self.number))

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return ()

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        call_back(self.number, operands)
        return ()

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return iter(())                     # as those of Print


class _Held:
    """A function that ops call."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function


def callback(function: Callable[..., object]) -> Callback:
    """An op that calls `function(*arrays)`."""
    number, held = next(_numbers), _Held(function)
    _held[number] = held
    return Callback(number)


def call_back(number: int, arrays: Sequence[np.ndarray]) -> None:
    """Call the function of an op. Raises what it raises; VerificationError if there is none: its graph came as text, from
    another process or from one that was given up."""
    held = _held.get(number)
    if held is None:
        raise VerificationError(f"there is no callback {number} in this process: a graph that calls Python's functions "
                                "runs where it was traced")
    held.function(*map(_shown, arrays))


def printed(text: str, arrays: Sequence[np.ndarray]) -> str:
    """What is printed of arrays; bf16 as f32."""
    return text.format(*[a if a.ndim else a.item() for a in map(_shown, arrays)])


def _shown(array: np.ndarray) -> np.ndarray:
    """A compute array of its own."""
    return dtypes.bf16_to_f32(array) if array.dtype == np.uint16 else np.array(array)


_numbers = itertools.count()
_held: weakref.WeakValueDictionary[int, _Held] = weakref.WeakValueDictionary()
