"""Whether a result shares memory with its operand.

Eager code shares where it can, which may follow the sizes: `x.T.contiguous()` is a copy, and x.T itself where x has one
row. Where sizes have names, those of the traced call decide, and that other sizes decide alike is asked only once
somebody can tell: when one of the two is written, or its gradient is asked for (`Trace.settle`).
"""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.frontend.active import active
from flambeau.frontend.tensor.strides import as_traced, is_row_major, strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.answers import assuming, known
from flambeau.ir.dims import same_shape
from flambeau.ir.ops.views import regrouped, row_major

__all__ = ["apart", "is_in_rows", "shares_memory"]


def is_in_rows(x: Tensor) -> bool:
    """`x.is_contiguous()`, by the traced call's sizes where it is not so for all. A copy that is made otherwise is told
    to `apart`."""
    shape, strides = x._type.static_shape, strides_of(x)
    if known() is None or same_shape(strides, row_major(shape)):
        return is_row_major(shape, strides)
    numbers = as_traced(shape), as_traced(strides)
    with assuming(None):
        found = is_row_major(*numbers)
    return found and is_row_major(shape, strides)


def shares_memory(op: ops.Reshape, x: Tensor) -> bool:
    """Whether a reshape can be a view, likewise."""
    if x._base is None and x._storage.trace is None and active.tracer is None and x._data().flags.c_contiguous:
        return True
    shape, strides = x._type.static_shape, strides_of(x)
    if same_shape(strides, row_major(shape)):
        return True
    if known() is None:
        return op.strides_through(shape, strides) is not None
    numbers = as_traced(shape), as_traced(strides), as_traced(op.shape)     # type: ignore[arg-type]
    with assuming(None):
        found = regrouped(*numbers)
    return found is not None and (op.strides_through(shape, strides) is not None or _regroups(op, shape, strides))


def apart(x: Tensor, copy: Tensor, reshape: ops.Reshape | None = None) -> Tensor:
    """The copy, which was made of x because x is not in rows (or because the reshape can't be a view)."""
    if known() is not None:
        tracer, shape, strides = active.tracer, x._type.static_shape, strides_of(x)
        assert tracer is not None, "sizes have names in traces alone"

        def question() -> None:
            shared = is_row_major(shape, strides) if reshape is None else _regroups(reshape, shape, strides)
            assert not shared, "the numbers of the traced call have decided"

        tracer.put_off(question, (x, copy))
    return copy


def _regroups(op: ops.Reshape, shape: Sequence[int], strides: Sequence[int]) -> bool:
    return regrouped(shape, strides, op.shape, asks=True) is not None       # type: ignore[arg-type]
