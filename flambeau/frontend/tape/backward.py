"""`backward()` and `grad()`: the walk over the tape, eager or under trace."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from flambeau.errors import UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.tape.anomaly import of_watched, watched
from flambeau.frontend.tape.autograd import (
    Record,
    anomaly,
    is_grad_enabled,
    key_of,
    origin_of,
    set_grad_enabled,
    tape_of,
)
from flambeau.frontend.tape.dispatch import (
    constant,
    dispatch,
    dispatch_number,
    dispatch_view,
    up_to_date,
    write,
)
from flambeau.frontend.tape.gradient_hooks import (
    Hooked,
    final_key,
    register_hook,
    register_post_accumulate_grad_hook,
    result_key,
    run_after_accumulation,
    with_hooks,
)
from flambeau.frontend.tape.moves import Moved, moved
from flambeau.frontend.tape.sharing import apart, is_in_rows
from flambeau.frontend.tape.unwatched import unwatched, watching
from flambeau.frontend.tape.writes import Overwrite
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.dtypes import DType
from flambeau.ir.op import Op, RegionOp
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import backpropagate
from flambeau.warned import warn

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph


class TensorBuilder(Builder):
    """A Builder whose values are tensors: derivative rules written for graphs run on the tape through it."""

    def __init__(self) -> None:
        self.loc, self.phase = None, "backward"
        self._wanted: Sequence[Any] | None = None

    def wants(self, position: int) -> bool:
        return self._wanted is None or self._wanted[position] is not None

    def parts_of(self, record: Any) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """What `backpropagate` asks of a record; its derivative rule then computes only what is wanted."""
        if active.tracer is not None:
            active.tracer.differentiated = None if isinstance(record, Hooked) else record.loc
        if isinstance(record, Hooked):
            return (record.tensor,), (record.tensor,), record.keys
        keys = self._wanted = [key_of(t) if t._requires_grad else None for t in record.operands]
        result_keys = [result_key(record, index) for index in range(len(record._saved_results))]
        return record.operands, record.saved_results(), (*keys, *result_keys)

    def scalar(self, value: float | int | bool, like: Any) -> Any:
        return dispatch_number(value, like if isinstance(like, DType) else like.dtype)

    def full(self, type: TensorType, value: float | int | bool) -> Any:
        if type.device == "cpu":
            return super().full(type, value)
        number: Any = moved(constant(value, type.dtype), type.device)
        return self.broadcast(number, type.shape, ())

    def emit(self, op: Op, *operands: Any, regions: tuple[Graph, ...] = ()) -> Any:
        assert not regions, f"{op.name}: regions are for graphs"
        if not isinstance(op, ops.View) or not op.shares_memory:
            return dispatch(op, *operands)
        (x,) = operands
        return dispatch_view(op, x) if not isinstance(op, ops.Reshape) or is_in_rows(x) else apart(x, dispatch(op, x))


def _seeds(roots: Sequence[Tensor], cotangents: Sequence[Tensor | None], who: str) -> dict[Any, Tensor]:
    seeds: dict[Any, Tensor] = {}
    for root, ct in zip(roots, cotangents, strict=True):
        if not root._requires_grad:
            raise RuntimeError(f"{who}: a tensor does not require grad and has no grad_fn; nothing to differentiate")
        if ct is None:
            if root.numel() != 1:
                raise RuntimeError(f"{who}: grad can be implicitly created only for scalar outputs, this one is "
                                   f"{root._type}; pass the gradient")
            one = constant(1, root.dtype) if root._type.device == "cpu" else \
                moved(constant(1, root.dtype), root._type.device)
            ct = dispatch(ops.Reshape(tuple(root.shape)), one) if root.shape else one
        elif ct.ndim == root.ndim and ct._type.shape == root._type.shape and ct._type.dtype.is_floating_point:
            ct = ct if ct._type.dtype is root._type.dtype else dispatch(ops.Cast(root._type.dtype), ct)
            if ct._type.device != root._type.device and active.tracer is None:
                if ct._type.shape:
                    raise RuntimeError(f"{who}: invalid gradient at index {len(seeds)} - expected device "
                                       f"{root._type.device} but got {ct._type.device}")
                ct = moved(ct, root._type.device)
        else:
            raise RuntimeError(f"{who}: the gradient given is {ct._type}, the output is {root._type}")
        key = key_of(root)
        seeds[key] = dispatch(ops.add, seeds[key], ct) if key in seeds else ct
    return seeds


def walk(roots: Sequence[Tensor], cotangents: Sequence[Tensor | None], create_graph: bool, who: str,
         wanted: Sequence[Tensor] | None = None, runs_leaf_hooks: bool = False, since: int = 0
         ) -> tuple[dict[Any, Tensor], list[Record]]:
    """Cotangents by key, and the records walked: all, or those on the way to what is wanted; none older than `since`."""
    for t in (*roots, *(wanted or ())):
        up_to_date(t)
    order, tracer = [record for record in tape_of(roots) if record.number >= since], active.tracer
    if wanted is not None:
        order = _leading_to(wanted, order)
        for t in wanted:
            if tracer is not None:
                tracer.meet(t)
                tracer.settle(t)
    with set_grad_enabled(create_graph), (tracer.backward_phase() if tracer is not None else nullcontext()):
        b = TensorBuilder()
        operations = with_hooks(roots, order, wanted, runs_leaf_hooks)
        parts_of: Callable[[Any], Any] = b.parts_of
        if anomaly.is_on and anomaly.checks:
            operations, parts_of = watched(operations), of_watched(parts_of)
        propagate = functools.partial(backpropagate, b, operations, _seeds(roots, cotangents, who), parts_of,
                                      lambda key: key is not None)
        found = unwatched(propagate) if watching and unwatched(are_ours, roots, order) else propagate()
    return found, order


def are_ours(roots: Sequence[Tensor], order: Sequence[Record]) -> bool:
    """True where the derivatives of these records run no code of the user's, and no hook does."""
    for record in order:
        if type(record) is not Record or record.hooks or not type(record.op).__module__.startswith(_OURS) or \
                isinstance(record.op, RegionOp):
            return False
    return not any(origin_of(t)._hooks for tensors in (roots, *[record.operands for record in order]) for t in tensors)


