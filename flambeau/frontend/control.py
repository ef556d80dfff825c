"""Control flow by the values of tensors: `cond` and `while_loop`, as PyTorch has them.

Eager code calls the user's functions as Python would. A trace writes each of them down as a region of one node
(`trace/regions.py`). Both convert and check what the functions give alike, here, and give tensors with memory of their
own.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.errors import TypeInferenceError
from flambeau.frontend.active import active
from flambeau.frontend.pytree import Structure, flatten, unflatten
from flambeau.frontend.scalars import Scalar, plain
from flambeau.frontend.tape.dispatch import constant, dispatch
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.records import dataclass

__all__ = ["cond", "while_loop"]


@dataclass
class Leaves:
    """The tensors of a nested container, each where its path says; None leaves stay None. `who`: whose they are."""

    who: str
    tensors: list[Tensor | None]
    paths: list[str]
    structure: Structure | None

    def tree(self, tensors: Sequence[Tensor | None]) -> Any:
        """The container with other tensors in it."""
        return unflatten(self.structure, tensors)


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Sequence[Any] = ()) -> Any:
    """`true_fn(*operands)` where `pred` is true, else `false_fn(*operands)`; a compiled function decides at each call.

    pred: a bool tensor of one element, or a Python bool, which a trace takes as fixed. Both functions give the same
    structure of tensors (numbers become 0-d tensors), of the same shapes and dtypes; only one is run. They may read
    and change tensors from outside. The results share memory with nothing. Raises TypeInferenceError where results
    differ, naming the first, and for a `pred` that is no bool of one element."""
    _check_callable("cond", true_fn=true_fn, false_fn=false_fn)
    if not isinstance(operands, (tuple, list)):
        raise _wrong(f"cond: operands must be a tuple or a list, got {type(operands).__name__}",
                     "write (x,) for one operand")
    chosen = known(pred, "cond: pred")
    tracer = active.tracer
    if tracer is not None and not isinstance(chosen, bool):
        return tracer.cond(chosen, true_fn, false_fn, operands)
    function, name = (true_fn, "true_fn") if chosen else (false_fn, "false_fn")
    given = leaves_of(function(*operands), f"cond: {name}")
    return given.tree([t if t is None else own(t) for t in given.tensors])


def while_loop(cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: Sequence[Any]) -> Any:
    """`fb.while_loop` without a bound (`functions/loops.py`)."""
    carried = loop_inputs(cond_fn, body_fn, carried_inputs)
    if active.tracer is not None and active.hides_values:
        return active.tracer.while_loop(cond_fn, body_fn, carried)
    return in_python(cond_fn, body_fn, carried)


def in_python(cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried: Leaves,
              max_steps: int | None = None) -> Any:
    """The rounds of a loop, one after another."""
    tensors = [t if t is None else own(t) for t in carried.tensors]
    for _ in itertools.count() if max_steps is None else range(max_steps):
        versions = [0 if t is None else t._storage.version for t in tensors]
        if not told(cond_fn(*carried.tree(tensors))):
            return carried.tree(tensors)
        if versions != [0 if t is None else t._storage.version for t in tensors]:
            raise condition_writes()
        given = body_leaves(body_fn(*carried.tree(tensors)), carried)
        tensors = [t if t is None else own(t) for t in given.tensors]
    return carried.tree(tensors)


# -- what the functions are given and give ----------------------------------------------------------------------------


def known(pred: Any, who: str) -> Any:
    """A predicate as a Python bool, or, where values are hidden, as a tensor bool[]. Raises TypeInferenceError for
    anything else."""
    if isinstance(pred, (bool, np.bool_)):
        return bool(pred)
    pred = as_predicate(pred, who)
    if not active.hides_values:
        return bool(pred.item())
    return pred


def as_predicate(pred: Any, who: str) -> Tensor:
    """A predicate as a tensor bool[]. Raises TypeInferenceError for what is none."""
    if isinstance(pred, (bool, np.bool_)):
        return constant(bool(pred), dt.bool_)
    if not isinstance(pred, Tensor):
        raise _wrong(f"{who} must be a bool or a bool tensor of one element, got {_described(pred)}", None)
    if pred.dtype is not dt.bool_ or pred.numel() != 1:
        raise _wrong(f"{who} must be a bool or a bool tensor of one element, got {pred._type}",
                     "compare it with something, or use .any() or .all()")
    return dispatch(ops.Reshape(()), pred) if pred._type.shape else pred


def told(pred: Any) -> Any:
    """What a loop's condition gave, as `known` says."""
    return known(pred, "while_loop: what cond_fn gives")


