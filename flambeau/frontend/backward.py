"""`backward()` and `grad()`: the walk over the tape, eager or under trace."""
from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from flambeau.errors import UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.autograd import Record, is_grad_enabled, key_of, origin_of, set_grad_enabled, tape_of
from flambeau.frontend.dispatch import constant, dispatch, dispatch_view, number, refresh_view, write
from flambeau.frontend.gradient_hooks import (
    HookedResult,
    leaf_gradient,
    register_hook,
    result_key,
    with_hooks,
)
from flambeau.frontend.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.dtypes import DType
from flambeau.ir.op import Op
from flambeau.passes.autodiff import backpropagate

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph

VIEW_OPS = (ops.Broadcast, ops.Reshape, ops.Permute, ops.Slice)


class TensorBuilder(Builder):
    """A Builder whose values are tensors: derivative rules written for graphs run on the tape through it."""

    def __init__(self) -> None:
        self.loc, self.phase = None, "backward"
        self._wanted: Sequence[Any] | None = None

    def wants(self, position: int) -> bool:
        return self._wanted is None or self._wanted[position] is not None

    def parts_of(self, record: Any) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """What `backpropagate` asks of a record; its derivative rule then computes only what is wanted."""
        if isinstance(record, HookedResult):
            operand = (record.record.saved_results()[record.index],)
            return operand, operand, (result_key(record.record, record.index), (id(record.record), record.index))
        keys = self._wanted = [key_of(t) if t._requires_grad else None for t in record.operands]
        result_keys = [result_key(record, index) for index in range(len(record._saved_results))]
        return record.operands, record.saved_results(), (*keys, *result_keys)

    def scalar(self, value: float | int | bool, like: Any) -> Any:
        return number(value, like if isinstance(like, DType) else like.dtype)

    def emit(self, op: Op, *operands: Any, regions: tuple[Graph, ...] = ()) -> Any:
        assert not regions, f"{op.name}: regions are for graphs"
        return dispatch_view(op, operands[0]) if isinstance(op, VIEW_OPS) and _is_viewable(op, operands[0]) \
            else dispatch(op, *operands)


def _is_viewable(op: Op, x: Tensor) -> bool:
    return not isinstance(op, ops.Reshape) or x.is_contiguous()


def _seeds(roots: Sequence[Tensor], cotangents: Sequence[Tensor | None], who: str) -> dict[Any, Tensor]:
    seeds: dict[Any, Tensor] = {}
    for root, ct in zip(roots, cotangents, strict=True):
        if not root._requires_grad:
            raise RuntimeError(f"{who}: a tensor does not require grad and has no grad_fn; nothing to differentiate")
        if ct is None:
            if root.numel() != 1:
                raise RuntimeError(f"{who}: grad can be implicitly created only for scalar outputs, this one is "
                                   f"{root._type}; pass the gradient")
            one = constant(1, root.dtype)
            ct = dispatch(ops.Reshape(tuple(root.shape)), one) if root.shape else one
        elif ct._type != root._type:
            raise RuntimeError(f"{who}: the gradient given is {ct._type}, the output is {root._type}")
        key = key_of(root)
        seeds[key] = dispatch(ops.add, seeds[key], ct) if key in seeds else ct
    return seeds


def walk(roots: Sequence[Tensor], cotangents: Sequence[Tensor | None], create_graph: bool,
          who: str) -> tuple[dict[Any, Tensor], list[Record]]:
    """Cotangents by key, and the records walked."""
    for root in roots:
        if root._base is not None and root._history != root._base._history:
            refresh_view(root)
    order = tape_of(roots)
    tracer = active.tracer
    with set_grad_enabled(create_graph), (tracer.backward_phase() if tracer is not None else nullcontext()):
        b = TensorBuilder()
        found = backpropagate(b, with_hooks(order), _seeds(roots, cotangents, who), b.parts_of,
                              lambda key: key is not None)
    return found, order