_OURS = (ops.__name__, Overwrite.__module__, Moved.__module__)


def _leading_to(wanted: Sequence[Tensor], order: Sequence[Record]) -> list[Record]:
    """The records through which cotangents reach one of the wanted tensors."""
    keys = {key_of(t) for t in wanted}
    leading: set[int] = set()
    for record in reversed(order):
        if any(t._requires_grad and (key_of(t) in keys or id(t._record) in leading) for t in record.operands):
            leading.add(id(record))
    return [record for record in order if id(record) in leading]


def backward(tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None, retain_graph: bool | None = None,
             create_graph: bool = False, grad_variables: Any = None,
             inputs: Tensor | Sequence[Tensor] | dict[Any, Tensor] | None = None) -> None:
    """Add the gradients of `tensors` to `.grad` of the leaves they depend on (only `inputs`, when given).

    grad_tensors: the gradients to start from, of the same types; None for 0-d (or one-element) tensors.
    grad_variables: an old name of grad_tensors, which warns.
    Raises RuntimeError when nothing requires grad, or a saved tensor was changed in place or already freed."""
    if grad_variables is not None:
        warn("FB018", "backward: grad_variables is called grad_tensors now", stacklevel=2)
        if grad_tensors is not None:
            raise RuntimeError("backward: grad_variables and grad_tensors are one argument; give grad_tensors alone")
        grad_tensors = grad_variables
    roots = _listed(tensors)
    starts = [None] * len(roots) if grad_tensors is None else _listed(grad_tensors)
    wanted = None if inputs is None else _listed(list(inputs.values()) if isinstance(inputs, dict) else inputs)
    if wanted is not None and not wanted:
        raise RuntimeError("backward: inputs can't be empty; leave it out for all leaves")
    found, order = walk(roots, starts, create_graph, "backward", wanted, runs_leaf_hooks=True)
    run: Callable[..., Any] = unwatched if watching else _run
    if active.tracer is not None:
        run(_refuse_outside, roots, wanted)
    if wanted is None:
        wanted = run(_leaves, roots, order)
    for t in {id(t): t for t in wanted}.values():
        ct = found.get(final_key(t))
        if ct is not None and (t._record is None or not t._retains_grad):      # _finish() does it otherwise
            run(_accumulate, t, ct, create_graph)
            if origin_of(t)._hooks and t._record is None:
                run_after_accumulation(origin_of(t))
    run(_finish, order, found, retain_graph, create_graph, wanted)


