"""One door for every op: `dispatch(op, *tensors)` evaluates at once, or appends to the graph being traced.

Either way the autograd tape is kept here, so that `backward()` is the same walk in both.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from flambeau.errors import FlambeauError, UnsupportedError, VerificationError
from flambeau.frontend.active import active, traced_by
from flambeau.frontend.tape.autograd import FREED, Record, enable_grad, grad_mode, record_of
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import told_by_whom, user_location
from flambeau.ir import ops
from flambeau.ir.devices import Elsewhere
from flambeau.ir.dtypes import DType
from flambeau.ir.evaluation import apply
from flambeau.ir.op import Op
from flambeau.ir.ops import View
from flambeau.ir.types import TensorType


def dispatch(op: Op, *operands: Tensor) -> Any:
    """Apply `op`; a Tensor, or a tuple of them for ops with several results.

    Operands must already be promoted and broadcast (ops are strict). Raises TypeInferenceError otherwise."""
    requires_grad = False
    for t in operands:
        if t._saved_version != -1 or t._base is not None:
            _prepare(t, op)
        requires_grad = requires_grad or t._requires_grad
    tracer = active.tracer
    results = tracer.record(op, operands) if tracer is not None else _evaluate(op, operands)
    if requires_grad and grad_mode.enabled:
        attach_record(op, operands, results)
    return results[0] if len(results) == 1 else results


def dispatch_view(op: View, x: Tensor) -> Tensor:
    """Apply a view op whose result shares memory with x (Reshape of a contiguous tensor, Permute, Slice, Broadcast)."""
    if x._saved_version != -1 or x._base is not None:
        _prepare(x, op)
    tracer = active.tracer
    if tracer is not None:
        result = tracer.record_view(op, x)
    else:
        try:
            (type,) = op.infer(x._type)
        except FlambeauError as error:
            told_by_whom(error, op.name, user_location())
            raise
        array = x._array
        if array is not None or not x._storage.is_elsewhere:
            array = op.evaluate(x._data() if array is None else array)      # type: ignore[assignment]
            assert isinstance(array, np.ndarray), f"{op.name} gave no array"
        base = x if x._base is None else x._base
        result = Tensor._make(x._storage, type, array, base, (*x._chain, op))
        result._history = base._history
    result._pinned = x._pinned if grad_mode.enabled or x._pinned is not None else "made under no_grad()"
    if grad_mode.enabled and x._requires_grad:
        attach_record(op, (x,), (result,))
    return result


def constant(value: Any, dtype: DType) -> Tensor:
    """A tensor of fixed contents: value is a number, or an ndarray in `dtype`'s storage layout."""
    return dispatch(ops.Constant(ops.literal(value, dtype)))


def dispatch_number(value: float | int, dtype: DType) -> Tensor:
    """A rank-0 constant to compute with. Not for users' hands: in eager mode it is kept, and can't be written."""
    if value != value:                      # NaN is no key
        return constant(value, dtype)
    is_negative_zero = value == 0 and math.copysign(1.0, value) < 0
    if active.tracer is not None:
        made: Tensor = dispatch(_number(value, dtype, is_negative_zero))
        return made
    return _kept_number(value, dtype, is_negative_zero)


@functools.lru_cache(maxsize=1024)                  # 1 == 1.0 == True are one number in any dtype
def _number(value: float | int, dtype: DType, is_negative_zero: bool) -> ops.Constant:
    return ops.Constant(ops.literal(value, dtype))


@functools.lru_cache(maxsize=1024)
def _kept_number(value: float | int, dtype: DType, is_negative_zero: bool) -> Tensor:
    literal = _number(value, dtype, is_negative_zero).value
    return Tensor._make(Storage(literal.array), literal.type, literal.array)


def write(target: Tensor, value: Tensor) -> None:
    """Overwrite the elements of `target` (and so of every view of its storage) by `value`, of the same type.

    Only the data: autograd's side of an in-place op is in `inplace.py`."""
    if target._type != value._type and target._type != value._type.on(target._type.device):
        raise VerificationError(f"write {value._type} into {target._type}")
    tracer = active.tracer
    if tracer is not None:
        tracer.write(target, value)
        return
    array = target._array
    if array is None:
        if target._storage.is_elsewhere:
            _elsewhere().write(target, value)
            _changed(target)
            return
        array = target._data()
    if not array.flags.writeable:
        raise UnsupportedError("in-place write to a tensor whose elements share memory (made by expand), or whose "
                               "memory is read-only", hint="clone() it first")
    source = value._data()
    if value._storage is target._storage:
        source = source.copy()          # NumPy copies in one pass where both have one dim, whatever their strides
    _copyto(array, source)
    _changed(target)


def _changed(target: Tensor) -> None:
    """Its memory was written to."""
    if is_watched(target):
        target._storage.version += 1
    else:
        target._storage.changed_unseen()


def is_watched(target: Tensor) -> bool:
    """False for x.data and its views, whose writes the tape is not to know of."""
    return not (target if target._base is None else target._base)._unwatched


