"""In-place ops: data, views, and the tape. `assign_(target, value)` is what every `x.op_()` ends in."""
from __future__ import annotations

from typing import Any

from flambeau.errors import UnsupportedError
from flambeau.frontend.autograd import Record, grad_mode
from flambeau.frontend.backward import TensorBuilder
from flambeau.frontend.dispatch import dispatch_view, refresh_view, write
from flambeau.frontend.epoch import epoch
from flambeau.frontend.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.op import Op


def assign_(target: Tensor, value: Tensor) -> Tensor:
    """Make `target`'s elements those of `value` (same type, computed out of place), on the tape too. Returns target.

    Raises RuntimeError when target is a leaf that requires grad, or a view of one, while recording."""
    if target._base is not None and target._history != target._base._history:
        refresh_view(target)
    recording = grad_mode.enabled and (target._requires_grad or value._requires_grad)
    if not recording:
        write(target, value)
        return target
    base = target._base
    if target._requires_grad and target._record is None:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation; "
                           "do it under no_grad(), or out of place")
    if base is None:
        write(target, value)
        _continue(target, value)
        return target
    if base._requires_grad and base._record is None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation; "
                           "do it under no_grad(), or out of place")
    rebased = through_views(TensorBuilder(), base, target._chain, value, dispatch_view)
    write(target, value)
    _continue(base, rebased)
    return target


def _continue(target: Tensor, value: Tensor) -> None:
    """Let the tape of `target`, whose elements are now those of `value`, go on from value's."""
    if value._requires_grad:
        if not target._requires_grad:
            epoch.bump()
        target._record, target._index, target._requires_grad = value._record, value._index, True
    else:                                   # all overwritten: it still requires grad, and nothing flows further
        target._record, target._index = Record(ops.stop_gradient, (target,), (target,)), 0
    target._history += 1


def through_views(b: Any, base: Any, chain: tuple[Op, ...], value: Any, view: Any) -> Any:
    """The new value of `base` when the view that `chain` leads to becomes `value`.

    Generic over tensors and graph values: `b` is their Builder, `view(op, x)` applies a view op."""
    if not chain:
        return value
    parents = [base]
    for op in chain[:-1]:
        parents.append(view(op, parents[-1]))
    for op, parent in zip(reversed(chain), reversed(parents), strict=True):
        value = _undo(b, op, parent, value)
    return value


def _undo(b: Any, op: Op, parent: Any, value: Any) -> Any:
    match op:
        case ops.Reshape():
            return b.reshape(value, tuple(parent.shape))
        case ops.Permute(dims=dims):
            return b.permute(value, tuple(dims.index(d) for d in range(len(dims))))
        case ops.Slice(starts=starts, strides=strides):
            return b.emit(ops.UpdateSlice(starts, strides), parent, value)
        case _:
            raise UnsupportedError(f"in-place write through {op.name}: several elements share memory",
                                   hint="clone() the expanded tensor first")
