"""What transforms do to the containers that functions take and give."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.frontend.pytree import Structure, flatten, unflatten
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.tensor import Tensor

Argnums = int | tuple[int, ...]


def of_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """The same container with function(t) in the place of each tensor."""
    if isinstance(tree, Tensor) and not isinstance(tree, ComplexTensor):        # which is a container of its parts
        return function(tree)
    leaves, _, structure = flatten(tree)
    return unflatten(structure, [function(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves])


def tensors_of(tree: Any, who: str) -> tuple[list[Tensor], Structure | None]:
    """(leaves, structure) of a container of tensors. Raises RuntimeError for one that holds anything else."""
    leaves, _, structure = flatten(tree)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise RuntimeError(f"{who} must be tensors or containers of tensors, got {type(leaf).__name__}")
    return leaves, structure


def positions(argnums: Any, count: int, who: str) -> tuple[int, ...]:
    """The arguments that argnums names, from the front. Raises RuntimeError for what names none, or one twice."""
    if isinstance(argnums, bool) or not isinstance(argnums, (int, tuple)):
        raise RuntimeError(f"{who}: argnums must be an int or a tuple of ints, got {argnums!r}")
    found = []
    for number in (argnums,) if isinstance(argnums, int) else argnums:
        if isinstance(number, bool) or not isinstance(number, int):
            raise RuntimeError(f"{who}: argnums must hold ints, got {number!r}")
        if not -count <= number < count:
            raise RuntimeError(f"{who}: argnums names argument {number}, but only {count} positional arguments were given")
        found.append(number % count)
    if not found:
        raise RuntimeError(f"{who}: argnums is empty")
    if len(set(found)) < len(found):
        raise RuntimeError(f"{who}: argnums {argnums} names an argument twice")
    return tuple(found)


def split_aux(found: Any, has_aux: bool, who: str) -> tuple[Any, Any]:
    """(output, aux) of what a function gave; aux is None without has_aux. Raises RuntimeError unless it is a pair then."""
    if not has_aux:
        return found, None
    if not isinstance(found, tuple) or len(found) != 2:
        raise RuntimeError(f"{who}: with has_aux=True the function must give a tuple (output, aux)")
    return found


def with_arguments(args: Sequence[Any], at: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """The arguments with others at some positions."""
    made = list(args)
    for position, value in zip(at, values, strict=True):
        made[position] = value
    return made


def same_types(given: Sequence[Tensor], like: Sequence[Tensor], who: str, what: str) -> None:
    """Raises RuntimeError unless tensors have the shapes of others."""
    for g, t in zip(given, like, strict=True):
        if g._type.shape != t._type.shape:
            raise RuntimeError(f"{who}: {what} of shape {tuple(g.shape)} was given for a tensor of shape {tuple(t.shape)}")


__all__ = ["Argnums", "of_tensors", "positions", "same_types", "split_aux", "tensors_of", "with_arguments"]
