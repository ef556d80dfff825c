"""autograd.Function under transforms: at each level the user's own rule, on what that level makes of the arguments."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flambeau.frontend.func.level import Level, zeros
from flambeau.frontend.tape.custom import Function, FunctionContext, defines, recorded_as
from flambeau.frontend.tape.dispatch import dispatch, dispatch_view
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops

if TYPE_CHECKING:
    from flambeau.frontend.func.batch import BatchLevel, Randomness

class VmapInfo(NamedTuple):
    """What a Function's vmap is told of the batch."""

    batch_size: int
    randomness: Randomness


def _lowered(level: Level, function: type[Function], args: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    """What the level holds of the arguments. Raises RuntimeError for a Function of the form that can't pass levels."""
    if not defines(function, "setup_context"):
        raise RuntimeError(f"{function.__name__}: under fb.func's transforms a Function needs a setup_context(ctx, inputs, "
                           "output) and a forward without ctx")
    held = [level.held(a) if isinstance(a, Tensor) else (a, level.nothing) for a in args]
    return [value for value, _ in held], [extra for _, extra in held]


def on_tape(level: Level, function: type[Function], args: tuple[Any, ...]) -> Any:
    """`Function.apply` on the tape of a level."""
    values, _ = _lowered(level, function, args)
    outputs = level.below(function.apply, *values)

    def run(ctx: FunctionContext) -> Any:
        made = [level.shell(o, level.nothing) if isinstance(o, Tensor) else o for o in _listed(outputs)]
        given = tuple(made) if isinstance(outputs, tuple) else made[0]
        function.setup_context(ctx, args, given)
        if ctx._dirty:
            raise RuntimeError(f"{function.__name__}: mark_dirty() under fb.func's transforms is not supported; return a "
                               "new tensor")
        return given

    return recorded_as(function, args, run)


def with_tangents(level: Level, function: type[Function], args: tuple[Any, ...]) -> Any:
    """`Function.apply` on pairs of tensors and tangents."""
    values, tangents = _lowered(level, function, args)
    outputs = level.below(function.apply, *values)
    found: Sequence[Any] = [None] * len(_listed(outputs))
    if any(t is not None for t in tangents):
        if not defines(function, "jvp"):
            raise RuntimeError(f"{function.__name__}: forward mode needs a jvp(ctx, *tangents), which it doesn't define")
        ctx = FunctionContext()
        level.below(function.setup_context, ctx, tuple(values), outputs)
        if ctx._materialize:
            tangents = [level.below(zeros, v._type) if t is None and isinstance(v, Tensor) and v.is_floating_point() else t
                        for v, t in zip(values, tangents, strict=True)]
        found = [None if id(o) in ctx._non_differentiable else t for o, t in
                 zip(_listed(outputs), _listed(level.below(function.jvp, ctx, *tangents)), strict=True)]
    made = [level.shell(o, t) if isinstance(o, Tensor) else o for o, t in zip(_listed(outputs), found, strict=True)]
    return tuple(made) if isinstance(outputs, tuple) else made[0]


def _listed(outputs: Any) -> Sequence[Any]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


# -- batches ----------------------------------------------------------------------------------------------------------


def batched(level: BatchLevel, function: type[Function], args: tuple[Any, ...]) -> Any:
    """`Function.apply` on a batch."""
    values, mapped = _lowered(level, function, args)
    if not any(mapped):
        return level.below(function.apply, *values)
    if function.generate_vmap_rule:
        if defines(function, "vmap"):
            raise RuntimeError(f"{function.__name__}: has both a vmap and generate_vmap_rule=True; one of them is enough")
        outputs = level.below(_batch_of(function, level, mapped).apply, *values)
        dims: Any = 0
    elif defines(function, "vmap"):
        info = VmapInfo(level.size, level.randomness)
        in_dims = tuple([0 if is_mapped else None for is_mapped in mapped])
        outputs, dims = level.below(function.vmap, info, in_dims, *values)
    else:
        raise RuntimeError(f"{function.__name__}: vmap needs a vmap(info, in_dims, *args), or generate_vmap_rule=True")
    found = _listed(outputs)
    dims = dims if isinstance(dims, tuple) else (dims,) * len(found)
    made = [_example(level, o, dim) for o, dim in zip(found, dims, strict=True)]
    return tuple(made) if isinstance(outputs, tuple) else made[0]


def _example(level: BatchLevel, output: Any, dim: int | None) -> Any:
    if dim is None or not isinstance(output, Tensor):
        return output
    rank = len(output._type.shape)
    order = (dim % rank, *(d for d in range(rank) if d != dim % rank))
    moved = output if dim % rank == 0 else level.below(dispatch_view, ops.Permute(order), output)
    return level.shell(moved, True, level.type_of(moved, True))


def _batch_of(function: type[Function], level: BatchLevel, mapped: Sequence[bool]) -> type[Function]:
    """The Function of a batch: each method is the one for an example, under a batch of its own."""

    def new_batch() -> BatchLevel:
        return type(level)(level.size, level.randomness)

    def shells_of(batch: BatchLevel, values: Sequence[Any], are_mapped: Sequence[bool] | None = None) -> list[Any]:
        return [batch.shell(v, True, batch.type_of(v, True)) if m and isinstance(v, Tensor) else v
                for v, m in zip(values, are_mapped or [True] * len(values), strict=True)]

    def spread(batch: BatchLevel, found: Any) -> tuple[Any, ...]:
        return tuple([batch.spread(t) if isinstance(t, Tensor) else t for t in _listed(found)])

    def example_of(ctx: Any, batch: BatchLevel, are_mapped: Sequence[bool]) -> FunctionContext:
        own = FunctionContext()
        own.__dict__.update(ctx.own.__dict__)
        own._saved = own._saved_for_forward = tuple(shells_of(batch, ctx.saved_tensors, are_mapped))
        return own

    class Batch(Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            batch = new_batch()
            with batch.entered():
                found = function.forward(*shells_of(batch, args, mapped))
                made = spread(batch, found)
            return made if isinstance(found, tuple) else made[0]

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.batch = batch = new_batch()
            results = shells_of(batch, _listed(output))
            ctx.own = own = FunctionContext()
            own.needs_input_grad = ctx.needs_input_grad
            with batch.entered():
                function.setup_context(own, tuple(shells_of(batch, inputs, mapped)),
                                       tuple(results) if isinstance(output, tuple) else results[0])
                saved = [batch.held(t) if isinstance(t, Tensor) else (t, False) for t in own._saved]
                ahead = [batch.held(t) if isinstance(t, Tensor) else (t, False)
                         for t in (own._saved_for_forward if own._saved_for_forward is not None else own._saved)]
            ctx.saved_mapped, ctx.ahead_mapped = [m for _, m in saved], [m for _, m in ahead]
            ctx.save_for_backward(*[value for value, _ in saved])
            ctx.save_for_forward(*[value for value, _ in ahead])
            ctx.set_materialize_grads(own._materialize)
            ctx.mark_non_differentiable(*[o for o, r in zip(_listed(output), results, strict=True)
                                          if id(r) in own._non_differentiable])
            own._op = None

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            batch, rule = ctx.batch, function.vjp if defines(function, "vjp") else function.backward
            own = example_of(ctx, batch, ctx.saved_mapped)
            with batch.entered():
                found = rule(own, *shells_of(batch, gradients))
                made = spread(batch, found)
            return tuple([g if not isinstance(g, Tensor) or m else dispatch(ops.Sum((0,)), g)
                          for g, m in zip(made, [*mapped, *[True] * (len(made) - len(mapped))], strict=True)])

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            batch = ctx.batch
            own = example_of(ctx, batch, ctx.ahead_mapped)
            with batch.entered():
                found = function.jvp(own, *shells_of(batch, tangents, mapped))
                made = spread(batch, found)
            return made if isinstance(found, tuple) else made[0]

    Batch.__name__ = f"vmap of {function.__name__}"
    if not defines(function, "jvp"):
        Batch.jvp = Function.jvp            # type: ignore[method-assign]
    return Batch


__all__ = ["VmapInfo", "batched", "on_tape", "with_tangents"]
