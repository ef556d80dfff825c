"""Loops as functions, with derivatives: `while_loop`, `scan`, `fori_loop`, `map`, `associative_scan`, and the choice
`switch`. How rounds are done, and done backwards: `rounds.py`."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from string import Formatter
from typing import Any

import numpy as np

from flambeau.errors import ShapeError, TypeInferenceError
from flambeau.frontend import control
from flambeau.frontend.active import active
from flambeau.frontend.control import Leaves, check_alike, cond, leaves_of
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import kind_of
from flambeau.frontend.functions.creation import arange
from flambeau.frontend.functions.joining import cat, flip, stack
from flambeau.frontend.functions.rounds import Rounds, in_python, is_traced, while_rounds
from flambeau.frontend.functions.views import movedim, reshape
from flambeau.frontend.pytree import LEAF, Structure, flatten, unflatten
from flambeau.frontend.scalars import Scalar, plain
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.dims import Dim, as_size
from flambeau.ir.dtypes import i64, to_storage
from flambeau.ir.ops.printing import printed
from flambeau.ir.records import dataclass

_UNROLLED = 4               # rounds that a trace writes down one after another


def scan(combine_fn: Callable[[Any, Any], Any], init: Any, xs: Any = None, length: int | None = None,
         reverse: bool = False, unroll: int = 1, *, dim: int = 0) -> tuple[Any, Any]:
    """`carry, y = combine_fn(carry, x)` for each x of `xs` along `dim`, starting with `init`; (the last carry, all y
    stacked along dim 0). PyTorch's and JAX's.

    init, xs, y: containers of tensors; xs may be None, with a `length`. A carry keeps its types. reverse: from the last
    x to the first; each y stands where its x does. Derivatives of every order. Raises TypeInferenceError where a carry
    changes its type, ShapeError where sizes along `dim` differ."""
    carry = leaves_of(init, "scan: init")
    rows, count = _rows(xs, length, dim, "scan")
    scanned = Rounds(combine_fn, carry, rows, count, reverse, user=(combine_fn,), who="scan: combine_fn")
    done = scanned.done() if is_traced() and (isinstance(count, Dim) or count > _UNROLLED) else in_python(scanned)
    return done.last, done.ys


def while_loop(cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: Sequence[Any], *,
               max_steps: int | None = None) -> Any:
    """Starting with `carried_inputs`, replaces them by `body_fn(*carried)` as long as `cond_fn(*carried)` is true; the
    last ones, as a tuple. A compiled function decides at each call. PyTorch's, but for max_steps.

    carried_inputs: a tuple or list of tensors, or containers of tensors; numbers become 0-d tensors. body_fn gives a
    tuple of the same structure, shapes and dtypes; cond_fn a bool of one element, and changes nothing. Both may read
    tensors from outside, and body_fn may change them. The results share memory with nothing. max_steps: the loop ends
    after so many rounds, whatever cond_fn says; with it a compiled loop has derivatives of every order (for which it keeps
    what each round was given, in memory for max_steps rounds), without it tangents alone. Raises TypeInferenceError where
    what is carried would change its type, naming it; TypeError for a max_steps that is no int, ValueError below 0."""
    if max_steps is None:
        return control.while_loop(cond_fn, body_fn, carried_inputs)
    if isinstance(max_steps, bool) or not isinstance(max_steps, int):
        raise TypeError(f"while_loop: argument 'max_steps' must be an int or None, got {max_steps!r}")
    if max_steps < 0:
        raise ValueError(f"while_loop: max_steps must be 0 or more, got {max_steps}")
    carried = control.loop_inputs(cond_fn, body_fn, carried_inputs)
    if not active.hides_values:
        return control.in_python(cond_fn, body_fn, carried, max_steps)
    return while_rounds(cond_fn, body_fn, carried, max_steps).done().last


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any, *, unroll: Any = None) -> Any:
    """`val = body_fun(i, val)` for each i from `lower` up to `upper`, starting with `init_val`; the last. JAX's.

    Numbers as bounds make it a `scan`, which has derivatives; bounds that are traced tensors a `while_loop`."""
    if not callable(body_fun):
        raise TypeError(f"fori_loop: argument 'body_fun' must be a function, got {kind_of(body_fun)}")
    if isinstance(lower, Tensor) or isinstance(upper, Tensor):
        val = leaves_of(init_val, "fori_loop: init_val")

        def body(i: Any, *tensors: Any) -> Any:
            given = leaves_of(body_fun(i, val.tree(list(tensors))), "fori_loop: body_fun")
            check_alike(val, given)
            return i + 1, *given.tensors

        done = control.while_loop(lambda i, *rest: i < upper, body, (lower + 0, *val.tensors))
        return val.tree(list(done[1:]))
    steps = arange(int(lower), max(int(lower), int(upper)), device="cpu")
    return scan(lambda val, i: (body_fun(i, val), None), init_val, steps)[0]


def map(f: Callable[..., Any], xs: Any, *args: Any) -> Any:
    """`f(x, *args)` of each x of `xs` along dim 0, stacked: one after another. PyTorch's and JAX's."""
    if not callable(f):
        raise TypeError(f"map: argument 'f' must be a function, got {kind_of(f)}")
    return scan(lambda carry, x: (carry, f(x, *args)), (), xs)[1]


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`, where an index out of range counts as the nearest. JAX's. index: an int, or an integer
    tensor of one element, by which compiled code decides at each call. The branches give the same types, as in `cond`."""
    branches = list(branches)
    if not branches:
        raise TypeInferenceError("switch: takes one branch or more, got none")
    if not isinstance(index, Tensor):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)
    if index.dtype.is_floating_point or index.numel() != 1:
        raise TypeInferenceError(f"switch: index must be an integer tensor of one element, got {index._type}")
    chosen, low, high = reshape(index, ()), 0, len(branches)

    def among(low: int, high: int) -> Any:
        if high - low == 1:
            return branches[low](*operands)
        middle = (low + high) // 2
        return cond(chosen < middle, lambda: among(low, middle), lambda: among(middle, high))

    return among(low, high)