def _run(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _listed(tensors: Any) -> list[Any]:
    """One tensor or several; of complex ones the pairs."""
    listed = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    return [t._pair if isinstance(t, ComplexTensor) else t for t in listed]


def _refuse_outside(roots: Sequence[Tensor], wanted: Sequence[Tensor] | None) -> None:
    """A traced backward can't go on into a tape that was recorded before the compiled function ran, to all leaves or to
    what is wanted."""
    tracer = active.tracer
    assert tracer is not None, "outside of a trace the whole tape is walked"
    for t in (*roots, *(t for record in tape_of(roots) for t in record.operands)):
        outside = t if t._record is not None else tracer.argument_of.get(id(origin_of(t)))
        if not t._requires_grad or outside is None or outside._record is None or outside._record.tracer is tracer:
            continue
        if wanted is None and t._record is not None or wanted is not None and _leads_to(outside._record, wanted):
            raise UnsupportedError(
                f"backward() in a compiled function reached a tensor {t._type} that {outside._record.name} had computed "
                "outside of it, whose gradients would be lost",
                hint="compute it inside too, call backward() outside, or detach() it")


def _leads_to(record: Record, wanted: Sequence[Tensor]) -> bool:
    """True when a tape from outside starts at a tensor that is wanted."""
    keys = {key_of(t) for t in wanted}
    found, stack = {id(record)}, [record]
    while stack:
        for t in stack.pop().operands:
            if t._requires_grad and key_of(t) in keys:
                return True
            if t._record is not None and id(t._record) not in found:
                found.add(id(t._record))
                stack.append(t._record)
    return False


def _leaves(roots: Sequence[Tensor], order: Sequence[Record]) -> list[Tensor]:
    candidates = [*roots, *(t for record in order for t in record.operands)]
    origins = [origin_of(t) for t in candidates if t._record is None and t._requires_grad]
    return [leaf for leaf in origins if leaf._requires_grad]        # it may have been turned off since


def _accumulate(t: Tensor, ct: Tensor, create_graph: bool, in_place: bool = True) -> None:
    """Add a cotangent to `t.grad`, which shares memory with nothing."""
    if t._type != ct._type:
        if t._type != ct._type.on(t._type.device):
            raise RuntimeError(f"a derivative rule gave {ct._type} for a tensor of type {t._type}")
        ct = moved(ct, t._type.device)      # what a rule made of numbers alone
    tracer = active.tracer
    old = t._grad if tracer is None else tracer.get_grad(t, adding=True)
    with set_grad_enabled(create_graph):
        if old is not None and in_place and not create_graph:
            write(old, dispatch(ops.add, old, ct))
            return
        new = dispatch(ops.add, old, ct) if old is not None else _copy(ct) if create_graph else _owned(ct)
    if tracer is not None:
        tracer.set_grad(t, new, adding=True)
    else:
        t.grad = new


def _copy(ct: Tensor) -> Tensor:
    """A gradient of its own storage, on the tape."""
    return dispatch(ops.Reshape(ct._type.shape), ct)


def _owned(ct: Tensor) -> Tensor:
    """A gradient of its own storage, off the tape: the user may change it in place."""
    return dispatch(ops.stop_gradient, ct)


def _finish(order: Sequence[Record], found: dict[Any, Tensor], retain_graph: bool | None, create_graph: bool,
            wanted: Sequence[Tensor]) -> None:
    """Leave the gradients that computed tensors retain (of wanted ones, also if the walk ended there), and free what
    was walked."""
    walked = {id(record) for record in order}
    ends = {id(t._record): t._record for t in wanted if t._record is not None and id(t._record) not in walked}
    reached = {key_of(t) for t in wanted}
    for record in (*order, *ends.values()):
        for index, reference in (record.retained or {}).items():
            tensor, ct = reference(), found.get(result_key(record, index))
            if tensor is not None and ct is not None and (id(record) in walked or (id(record), index) in reached):
                _accumulate(tensor, ct, create_graph, in_place=False)
        if id(record) in walked and not (create_graph if retain_graph is None else retain_graph):
            record.free()


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor] | dict[Any, Tensor],
         grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False, only_inputs: bool = True,
         allow_unused: bool | None = None, is_grads_batched: bool = False, materialize_grads: bool = False) -> Any:
    """Gradients of `outputs` with respect to `inputs`, without touching `.grad`: a tuple, or for a dict a dict.

    is_grads_batched: each of grad_outputs has a further first dim, and so has each gradient: one walk for each index.
    Raises RuntimeError when an input is not part of the graph, unless allow_unused (then None) or
    materialize_grads (then zeros)."""
    if not only_inputs:
        warn("FB019", "grad: only_inputs=False has no effect: only the inputs get gradients", stacklevel=2)
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: materialize_grads gives zeros for unused inputs, which allow_unused=False forbids")
    if isinstance(inputs, dict):
        given, keys = list(inputs.values()), list(inputs)
    else:
        given, keys = [inputs] if isinstance(inputs, Tensor) else list(inputs), None
    roots, wanted = _listed(outputs), _listed(given)
    starts = [None] * len(roots) if grad_outputs is None else _listed(grad_outputs)
    if is_grads_batched:
        size = next((start.shape[0] for start in starts if start is not None), 0)
        rows = [_gradients(roots, wanted, [s if s is None else s[i] for s in starts],
                           True if i < size - 1 else retain_graph, create_graph, allow_unused, materialize_grads)
                for i in range(size)]
        found = [_stacked(column) for column in zip(*rows, strict=True)]
    else:
        found = _gradients(roots, wanted, starts, retain_graph, create_graph, allow_unused, materialize_grads)
    results = [ComplexTensor.of(ct) if ct is not None and isinstance(t, ComplexTensor) else ct
               for ct, t in zip(found, given, strict=True)]
    return tuple(results) if keys is None else dict(zip(keys, results, strict=True))