def backward(tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None, retain_graph: bool | None = None,
             create_graph: bool = False, inputs: Tensor | Sequence[Tensor] | None = None) -> None:
    """Add the gradients of `tensors` to `.grad` of the leaves they depend on (only `inputs`, when given).

    grad_tensors: the gradients to start from, of the same types; None for 0-d (or one-element) tensors.
    Raises RuntimeError when nothing requires grad, or a saved tensor was changed in place or already freed."""
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    starts = [None] * len(roots) if grad_tensors is None else \
        [grad_tensors] if isinstance(grad_tensors, Tensor) else list(grad_tensors)
    found, order = walk(roots, starts, create_graph, "backward")
    if active.tracer is not None and inputs is None:
        _refuse_outside(roots, order)
    if inputs is not None:
        leaves = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    else:
        leaves = list({id(t): t for t in _leaves(roots, order)}.values())
    for leaf in leaves:
        ct = found.get(key_of(leaf))
        if ct is not None:
            _accumulate(leaf, leaf_gradient(leaf, ct), create_graph)
    _finish(order, found, retain_graph, create_graph)


def _refuse_outside(roots: Sequence[Tensor], order: Sequence[Record]) -> None:
    """A traced backward can't go on into a tape that was recorded before the compiled function ran."""
    tracer = active.tracer
    for t in (*roots, *(t for record in order for t in record.operands)):
        if t._requires_grad and t._record is not None and t._record.tracer is not tracer:
            raise UnsupportedError(
                f"backward() in a compiled function reached a tensor {t._type} that {t._record.name} had computed "
                "outside of it, whose gradients would be lost",
                hint="compute it inside too, call backward() outside, or detach() it")


def _leaves(roots: Sequence[Tensor], order: Sequence[Record]) -> list[Tensor]:
    candidates = [*roots, *(t for record in order for t in record.operands)]
    return [origin_of(t) for t in candidates if t._record is None and t._requires_grad]


def _accumulate(leaf: Tensor, ct: Tensor, create_graph: bool) -> None:
    if leaf._type != ct._type:
        raise RuntimeError(f"a derivative rule gave {ct._type} for a tensor of type {leaf._type}")
    tracer = active.tracer
    old = leaf._grad if tracer is None else tracer.get_grad(leaf, adding=True)
    with set_grad_enabled(create_graph):
        if old is None and tracer is not None:
            tracer.set_grad(leaf, ct if create_graph else _owned(ct), adding=True)
        elif old is None:
            leaf.grad = ct if create_graph else _owned(ct)
        elif create_graph:
            leaf.grad = dispatch(ops.add, old, ct)
        else:
            write(old, dispatch(ops.add, old, ct))


def _owned(ct: Tensor) -> Tensor:
    """A gradient of its own storage, off the tape: the user may change it in place."""
    return dispatch(ops.stop_gradient, ct)


def _finish(order: Sequence[Record], found: dict[Any, Tensor], retain_graph: bool | None, create_graph: bool) -> None:
    for record in order:
        if record.retained:
            for index, reference in record.retained.items():
                tensor, ct = reference(), found.get(result_key(record, index))
                if tensor is not None and ct is not None:
                    tensor.grad = ct
        if not (create_graph if retain_graph is None else retain_graph):
            record.free()


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None,
         retain_graph: bool | None = None, create_graph: bool = False, allow_unused: bool | None = None,
         materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, without touching `.grad`.

    Raises RuntimeError when an input is not part of the graph, unless allow_unused (then None) or
    materialize_grads (then zeros)."""
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    starts = [None] * len(roots) if grad_outputs is None else \
        [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    for t in wanted:
        if not t._requires_grad:
            raise RuntimeError("grad: one of the inputs does not require grad")
    found, order = walk(roots, starts, create_graph, "grad")
    _finish(order, {}, retain_graph, create_graph)
    results: list[Tensor | None] = []
    for t in wanted:
        ct = found.get(key_of(t) if t._record is None else result_key(t._record, t._index))
        if ct is not None and t._record is None:
            ct = leaf_gradient(t, ct)
        if ct is None and materialize_grads:
            ct = dispatch(ops.Broadcast(tuple(t.shape), ()), constant(0, t.dtype)) if t.shape else constant(0, t.dtype)
        if ct is None and not allow_unused:
            raise RuntimeError("grad: one of the inputs was not used to compute the outputs; "
                               "set allow_unused=True if that is intended")
        results.append(ct)
    return tuple(results)


def retain_grad(tensor: Tensor) -> None:
    """Keep this computed tensor's gradient in `.grad` at the next backward."""

    if not tensor._requires_grad:
        raise RuntimeError("can't retain_grad on a tensor that does not require grad")
    if tensor._record is not None:
        if tensor._record.retained is None:
            tensor._record.retained = {}
        tensor._record.retained[tensor._index] = weakref.ref(tensor)
        tensor._retains_grad = True


__all__ = ["backward", "grad", "is_grad_enabled", "register_hook", "retain_grad"]
