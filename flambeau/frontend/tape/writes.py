"""In-place ops: data, views, and the tape. `assign_` and `update_` are what every `x.op_()` ends in."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.epoch import epoch
from flambeau.frontend.tape.autograd import Record, grad_mode, record_of
from flambeau.frontend.tape.dispatch import copied, refuse_pinned, up_to_date, write
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.op import Op
from flambeau.ir.ops import View


def assign_(target: Tensor, value: Tensor) -> Tensor:
    """Make `target`'s elements those of `value`, of the same type, whatever they were; on the tape too. Returns target.

    Raises RuntimeError when target is a leaf that requires grad, or a view of one, while recording."""
    is_recorded = _is_recorded(target, value)
    write(target, value)
    if is_recorded:
        replace_on_tape(target, value)
    else:
        _forget_views(target)
    return target


def update_(target: Tensor, value: Tensor) -> Tensor:
    """assign_(), for a value that was computed from what `target` was a moment ago and is in nobody's hands."""
    is_recorded = _is_recorded(target, value)
    write(target, value)
    if is_recorded:
        rebase_(target, value)
    else:
        _forget_views(target)
    return target


def rebase_(target: Tensor, value: Tensor) -> None:
    """The tape's side of update_(), when the elements are those of value already."""
    record = value._record
    if record is not None and value._base is None:
        record.result_moved(value._index, target)
    if record is None or target._base is not None:
        replace_on_tape(target, value)
    else:
        _continue(target, record, value._index)


def before(target: Tensor, others: Sequence[Any] = ()) -> Tensor:
    """`target` for an op of it and `others` whose result will overwrite it: what the tape keeps of this one is out of
    the write's reach. Raises as assign_ does."""
    if not _is_recorded(target, *[t for t in others if isinstance(t, Tensor)]):
        return target
    tracer = active.tracer
    if tracer is not None:
        original = tracer.copied(target)
    else:
        original = copied(target)
    original._requires_grad, original._record, original._index = target._requires_grad, target._record, target._index
    return original


def _is_recorded(target: Tensor, *others: Tensor) -> bool:
    """True when the tape has to know that target is overwritten by what comes from others. Raises RuntimeError when
    it can't be told."""
    if not (grad_mode.enabled and target._type.dtype.is_floating_point):
        return False
    base = target._base
    needs_grad = base is not None and base._requires_grad           # so does a view that was made under no_grad()
    for t in (target, *others):
        up_to_date(t)
        needs_grad = needs_grad or t._requires_grad
    if needs_grad:
        refuse_leaf(target)
    return needs_grad


def refuse_leaf(target: Tensor) -> None:
    """Raise RuntimeError where a recorded write has no place on the tape: on leaves that require grad, views of them,
    and views that can't follow it."""
    base = target._base
    if base is not None and (_is_leaf_of_tape(target) or _is_leaf_of_tape(base) or _comes_from_leaf(target)):
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation; "
                           "do it under no_grad(), or out of place")
    if _is_leaf_of_tape(target):
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation; "
                           "do it under no_grad(), or out of place")
    refuse_pinned(target, "is changed in place")


def _comes_from_leaf(view: Tensor) -> bool:
    """True for a view of a leaf that is a view itself, of something that requires no grad."""
    t = view
    while t._record is not None and isinstance(t._record.op, View):
        t = t._record.operands[0]
        if t._storage is not view._storage:
            return False
        if _is_leaf_of_tape(t):
            return True
    return False


def _is_leaf_of_tape(t: Tensor) -> bool:
    return t._requires_grad and t._record is None


def replace_on_tape(target: Tensor, value: Tensor) -> None:
    """Put on the tape that value's elements have taken the place of those of target, which may be a view."""
    owner = target if target._base is None else target._base
    record = Record(Overwrite(target._chain), (owner, value), (owner,))
    record.forget_operands()
    _continue(owner, record, 0)
    if target._retains_grad:                # from now on that of what it is now
        up_to_date(target)


def _continue(target: Tensor, record: Record, index: int) -> None:
    """Let the tape of `target` go on from a record's result."""
    if not target._requires_grad:
        epoch.bump()
    record_of(target, record, index)
    target._history += 1


def _forget_views(target: Tensor) -> None:
    """After an unrecorded write: views of what is on the tape derive their place there anew, as in PyTorch."""
    owner = target if target._base is None else target._base
    if owner._requires_grad:
        owner._history += 1


class Overwrite(Op):
    """The tape's op for a value written over the part of a tensor that a chain of view ops leads to. Only the tape
    has it: memory, or the trace's current value, was written already."""

    name = "overwrite"

    def __init__(self, chain: tuple[View, ...]):
        self.chain = chain

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any],
            cotangents: Sequence[Any]) -> Sequence[Any]:
        cotangent, value = cotangents[0], operands[1]
        around = within = None
        if b.wants(0):
            around = through_views(b, cotangent, self.chain, b.zeros(value._type), b.emit)
        if b.wants(1):
            within = cotangent
            for op in self.chain:
                within = b.emit(op, within)
        return around, within


def through_views(b: Any, base: Any, chain: tuple[View, ...], value: Any, view: Any) -> Any:
    """The new value of `base` when the view that `chain` leads to becomes `value`.

    Generic over tensors and graph values: `b` is their Builder, `view(op, x)` applies a view op."""
    if not chain:
        return value
    parents = [base]
    for op in chain[:-1]:
        parents.append(view(op, parents[-1]))
    for op, parent in zip(reversed(chain), reversed(parents), strict=True):
        value = op.replaced(b, parent, value)
    return value