def _gradients(roots: Sequence[Tensor], wanted: Sequence[Tensor], starts: Sequence[Tensor | None],
               retain_graph: bool | None, create_graph: bool, allow_unused: bool | None,
               materialize_grads: bool) -> list[Tensor | None]:
    for t in wanted:
        up_to_date(t)
        if not t._requires_grad:
            raise RuntimeError("grad: one of the inputs does not require grad")
    found, order = walk(roots, starts, create_graph, "grad", wanted, runs_leaf_hooks=True)
    if active.tracer is not None:
        _refuse_outside(roots, wanted)
    _finish(order, found, retain_graph, create_graph, wanted)
    results: list[Tensor | None] = []
    for t in wanted:
        ct = found.get(final_key(t))
        if ct is None and materialize_grads:
            ct = dispatch(ops.Broadcast(tuple(t.shape), ()), constant(0, t.dtype)) if t.shape else constant(0, t.dtype)
            ct._requires_grad = create_graph            # as in PyTorch
        if ct is not None and ct._type.device != t._type.device:
            ct = moved(ct, t._type.device)              # what a rule made of numbers alone
        if ct is None and not allow_unused:
            raise RuntimeError("grad: one of the inputs was not used to compute the outputs; "
                               "set allow_unused=True if that is intended")
        results.append(ct)
    return results


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """One tensor with a further first dim; None where no gradient flows."""
    present = [t for t in tensors if t is not None]
    if not present:
        return None
    return dispatch(ops.Concat(0), *[dispatch(ops.Reshape((1, *t.shape)), t) for t in present])


def retain_grad(tensor: Tensor) -> None:
    """Add this computed tensor's gradient to its `.grad` at every backward, as for leaves."""
    up_to_date(tensor)
    if not tensor._requires_grad:
        raise RuntimeError("can't retain_grad on a tensor that does not require grad")
    if active.tracer is not None:
        active.tracer.check_leaf(tensor, "retain_grad()")
        active.tracer.settle(tensor)
    if tensor._record is not None:
        tensor._record.retain(tensor._index, tensor)
        tensor._retains_grad = True


__all__ = ["backward", "grad", "is_grad_enabled", "register_hook", "register_post_accumulate_grad_hook", "retain_grad"]
