"""autograd.Function: a user's own forward and backward, in PyTorch's forms and in MiniTorch's."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.tape.autograd import grad_mode, set_grad_enabled
from flambeau.frontend.tape.dispatch import attach_record, constant, dispatch, up_to_date
from flambeau.frontend.tape.writes import rebase_, refuse_leaf
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.op import Op
from flambeau.warned import warn


class FunctionContext:
    """What `forward` leaves for `backward`: saved tensors, and any attribute set on it."""

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._saved_for_forward: tuple[Any, ...] | None = None
        self._op: _UserOp | None = None
        self._non_differentiable: set[int] = set()
        self._dirty: tuple[Tensor, ...] = ()
        self._materialize = True
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *values: Any) -> None:
        """Keep tensors (or any values) for backward, where `saved_tensors` gives them back in this order."""
        self._saved = values

    def save_for_forward(self, *values: Any) -> None:
        """Keep tensors for jvp, as save_for_backward does for backward."""
        self._saved_for_forward = values

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved. A saved tensor changed in place since then raises when it is used."""
        if self._op is None:                # of forward mode
            return self._saved if self._saved_for_forward is None else self._saved_for_forward
        return self._op.restore(self._saved)

    saved_values = saved_tensors          # MiniTorch's name

    @property
    def saved_variables(self) -> tuple[Any, ...]:
        """`saved_tensors` by its old name. Warns."""
        warn("FB020", "'saved_variables' is deprecated; use 'saved_tensors'", stacklevel=2)
        return self.saved_tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """These outputs get no gradient."""
        self._non_differentiable.update(id(t) for t in tensors)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """These inputs were changed in place by forward."""
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """False: backward gets None, not zeros, for outputs that nothing used."""
        self._materialize = value


class _UserOp(Op):
    """The tape's op for one application of a Function."""

    runs_code = True                # of the user's, in its derivative

    def __init__(self, function: type[Function], ctx: FunctionContext, positions: tuple[int, ...], n_inputs: int):
        self.name = f"{function.__name__}Backward"
        self.function, self.ctx, self.positions, self.n_inputs = function, ctx, positions, n_inputs
        self.operands: Sequence[Any] = ()
        self.results: Sequence[Any] = ()
        self.saved_as: list[tuple[str, Any]] = []

    def restore(self, saved: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self.saved_as or not self.operands:       # not under backward: as they were saved
            return saved
        sources = {"operand": self.operands, "result": self.results}
        return tuple([value if kind == "value" else sources[kind][value] for kind, value in self.saved_as])

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any],
            cotangents: Sequence[Any]) -> Sequence[Any]:
        self.operands, self.results = operands, results
        cts = [_zeros_like(r) if ct is None and self.ctx._materialize and r.dtype.is_floating_point else ct
               for ct, r in zip(cotangents, results, strict=True)]
        try:
            backward = self.function.vjp if defines(self.function, "vjp") else self.function.backward
            given = backward(self.ctx, *cts)
        finally:
            self.operands = self.results = ()
        grads = list(given) if isinstance(given, (tuple, list)) else [given]
        if len(grads) != self.n_inputs and len(grads) < self.n_inputs:
            raise RuntimeError(f"{self.name}: backward returned {len(grads)} gradients for {self.n_inputs} inputs "
                               "of forward; return one for each (None where there is none)")
        if any(g is not None for g in grads[self.n_inputs:]):
            raise RuntimeError(f"{self.name}: backward returned {len(grads)} gradients for {self.n_inputs} inputs")
        return [_fitted(grads[position], operand, self.name)
                for position, operand in zip(self.positions, operands, strict=True)]


def _zeros_like(t: Tensor) -> Tensor:
    zero = constant(0, t.dtype)
    return dispatch(ops.Broadcast(tuple(t.shape), ()), zero) if t.shape else zero


def _fitted(gradient: Any, operand: Tensor, name: str) -> Tensor | None:
    """A gradient given by the user, as a tensor of the operand's type (numbers allowed for 0-d inputs)."""
    if gradient is None or not operand._requires_grad:
        return None
    if not isinstance(gradient, Tensor):
        gradient = constant(gradient, operand.dtype)
    if gradient.dtype is not operand.dtype:
        gradient = dispatch(ops.Cast(operand.dtype), gradient)
    if tuple(gradient.shape) != tuple(operand.shape):
        raise RuntimeError(f"{name}: backward gave a gradient of shape {tuple(gradient.shape)} for an input of shape "
                           f"{tuple(operand.shape)}")
    return gradient


