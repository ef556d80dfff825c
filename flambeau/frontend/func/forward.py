"""Tangents of functions: jvp, linearize, jacfwd, hessian."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.frontend.func.dual import DualLevel, tangents_of
from flambeau.frontend.func.gradient import LinearLevel
from flambeau.frontend.func.level import zeros
from flambeau.frontend.func.reverse import _rows, _starts, below, jacrev
from flambeau.frontend.func.trees import (
    Argnums,
    of_tensors,
    positions,
    same_types,
    split_aux,
    tensors_of,
    with_arguments,
)
from flambeau.frontend.func.vmap import Randomness, vmap
from flambeau.frontend.functions.views import narrow, reshape
from flambeau.frontend.pytree import flatten, unflatten
from flambeau.frontend.tape.autograd import key_of, tape_of
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops

Function = Callable[..., Any]


def jvp(func: Function, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> tuple[Any, ...]:
    """(func(*primals), the change of that along tangents): forward mode, in one evaluation of func.

    primals, tangents: tuples of tensors or containers of them, of the same structure and shapes. strict: an output that
    does not depend on the primals is an error. With has_aux func gives (output, aux) and aux is a third result.
    Raises RuntimeError for tangents that don't fit."""
    if not callable(func):
        raise RuntimeError(f"jvp: takes a function, got {type(func).__name__}")
    if not isinstance(primals, tuple) or not primals:
        raise RuntimeError("jvp: primals must be a tuple that is not empty")
    leaves, structure = tensors_of(primals, "jvp: primals")
    changes, of_tangents = tensors_of(tangents, "jvp: tangents")
    if of_tangents != structure:
        raise RuntimeError("jvp: primals and tangents must have the same structure, and be tuples")
    same_types(changes, leaves, "jvp", "a tangent")
    level = DualLevel()
    with level.entered():
        inputs = [level.argument(p, _as(t, p)) for p, t in zip(leaves, changes, strict=True)]
        output, aux = split_aux(func(*unflatten(structure, inputs)), has_aux, "jvp")
        outputs, of_output = tensors_of(output, "jvp: outputs")
        if strict and any(level.held(t)[1] is None for t in outputs):
            raise RuntimeError("jvp: strict=True, and an output does not depend on the primals")
        level.write_back()
        along = [level.tangent(t) for t in outputs]
        value, aux = below(level, output), below(level, aux)
    found = unflatten(of_output, [_own(t, changes) for t in along])
    return (value, found, aux) if has_aux else (value, found)


def _as(tangent: Tensor, primal: Tensor) -> Tensor:
    if tangent._type.dtype is primal._type.dtype:
        return tangent
    raise RuntimeError(f"jvp: the tangent of a tensor {primal._type} is {tangent._type}; they must have one dtype")


def _own(found: Tensor, given: list[Tensor]) -> Tensor:
    """A tangent that shares no memory with one that was given."""
    return dispatch(ops.Reshape(found._type.shape), found) if any(found._storage is t._storage for t in given) else found


def linearize(func: Function, *primals: Any) -> tuple[Any, Function]:
    """(func(*primals), jvp_fn): jvp_fn(*tangents) gives the change of the output along tangents, without evaluating func
    again: what func did is on a tape, which tangents walk forward."""
    if not callable(func):
        raise RuntimeError(f"linearize: takes a function, got {type(func).__name__}")
    level = LinearLevel()
    with level.entered():
        inputs = of_tensors(level.differentiate, list(primals))
        output = func(*inputs)
        outputs, structure = tensors_of(output, "linearize: outputs")
        leaves, of_primals = tensors_of(inputs, "linearize: primals")
        order = tape_of(outputs)[::-1]
        value = below(level, output)

    def jvp_fn(*tangents: Any) -> Any:
        given, found = tensors_of(list(tangents), "jvp_fn: tangents")
        if found != of_primals:
            raise RuntimeError("jvp_fn: tangents must have the structure of the primals")
        same_types(given, leaves, "jvp_fn", "a tangent")
        with level.entered():
            level.is_recording = False
            try:
                along: dict[Any, Tensor | None] = {key_of(x): level.shell(t, None)
                                                   for x, t in zip(leaves, given, strict=True)}
                for record in order:
                    changes = [along.get(key_of(t)) if t._requires_grad else None for t in record.operands]
                    if any(c is not None for c in changes):
                        made = tangents_of(record.op, record.operands, record.saved_results(), changes)
                        along.update({(id(record), n): t for n, t in enumerate(made)})
                ends = [along.get(key_of(t)) if t._requires_grad else None for t in outputs]
                made = [level.below(zeros, t._type) if e is None else level.held(e)[0]
                        for e, t in zip(ends, outputs, strict=True)]
            finally:
                level.is_recording = True
        return unflatten(structure, made)

    return value, jvp_fn


def jacfwd(func: Function, argnums: Argnums = 0, has_aux: bool = False, *, randomness: Randomness = "error") -> Function:
    """As `jacrev`, a column of the Jacobian by forward mode: fewer passes where there are fewer inputs than outputs.
    randomness: as in vmap, for what func draws."""
    if not callable(func):
        raise RuntimeError(f"jacfwd: takes a function, got {type(func).__name__}")

    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        at = positions(argnums, len(args), "jacfwd")
        primals = tuple([args[n] for n in at])
        leaves, structure = tensors_of(primals, "jacfwd: differentiated arguments")
        sizes = [t.numel() for t in leaves]
        basis = [_rows(t, start, sum(sizes)) for t, start in zip(leaves, _starts(sizes), strict=True)]

        def column(*tangents: Tensor) -> Any:
            found = jvp(lambda *inputs: func(*with_arguments(args, at, inputs), **kwargs), primals,
                        unflatten(structure, tangents), has_aux=has_aux)
            return found[1:]

        along, *aux = vmap(column, out_dims=(-1, None) if has_aux else (-1,), randomness=randomness)(*basis)
        columns, _, of_output = flatten(along)
        made = []
        for block in columns:
            of_inputs = [reshape(narrow(block, -1, start, t.numel()), (*block.shape[:-1], *t.shape))
                         for t, start in zip(leaves, _starts(sizes), strict=True)]
            tree = unflatten(structure, of_inputs)
            made.append(tree[0] if isinstance(argnums, int) else tree)
        result = unflatten(of_output, made)
        return (result, aux[0]) if has_aux else result

    return jacobian


def hessian(func: Function, argnums: Argnums = 0) -> Function:
    """A function that gives the matrix of second derivatives of `func`: jacfwd(jacrev(func))."""
    return jacfwd(jacrev(func, argnums), argnums)


__all__ = ["hessian", "jacfwd", "jvp", "linearize"]