def _evaluate(op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    types = [t._type for t in operands]
    try:
        given = [_looked_up(t) if t._array is None else t._array for t in operands]
        results = op.infer(*types)
        arrays: tuple[np.ndarray, ...] | None = apply(op, given, types, results)
    except Elsewhere:
        arrays = None
    except FlambeauError as error:
        told_by_whom(error, op.name, user_location())
        raise
    if arrays is None:
        found: tuple[Tensor, ...] = _elsewhere().evaluate(op, operands)
        return found
    if len(arrays) == 1:
        return (_own(arrays[0], results[0], given),)
    return tuple([_own(array, type, given) for array, type in zip(arrays, results, strict=True)])


_copyto: Callable[..., None] = np.copyto


Evaluators = tuple[Callable[..., Any], Callable[..., None], Callable[[], Any]]


def evaluators() -> Evaluators:
    """What evaluates eager ops, as `evaluate(op, operands)`; what writes in place, as `copyto(array, source)`; and what has
    the `evaluate` and `write` of other devices, as `elsewhere()`."""
    return _evaluate, _copyto, _elsewhere


def exchange(evaluate: Callable[..., Any], copyto: Callable[..., None], elsewhere: Callable[[], Any]) -> None:
    """From now on these do. A profile takes their place, so that nothing has to ask whether there is one."""
    global _evaluate, _copyto, _elsewhere
    _evaluate, _copyto, _elsewhere = evaluate, copyto, elsewhere


def _looked_up(t: Tensor) -> np.ndarray:
    """Its data. Raises Elsewhere for a tensor of a device."""
    if t._storage.is_elsewhere:
        raise Elsewhere
    return t._data()


def _elsewhere() -> Any:
    """How ops run on other devices: loaded with the first tensor there, as it needs the compiler."""
    return import_module("flambeau.frontend.tape.device_ops")


def copied(x: Tensor) -> Tensor:
    """What x holds now, in memory of its own, off the tape."""
    array = x._array
    if array is None:
        if x._storage.is_elsewhere:
            return _evaluate(ops.stop_gradient, (x,))[0]
        array = x._data()
    return Tensor._make(Storage(array := array.copy()), x._type, array)


def _own(array: np.ndarray, type: TensorType, given: list[np.ndarray]) -> Tensor:
    """A result tensor, in row-major order. NumPy may have given (a view of) an operand, which an op that is no view
    must not share, a read-only constant, or a scalar."""
    if array.base is not None or not array.flags.carray:
        array = np.array(array, order="C")
    else:
        for operand in given:
            if array is operand:
                array = array.copy()
    return Tensor._make(Storage(array), type, array)


def attach_record(op: Op, operands: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> Record | None:
    """Put `op` on the tape: its floating-point results require grad and remember how they were made."""
    if op.name == "stop_gradient" or not any(r._type.dtype.is_floating_point for r in results):
        return None
    if active.tracer is not None:
        kept = active.tracer.recorded(operands)
        if kept is None:
            return None
        operands = kept
    record = Record(op, operands, results)
    for index, result in enumerate(results):
        if result._type.dtype.is_floating_point:
            result._requires_grad = True
            result._record, result._index = record, index
    return record


def _prepare(t: Tensor, op: Op) -> None:
    """Checks on tensors that are not plain: saved ones must be unchanged, views follow their base's history."""
    check_unchanged(t, op.name)
    if t._saved_version < 0 and grad_mode.enabled:
        up_to_date(t)


def check_unchanged(t: Tensor, name: str) -> None:
    """Raise RuntimeError for what an operation of that name has saved, if it was freed or changed in place since."""
    if t._saved_version == FREED:
        check_saved(t)
    if t._saved_version >= 0:
        version = t._storage.version if active.tracer is None else active.tracer.saved_version_of(t)
        if version != t._saved_version:
            raise RuntimeError(
                f"one of the tensors needed for gradient computation has been modified by an inplace operation: "
                f"{t._type} is at version {version}, the derivative of {name} expected version {t._saved_version}. "
                "Use an out-of-place operation, or clone() the tensor first")


def check_saved(t: Tensor) -> None:
    """Raise RuntimeError for what a backward has freed."""
    if t._saved_version == FREED:
        raise RuntimeError("backward a second time through a graph whose saved tensors were already freed; "
                           "use retain_graph=True in the first backward")


def is_stale(t: Tensor) -> bool:
    """True for a view whose base's tape was rewritten since it was made."""
    return t._base is not None and t._history != t._base._history


def up_to_date(t: Tensor) -> None:
    """Derive a view's tape again from its base, if that was changed in place since the view was made."""
    if not is_stale(t):
        return
    base, tracer = t._base, active.tracer
    assert base is not None
    if not base._requires_grad:             # taken off the tape by detach_(): the view stays where it was
        t._history = base._history
        return
    refuse_pinned(t, "has a base that was changed in place")
    if tracer is not None and tracer.was_there(t) and getattr(base._record, "tracer", None) is not tracer:
        with traced_by(tracer.around):
            up_to_date(t)
        return
    current = base
    with enable_grad():
        for step in t._chain:
            current = dispatch_view(step, current)
    record_of(t, current._record, current._index, current._requires_grad)
    t._history = base._history


def refuse_pinned(view: Tensor, what: str) -> None:
    """Raise RuntimeError for a view whose place on the tape can't be told after an in-place change."""
    if view._pinned is not None:
        raise RuntimeError(f"a view {view._pinned} {what} by something that requires grad, which its gradients "
                           "can't follow; use an out-of-place operation, clone() the view, or change it under no_grad()")