class Function:
    """Subclass with static methods `forward(ctx, ...)` and `backward(ctx, *gradients)`; call `MyFunction.apply(...)`.

    forward runs unrecorded; backward (or vjp) gets one gradient per output and returns one per input of forward. With a
    `setup_context(ctx, inputs, output)` forward takes no ctx; that is the form which fb.func's transforms need. There,
    `jvp(ctx, *tangents)` gives the outputs' tangents, and `vmap(info, in_dims, *args)` (outputs, out_dims) for a batch,
    info having batch_size and randomness; with `generate_vmap_rule = True` the methods above are batched themselves."""

    generate_vmap_rule = False

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("Function: define forward(ctx, ...)")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        raise NotImplementedError("Function: define setup_context(ctx, inputs, output)")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError("Function: define backward(ctx, ...)")

    vjp = backward

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("Function: define jvp(ctx, *tangents) for forward mode")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        raise NotImplementedError("Function: define vmap(info, in_dims, *args), or set generate_vmap_rule")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """forward(ctx, *args), recorded so that backward(ctx, ...) is its derivative."""
        tracer = active.tracer
        return apply_recorded(cls, args) if tracer is None else tracer.apply_function(cls, args)


def defines(function: type[Function], name: str) -> bool:
    """Whether a Function has a method of its own."""
    return getattr(function, name) is not getattr(Function, name)


def apply_recorded(function: type[Function], args: tuple[Any, ...]) -> Any:
    """`Function.apply` where nothing is between the function and the tape."""
    if not defines(function, "setup_context"):
        return recorded_as(function, args, lambda ctx: function.forward(ctx, *args))

    def run(ctx: FunctionContext) -> Any:
        outputs = function.forward(*args)
        function.setup_context(ctx, args, outputs)
        return outputs

    return recorded_as(function, args, run)


def recorded_as(function: type[Function], args: tuple[Any, ...], run: Callable[[FunctionContext], Any]) -> Any:
    """What `run` gives, unrecorded, as outputs whose derivative is that of `function`."""
    ctx = FunctionContext()
    positions = tuple(i for i, a in enumerate(args) if isinstance(a, Tensor))
    tensors = tuple(args[i] for i in positions)
    for t in tensors:
        up_to_date(t)
    recording = grad_mode.enabled and any(t._requires_grad for t in tensors)
    ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a._requires_grad for a in args)
    op = ctx._op = _UserOp(function, ctx, positions, len(args))
    with set_grad_enabled(False):
        outputs = run(ctx)
    given = outputs if isinstance(outputs, tuple) else (outputs,)
    flat = tuple([_fresh(o, tensors, ctx) if isinstance(o, Tensor) else o for o in given])
    results = tuple(o for o in flat if isinstance(o, Tensor))
    dirty = _written(ctx, results) if recording else {}
    op.saved_as = [_describe(value, tensors, results) for value in ctx._saved]
    ctx._saved = tuple([None if kind == "result" else value
                        for (kind, _), value in zip(op.saved_as, ctx._saved, strict=True)])
    if recording:
        record = attach_record(op, tensors, tuple([dirty.get(id(o), o) for o in results]))
        if record is not None and active.tracer is not None:
            record.loc = None               # `backward` has lines of its own
        for o, before in zip(flat, given, strict=True):
            if id(before) in ctx._non_differentiable and isinstance(o, Tensor):
                o._requires_grad, o._record = False, None
            elif id(o) in dirty:
                rebase_(o, dirty[id(o)])
    return flat if isinstance(outputs, tuple) else flat[0]


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a Function's backward that can't be differentiated: asking for that raises RuntimeError."""

    @functools.wraps(backward)
    def once(ctx: Any, *gradients: Any) -> Any:
        with set_grad_enabled(False):
            given = backward(ctx, *gradients)
        starts = tuple([g for g in gradients if isinstance(g, Tensor) and g._requires_grad])
        found = given if isinstance(given, tuple) else (given,)
        results = tuple([g for g in found if isinstance(g, Tensor)])
        if grad_mode.enabled and starts and results:
            attach_record(_Once(), starts, results)
        return given

    return once


class _Once(Op):
    """The tape's op for a backward that is marked @once_differentiable."""

    name = "once_differentiable"

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def _written(ctx: FunctionContext, results: tuple[Tensor, ...]) -> dict[int, Tensor]:
    """For the results that are inputs changed in place, by id: an alias that the tape can take as the new result.

    Raises RuntimeError if one is a leaf that requires grad, or was marked dirty and not returned."""
    for t in ctx._dirty:
        if not any(t is o for o in results):
            raise RuntimeError("a tensor that forward marked dirty was not returned: what is changed in place must be "
                               "among the outputs of the Function")
        refuse_leaf(t)
    return {id(t): t.detach() for t in ctx._dirty}


def _fresh(output: Tensor, inputs: tuple[Tensor, ...], ctx: FunctionContext) -> Tensor:
    """An output that is one of the inputs becomes a tensor of its own, unless it was marked dirty."""
    if any(output is t for t in inputs) and not any(output is t for t in ctx._dirty):
        return dispatch(ops.stop_gradient, output)
    return output


def _describe(value: Any, operands: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> tuple[str, Any]:
    """Saved tensors that are operands or results are found again through the tape, so that they are linked to it
    (second derivatives), checked for in-place changes, and form no reference cycle."""
    for position, operand in enumerate(operands):
        if value is operand:
            return "operand", position
    for position, result in enumerate(results):
        if value is result:
            return "result", position
    return "value", value


__all__ = ["Function", "FunctionContext", "apply_recorded", "defines", "once_differentiable", "recorded_as"]