def associative_scan(combine_fn: Callable[[Any, Any], Any], xs: Any, dim: int = 0, reverse: bool = False,
                     combine_mode: str = "pointwise") -> Any:
    """All prefixes of `xs` along `dim` combined by an associative function of two containers like `xs`, which it is given
    whole slices of: in the order of log2(n) steps. PyTorch's and JAX's; combine_mode does not matter here.

    The recursion over pairs is Blelloch's (Prefix sums and their applications, 1990), as JAX has it."""
    elements = leaves_of(xs, "associative_scan: xs")
    _check_ranks(elements, "associative_scan")
    tensors = [movedim(t, dim, 0) for t in elements.tensors if t is not None]
    if len({t.shape[0] for t in tensors}) != 1:
        raise ShapeError("associative_scan: takes tensors of one size along dim, got sizes "
                         f"{', '.join(str(t.shape[0]) for t in tensors)}")
    if reverse:
        tensors = [flip(t, 0) for t in tensors]

    def combined(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        sides = [elements.tree([movedim(t, 0, dim) for t in side]) for side in (a, b)]
        given = leaves_of(combine_fn(*sides), "associative_scan: combine_fn")
        if given.structure != elements.structure:
            raise TypeInferenceError("associative_scan: combine_fn must give what nests as xs does")
        return [movedim(t, dim, 0) for t in given.tensors if t is not None]

    def prefixes(items: list[Tensor]) -> list[Tensor]:
        count = items[0].shape[0]
        if count < 2:
            return items
        pairs = combined([t[:count - 1:2] for t in items], [t[1::2] for t in items])
        odd = prefixes(pairs)
        upto = (count - 1) // 2
        even = combined([t[:upto] for t in odd], [t[2::2] for t in items])
        even = [cat([t[:1], e], 0) for t, e in zip(items, even, strict=True)]
        return [_interleaved(e, o) for e, o in zip(even, odd, strict=True)]

    found = prefixes(tensors)
    return elements.tree([movedim(flip(t, 0) if reverse else t, 0, dim) for t in found])


def debug_print(fmt: str, *args: Any, **kwargs: Any) -> None:
    """Prints `fmt.format(*args, **kwargs)`, where tensors may be: in a compiled function at every call, in order. JAX's.

    Tensors print as NumPy prints arrays, those of rank 0 as numbers (`"{loss:.4f}"`). Raises KeyError, IndexError for a
    field that nothing was given for, and what `format` raises."""
    given: list[Any] = [*args, *kwargs.values()]
    places = {name: len(args) + n for n, name in enumerate(kwargs)}
    tensors: list[Tensor] = []
    text, counted = "", 0
    for literal, field, spec, conversion in Formatter().parse(fmt):
        text += literal.replace("{", "{{").replace("}", "}}")
        if field is None:
            continue
        if field.isdigit() or not field:
            at, counted = (int(field), counted) if field else (counted, counted + 1)
        else:
            if field not in places:
                raise KeyError(field)
            at = places[field]
        value = _as_tensor(given[at])
        if isinstance(value, Tensor):
            text += f"{{{len(tensors)}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}"
            tensors.append(value.detach())
        else:
            shown = format(Formatter().convert_field(value, conversion), spec or "")
            text += shown.replace("{", "{{").replace("}", "}}")
    printed(text, [np.zeros(t._type.static_shape, t.dtype.storage) for t in tensors])      # or an error, here
    dispatch(ops.Print(text), *tensors)


def debug_callback(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Calls `fn(*args, **kwargs)`, in a compiled function at every call, in order with other effects. JAX's.

    Tensors among the arguments arrive as tensors of their own, off the tape, with what they hold at that point, in
    containers of their own if they came in some; numbers that a compiled function is given as numbers; everything else as
    it was when the function was traced. What `fn` gives is left out. What it raises ends the call, and what was written
    until then stays. Raises TypeError if `fn` can't be called, UnsupportedError for a container that contains itself."""
    if not callable(fn):
        raise TypeError(f"debug_callback: argument 'fn' must be a function, got {kind_of(fn)}")
    arguments = [_Argument.of(value) for value in (*args, *kwargs.values())]
    tensors = [leaf.detach() for argument in arguments for leaf in argument.leaves if isinstance(leaf, Tensor)]
    dtypes = [t.dtype for t in tensors]

    def call(*arrays: np.ndarray) -> None:
        made = iter([Tensor._from_array(to_storage(array, dtype), dtype)
                     for array, dtype in zip(arrays, dtypes, strict=True)])
        given = [argument.with_tensors(made) for argument in arguments]
        fn(*given[:len(args)], **dict(zip(kwargs, given[len(args):], strict=True)))

    dispatch(ops.callback(call), *tensors)


@dataclass(frozen=True)
class _Argument:
    """One argument of a callback. leaves: tensors, also in place of the numbers that come with each call (`is_number`), and
    what never changes; the argument itself where it holds no tensor."""

    leaves: list[Any]
    is_number: list[bool]
    structure: Structure | None

    @classmethod
    def of(cls, value: Any) -> _Argument:
        leaves, _, structure = flatten(value)
        known = [_as_tensor(leaf) for leaf in leaves]
        if not any(isinstance(leaf, Tensor) for leaf in known):
            return cls([value], [False], LEAF)
        return cls(known, [not isinstance(leaf, Tensor) for leaf in leaves], structure)

    def with_tensors(self, made: Iterator[Tensor]) -> Any:
        """With the next of `made` in place of tensors."""
        return unflatten(self.structure, [
            (next(made).item() if number else next(made)) if isinstance(leaf, Tensor) else leaf
            for leaf, number in zip(self.leaves, self.is_number, strict=True)])


def _as_tensor(value: Any) -> Any:
    """A number that comes with each call as a tensor, everything else as it is."""
    value = plain(value)
    if type(value) is Scalar:
        return dispatch(ops.Cast(i64), value.tensor) if value.is_whole else value.tensor
    return value


def _interleaved(even: Tensor, odd: Tensor) -> Tensor:
    """even[0], odd[0], even[1], ..."""
    paired = reshape(stack([even[:odd.shape[0]], odd], 1), (2 * odd.shape[0], *even.shape[1:]))
    return paired if even.shape[0] == odd.shape[0] else cat([paired, even[odd.shape[0]:]], 0)


# -- what is scanned --------------------------------------------------------------------------------------------------


def _check_ranks(xs: Leaves, who: str) -> None:
    if any(not t.ndim for t in xs.tensors if t is not None):
        raise ShapeError(f"{who}: takes xs of one dim or more, got a tensor of rank 0")


def _rows(xs: Any, length: int | None, dim: int, who: str) -> tuple[Leaves, int]:
    """The tensors of xs with their rows in front, and how many rows."""
    rows = leaves_of(xs, f"{who}: xs")
    _check_ranks(rows, who)
    rows.tensors = [t if t is None else movedim(t, dim, 0) for t in rows.tensors]
    counts = [t.shape[0] for t in rows.tensors if t is not None] + ([] if length is None else [as_size(length)])
    if not counts or any(count != counts[0] for count in counts[1:]):
        raise ShapeError(f"{who}: takes xs of one size along dim, or a length, got {sorted({*counts}) or 'neither'}")
    return rows, counts[0]


__all__ = ["associative_scan", "debug_callback", "debug_print", "fori_loop", "map", "scan", "switch", "while_loop"]
public(globals(), __all__)
