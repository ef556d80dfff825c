"""What a trace is told of from outside: tensors as they were when it met them, and numbers that stay inputs."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.tape.autograd import Record, grad_mode
from flambeau.frontend.tape.dispatch import up_to_date
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.graph import Value
from flambeau.ir.op import Op
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType


@dataclass
class Captured:
    """A tensor from outside: `tensor` owns the storage's layout, `input` is its value when the graph starts."""

    tensor: Tensor
    input: Value


@dataclass(frozen=True, eq=False, slots=True)
class Outside:
    """A tensor from outside as it was when the trace met it: memory, type and tape."""

    tensor: Tensor
    storage: Storage
    type: TensorType
    chain: tuple[Op, ...]
    requires_grad: bool
    hooks: tuple[int, ...]
    record: Record | None
    index: int
    history: int

    @staticmethod
    def of(t: Tensor) -> Outside:
        return Outside(t, t._storage, t._type, t._chain, t._requires_grad, hook_keys(t), t._record, t._index, t._history)

    def is_same_kind(self) -> bool:
        """True unless its type, its place in its storage, or what autograd does with it changed."""
        t = self.tensor
        if grad_mode.enabled:
            up_to_date(t)
        return (t._requires_grad is self.requires_grad and (t._type is self.type or t._type == self.type)
                and t._chain == self.chain and hook_keys(t) == self.hooks)

    def is_on_tape_of(self, trace: Any) -> bool:
        """True when the trace put it on its tape."""
        return self.tensor._record is not None and self.tensor._record.tracer is trace

    def restore_tape(self) -> None:
        """Take back what a trace did to the tape of this tensor."""
        t = self.tensor
        t._requires_grad, t._record, t._index, t._history = self.requires_grad, self.record, self.index, self.history


def hook_keys(t: Tensor) -> tuple[int, ...]:
    """The gradient hooks of a tensor, by the numbers they are kept under."""
    of_result = None if t._record is None or t._record.hooks is None else t._record.hooks.get(t._index)
    return (*(t._hooks or ()), *(of_result or ()))


@dataclass
class ScalarInput:
    """A runtime number: where it is read at each call. owner None: argument leaf number `key`."""

    owner: dict[str, Any] | None
    key: Any
    input: Value
    value: float | int
    guarded: bool = False

    def now(self) -> Any:
        """What the owner has there."""
        assert self.owner is not None, "only items are looked up again"
        return self.owner[self.key]


__all__ = ["Captured", "Outside", "ScalarInput", "hook_keys"]
