"""Gradients of functions: grad, grad_and_value, vjp, jacrev."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.frontend.func.gradient import GradLevel
from flambeau.frontend.func.trees import (
    Argnums,
    of_tensors,
    positions,
    same_types,
    split_aux,
    tensors_of,
    with_arguments,
)
from flambeau.frontend.func.vmap import vmap
from flambeau.frontend.functions.creation import eye
from flambeau.frontend.functions.views import narrow, reshape, split
from flambeau.frontend.pytree import flatten, unflatten
from flambeau.frontend.tensor.tensor import Tensor

Function = Callable[..., Any]


def grad(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that gives the gradient of `func`, whose output is a 0-d tensor, with respect to its arguments `argnums`:
    of the same structure as the argument, or a tuple where argnums is one. With has_aux func gives (output, aux) and the
    result is (gradient, aux).

    What func reads beside its arguments is constant; the gradient can be differentiated again. Raises RuntimeError for
    outputs that are no 0-d tensor, arguments that are no floats, and in-place changes of tensors from outside."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        gradients, found = both(*args, **kwargs)
        return (gradients, found[1]) if has_aux else gradients

    return gradient


def grad_and_value(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """As `grad`; the function gives (gradient, output), or (gradient, (output, aux))."""
    _check_callable(func, "grad")

    @functools.wraps(func)
    def gradient_and_value(*args: Any, **kwargs: Any) -> Any:
        at = positions(argnums, len(args), "grad")
        level = GradLevel()
        with level.entered():
            inputs = [of_tensors(level.differentiate, args[n]) for n in at]
            given = with_arguments(of_tensors(_argument(level), list(_without(args, at))), at, inputs)
            output, aux = split_aux(func(*given, **of_tensors(_argument(level), kwargs)), has_aux, "grad")
            _check_scalar(output)
            leaves, structure = tensors_of(inputs, "grad: differentiated arguments")
            gradients = unflatten(structure, level.gradients([output], [None], leaves, retain=False))
            level.write_back()
            value, aux = below(level, output), below(level, aux)
        found = gradients[0] if isinstance(argnums, int) else tuple(gradients)
        return found, (value, aux) if has_aux else value

    return gradient_and_value


def value_and_grad(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """As `grad_and_value`, in JAX's order: (output, gradient), or ((output, aux), gradient)."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        gradients, found = both(*args, **kwargs)
        return found, gradients

    return value_and_gradient


def functionalize(func: Function, *, remove: str = "mutations") -> Function:
    """`func` as it is: under a trace or a transform in-place ops are none already. Raises RuntimeError for a `remove`
    that is neither "mutations" nor "mutations_and_views"."""
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(f"functionalize: remove must be 'mutations' or 'mutations_and_views', got {remove!r}")
    return func


def vjp(func: Function, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(func(*primals), vjp_fn): vjp_fn(cotangents), of the structure of the output, gives those of the primals as a
    tuple. It may be called any number of times, under other transforms too. With has_aux, where func gives (output, aux),
    aux is a third result. Raises RuntimeError for cotangents of other shapes."""
    _check_callable(func, "vjp")
    if not primals:
        raise RuntimeError("vjp: there is nothing to differentiate; give at least one primal")
    level = GradLevel()
    with level.entered():
        inputs = of_tensors(level.differentiate, list(primals))
        output, aux = split_aux(func(*inputs), has_aux, "vjp")
        outputs, structure = tensors_of(output, "vjp: outputs")
        leaves, of_primals = tensors_of(inputs, "vjp: primals")
        level.write_back()
        value, aux = below(level, output), below(level, aux)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        given, found = tensors_of(cotangents, "vjp_fn: cotangents")
        if found != structure:
            raise RuntimeError("vjp_fn: cotangents must have the structure of the function's output")
        same_types(given, outputs, "vjp_fn", "a cotangent")
        with level.entered():
            gradients = level.gradients(outputs, [level.shell(g, None) for g in given], leaves, retain_graph)
        return tuple(unflatten(of_primals, gradients))

    return (value, vjp_fn, aux) if has_aux else (value, vjp_fn)


def jacrev(func: Function, argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None) -> Function:
    """A function that gives the Jacobian of `func` with respect to its arguments `argnums`, a row of it by reverse mode:
    for an output of shape S and an argument of shape T one of shape S + T, in the structure of the output and, within
    that, of the argument. chunk_size: how many rows are computed at once (None: all).

    With has_aux func gives (output, aux) and the result is (Jacobian, aux)."""
    _check_callable(func, "jacrev")
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError("jacrev: chunk_size must be greater than 0")

    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        at = positions(argnums, len(args), "jacrev")

        def of_inputs(*inputs: Any) -> Any:
            return func(*with_arguments(args, at, inputs), **kwargs)

        output, vjp_fn, *aux = vjp(of_inputs, *[args[n] for n in at], has_aux=has_aux)
        outputs, structure = tensors_of(output, "jacrev: outputs")
        sizes = [t.numel() for t in outputs]
        rows = [_rows(t, start, sum(sizes)) for t, start in zip(outputs, _starts(sizes), strict=True)]
        found = vmap(vjp_fn, chunk_size=chunk_size)(unflatten(structure, rows))
        leaves, _, of_inputs_structure = flatten(found)
        blocks = [split(reshape(leaf, (sum(sizes), *leaf.shape[1:])), sizes) for leaf in leaves]
        made = []
        for number, t in enumerate(outputs):
            block = [reshape(b[number], (*t.shape, *leaf.shape[1:])) for b, leaf in zip(blocks, leaves, strict=True)]
            of_output = unflatten(of_inputs_structure, block)
            made.append(of_output[0] if isinstance(argnums, int) else of_output)
        result = unflatten(structure, made)
        return (result, aux[0]) if has_aux else result

    return jacobian


def _rows(t: Tensor, start: int, total: int) -> Tensor:
    """[total, *t.shape]: row start + i is 1 at element i of t, all others are 0."""
    return reshape(narrow(eye(total, dtype=t.dtype, device=t.device), 1, start, t.numel()), (total, *t.shape))


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:n]) for n in range(len(sizes))]


def below(level: Any, tree: Any) -> Any:
    """A result of a function under a level, as what is around sees it."""
    return of_tensors(lambda t: level.held(t)[0] if t._storage.trace is level else t, tree)


def _argument(level: GradLevel) -> Callable[[Tensor], Tensor]:
    return lambda t: level.argument(t, None)


def _without(args: Sequence[Any], at: Sequence[int]) -> list[Any]:
    """The arguments but for those at some positions, which are None."""
    return [None if n in at else a for n, a in enumerate(args)]


def _check_callable(func: Any, who: str) -> None:
    if not callable(func):
        raise RuntimeError(f"{who}: takes a function, got {type(func).__name__}")


def _check_scalar(output: Any) -> None:
    if not isinstance(output, Tensor):
        raise RuntimeError(f"grad: the function must give a tensor, got {type(output).__name__}")
    if output._type.shape:
        raise RuntimeError(f"grad: the function must give a 0-d tensor, got one of {output.ndim} dims; use vjp or jacrev")


__all__ = ["below", "functionalize", "grad", "grad_and_value", "jacrev", "value_and_grad", "vjp"]
