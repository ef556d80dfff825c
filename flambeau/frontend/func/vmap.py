"""vmap: a function of one example becomes one of many."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.frontend.func.batch import BatchLevel, Randomness
from flambeau.frontend.functions.joining import cat
from flambeau.frontend.pytree import Structure, flatten, unflatten
from flambeau.frontend.tape.dispatch import dispatch_view
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops

Function = Callable[..., Any]


def vmap(func: Function, in_dims: Any = 0, out_dims: Any = 0, randomness: Randomness = "error", *,
         chunk_size: int | None = None) -> Function:
    """A function that does `func` to every example: its ops run once, on all of them.

    in_dims: the dim of each argument that counts the examples (negative: from the end; None: the same for all), an int or
    a container that nests as the arguments do, as far as it goes. out_dims: where the examples go in each result.
    Keyword arguments are the same for all. randomness: "different" draws numbers for each example, "same" the same for all,
    "error" refuses. chunk_size: how many examples at a time (None: all).

    func gives tensors, or containers of them. Raises ValueError for arguments that don't fit, RuntimeError where func
    asks for the value of a tensor, or changes one in place that all examples share by values that differ."""
    if not isinstance(randomness, str) or randomness not in ("error", "different", "same"):
        raise RuntimeError(f"vmap: randomness must be 'error', 'different' or 'same', got {randomness!r}")
    if chunk_size is not None and (isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1):
        raise ValueError(f"vmap: chunk_size must be None or greater than 0, got {chunk_size!r}")
    if not callable(func):
        raise ValueError(f"vmap: takes a function, got {type(func).__name__}")

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        if not isinstance(in_dims, (int, tuple, list)) or isinstance(in_dims, bool):
            raise ValueError(f"vmap: in_dims must be an int or a tuple that nests as the arguments do, got {in_dims!r}")
        if not args:
            raise ValueError("vmap: there are no positional arguments to map over")
        leaves, paths, structure = flatten(args)
        wanted = spread_prefix(list(in_dims) if isinstance(in_dims, tuple) else in_dims, list(args), "in_dims")
        dims = [_in_dim(dim, leaf, path) for dim, leaf, path in zip(wanted, leaves, paths, strict=True)]
        size = _examples(leaves, dims)
        if chunk_size is None or chunk_size >= size:
            return _run(func, leaves, dims, structure, kwargs, out_dims, size, randomness)
        return _in_chunks(func, leaves, dims, structure, kwargs, out_dims, size, randomness, chunk_size)

    return mapped


def _run(func: Function, leaves: Sequence[Any], dims: Sequence[int | None], structure: Structure | None,
         kwargs: dict[str, Any], out_dims: Any, size: int, randomness: Randomness) -> Any:
    level = BatchLevel(size, randomness)
    with level.entered():
        given = [leaf if dim is None else level.argument(leaf, True, level.below(_moved, leaf, dim, 0))
                 for leaf, dim in zip(leaves, dims, strict=True)]
        found = func(*unflatten(structure, given), **kwargs)
        level.write_back()
        return outputs(level, found, out_dims)


def outputs(level: BatchLevel, found: Any, out_dims: Any) -> Any:
    """What a function under a batch gave, with the examples along out_dims."""
    leaves, paths, structure = flatten(found)
    dims = spread_prefix(out_dims, found, "out_dims")
    made = [_output(level, leaf, dim, path) for leaf, dim, path in zip(leaves, dims, paths, strict=True)]
    return unflatten(structure, made)


def _output(level: BatchLevel, leaf: Any, dim: Any, path: str) -> Any:
    if not isinstance(leaf, Tensor):
        raise ValueError(f"vmap: the function must give tensors only, got {type(leaf).__name__}")
    value, is_mapped = level.held(leaf)
    if dim is None:
        if is_mapped:
            raise ValueError("vmap: out_dims is None for a result that each example has its own of")
        return value
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise ValueError(f"vmap: out_dims must hold ints, got {dim!r}")
    rank = _rank(leaf, path) + 1
    if not -rank <= dim < rank:
        raise IndexError(f"vmap: out_dims names dim {dim} of a result of {rank} dims")
    return level.below(_moved, level.spread(leaf), 0, dim % rank)


def _in_chunks(func: Function, leaves: Sequence[Any], dims: Sequence[int | None], structure: Structure | None,
               kwargs: dict[str, Any], out_dims: Any, size: int, randomness: Randomness, chunk_size: int) -> Any:
    results, of_result, joined_along = [], None, []
    for start in range(0, size, chunk_size):
        count = min(chunk_size, size - start)
        part = [leaf if dim is None else leaf.narrow(dim, start, count) for leaf, dim in zip(leaves, dims, strict=True)]
        found = _run(func, part, dims, structure, kwargs, out_dims, count, randomness)
        tensors, paths, of_result = flatten(found)
        joined_along = [dim if dim is None else dim % _rank(t, path) for t, dim, path in
                        zip(tensors, spread_prefix(out_dims, found, "out_dims"), paths, strict=True)]
        results.append(tensors)
    return unflatten(of_result, [parts[0] if dim is None else cat(list(parts), dim)
                                 for parts, dim in zip(zip(*results, strict=True), joined_along, strict=True)])


def spread_prefix(prefix: Any, tree: Any, what: str) -> list[Any]:
    """For each leaf of a container what a prefix of it says: an int or None stands for all leaves of what it is given for.
    Raises ValueError where they don't nest alike."""
    if prefix is None or isinstance(prefix, int):
        return [prefix] * len(flatten(tree)[0])
    leaves, _, _ = flatten(prefix)
    if isinstance(prefix, (tuple, list)) and isinstance(tree, (tuple, list)) and len(prefix) == len(tree):
        return [dim for p, t in zip(prefix, tree, strict=True) for dim in spread_prefix(p, t, what)]
    if isinstance(prefix, dict) and isinstance(tree, dict) and set(prefix) == set(tree):
        return [dim for key, t in tree.items() for dim in spread_prefix(prefix[key], t, what)]
    if what == "out_dims" and isinstance(prefix, (tuple, list)) and len(leaves) == 1 == len(prefix):
        return spread_prefix(prefix[0], tree, what)
    raise ValueError(f"vmap: {what} {prefix!r} does not nest as what it is for, a {type(tree).__name__}")