def loop_inputs(cond_fn: Any, body_fn: Any, carried_inputs: Any) -> Leaves:
    """The arguments of a loop, checked."""
    _check_callable("while_loop", cond_fn=cond_fn, body_fn=body_fn)
    if not isinstance(carried_inputs, (tuple, list)):
        raise _wrong(f"while_loop: carried_inputs must be a tuple or a list, got {type(carried_inputs).__name__}",
                     "write (x,) for one tensor")
    carried = leaves_of(tuple(carried_inputs), "while_loop: carried_inputs", "")
    if not carried.tensors:
        raise _wrong("while_loop: carried_inputs holds no tensor, so that nothing could change", None)
    return carried


def leaves_of(tree: Any, who: str = "", path: str = "") -> Leaves:
    """The tensors of a result; numbers become 0-d tensors. Raises TypeInferenceError for leaves that are neither."""
    found, paths, structure = flatten(tree, path)
    return Leaves(who, [_as_tensor(leaf, who, place) for leaf, place in zip(found, paths, strict=True)], paths, structure)


def body_leaves(given: Any, carried: Leaves) -> Leaves:
    """What a loop's body gave. Raises TypeInferenceError where it is not what was carried, in type and structure."""
    if not isinstance(given, (tuple, list)):
        raise _wrong(f"while_loop: body_fn must give a tuple like carried_inputs, got {_described(given)}",
                     "return (x,) for one tensor")
    leaves = leaves_of(tuple(given), "while_loop: body_fn")
    check_alike(carried, leaves)
    return leaves


def check_alike(a: Leaves, b: Leaves) -> None:
    """Raises TypeInferenceError unless both hold the same types in the same structure."""
    if a.structure != b.structure:
        only = [f"{leaves.who.partition(': ')[2]} has {path or 'one value'}"
                for leaves, other in ((a, b), (b, a)) for path in leaves.paths if path not in other.paths]
        differ = f": only {only[0]}" if only else ""
        raise _wrong(f"{a.who} and {b.who.partition(': ')[2]} must have the same structure{differ}", None)
    for path, left, right in zip(a.paths, a.tensors, b.tensors, strict=True):
        types = [None if t is None else t._type for t in (left, right)]
        if types[0] != types[1]:
            raise _wrong(f"{a.who} and {b.who.partition(': ')[2]} must agree in shapes and dtypes: {path or 'the value'} "
                         f"is {types[0]} in one and {types[1]} in the other", "cast or expand one of them")


def own(t: Tensor) -> Tensor:
    """`t` as a result: a tensor of its own memory, on the tape as `t` is."""
    return dispatch(ops.Reshape(t._type.shape), t)


def own_on_tape(t: Tensor) -> Tensor:
    """`t` as a root of the tape of the trace that is active: the record of one from outside belongs to another."""
    return own(t) if t._requires_grad else t


def condition_writes() -> TypeInferenceError:
    """The error for a condition that changes a tensor: it is evaluated once more than the body."""
    return _wrong("while_loop: cond_fn changed a tensor in place, or drew random numbers", "do that in body_fn")


def _as_tensor(leaf: Any, who: str, path: str) -> Tensor | None:
    if leaf is None or isinstance(leaf, Tensor):
        return leaf
    number = plain(leaf)
    if isinstance(number, Scalar):
        return dispatch(ops.Cast(dt.i64 if number.is_whole else get_default_dtype()), number.tensor)
    if isinstance(number, (bool, np.bool_)):
        return constant(bool(number), dt.bool_)
    if isinstance(number, (int, float)):
        return constant(number, dt.i64 if isinstance(number, int) else get_default_dtype())
    raise _wrong(f"{who} must hold tensors: {path or 'the value'} is {_described(leaf)}", None)


def _check_callable(name: str, **functions: Any) -> None:
    for argument, function in functions.items():
        if not callable(function):
            raise _wrong(f"{name}: {argument} must be a function, got {_described(function)}", None)


def _described(value: Any) -> str:
    return str(value._type) if isinstance(value, Tensor) else f"{type(value).__name__} {value!r}"


def _wrong(message: str, hint: str | None) -> TypeInferenceError:
    where = describe(user_location()) if active.tracer is not None else None
    return TypeInferenceError(message, where=where, hint=hint)