def _in_dim(dim: Any, leaf: Any, path: str) -> int | None:
    if dim is None:
        return None
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise ValueError(f"vmap: in_dims must hold ints and None, got {dim!r} for argument {path}")
    if not isinstance(leaf, Tensor):
        raise ValueError(f"vmap: argument {path} is a {type(leaf).__name__}, which can't be mapped over; give None for it "
                         "in in_dims")
    rank = _rank(leaf, path)
    if not -rank <= dim < rank:
        raise ValueError(f"vmap: in_dims names dim {dim} of argument {path}, which is {leaf._type}")
    return dim % rank


def _rank(leaf: Tensor, path: str) -> int:
    """How many dims the user sees: the parts of a complex tensor have one more."""
    return len(leaf._type.shape) - path.endswith("._pair")


def _examples(leaves: Sequence[Any], dims: Sequence[int | None]) -> int:
    sizes = [leaf._type.static_shape[dim] for leaf, dim in zip(leaves, dims, strict=True) if dim is not None]
    if not sizes:
        raise ValueError("vmap: no argument is mapped over: in_dims is None for all of them")
    if len(set(sizes)) > 1:
        raise ValueError(f"vmap: all arguments must hold as many examples, found {sizes}")
    return sizes[0]


def _moved(t: Tensor, source: int, target: int) -> Tensor:
    if source == target:
        return t
    order = [d for d in range(len(t._type.shape)) if d != source]
    order.insert(target, source)
    return dispatch_view(ops.Permute(tuple(order)), t)


__all__ = ["outputs", "spread_prefix", "vmap"]
