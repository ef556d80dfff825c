"""Python numbers under trace. A number that arrives as an argument or an optimizer hyperparameter becomes a Scalar:
an f64 input of the graph, so that changing it never recompiles. Asking it for a plain number guards its value."""
from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.unwatched import PLAIN
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.op import Op

INTEGER_LIMIT = 2**31 - 1       # integers beyond it are guarded by value
EXACT = 2**53                   # f64 holds every integer up to here


def is_runtime_number(value: Any) -> bool:
    """True for what becomes a Scalar as an argument or a hyperparameter: a float or a not too large integer, of
    Python's or NumPy's, 0-d arrays among them."""
    kind = type(value)
    if kind is int or isinstance(value, np.integer):
        return -INTEGER_LIMIT <= value <= INTEGER_LIMIT
    if kind is np.ndarray:
        return not value.ndim and is_runtime_number(value[()])
    return kind is float or kind in (np.float64, np.float32, np.float16)


def plain(value: Any) -> Any:
    """A Python number for one of NumPy's (a 0-d array too); anything else as it is."""
    kind = type(value)                      # not isinstance: a Scalar may stand for one of NumPy's
    return value.item() if issubclass(kind, np.generic) or kind is np.ndarray and not value.ndim else value


def settled(value: Any) -> Any:
    """A 0-d array as the NumPy number that it holds now; anything else as it is."""
    return value[()] if type(value) is np.ndarray and not value.ndim else value


class Scalar:
    """A runtime number: `tensor` is its 0-d f64 traced value, `value` what it was at trace time, `sources` the
    inputs it was computed from, `bound` what the magnitude of an integer can't exceed. Not a float: Python must not be
    able to bake its value in unnoticed; `isinstance` takes it for the number that it stands for."""

    __slots__ = ("_concrete", "bound", "is_whole", "on_force", "sources", "stands_for", "tensor")

    def __init__(self, tensor: Tensor, value: float | int, is_whole: bool, sources: frozenset[Any],
                 on_force: Callable[[frozenset[Any]], None], bound: int = INTEGER_LIMIT,
                 stands_for: type | None = None):
        self.tensor, self._concrete, self.is_whole = tensor, value, is_whole
        self.sources, self.on_force, self.bound = sources, on_force, bound
        self.stands_for = stands_for or (int if is_whole else float)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self.stands_for

    def force(self) -> float | int:
        """The number itself; from now on another value of any of its sources is another signature."""
        self.on_force(self.sources)
        return self._concrete

    def _combine(self, op: Op, function: Callable[..., Any], *operands: Any, integer: bool | None = None) -> Any:
        """`function` of the operands, kept symbolic; a plain number where f64 might not be exact for integers."""
        from_scalars = [o for o in operands if isinstance(o, Scalar)]
        numbers = [o._concrete if isinstance(o, Scalar) else o for o in operands]
        whole = all(isinstance(n, int) for n in numbers)
        bounds = [o.bound if isinstance(o, Scalar) else abs(o) for o in operands] if whole else [0]
        bound = math.prod(bounds) if op is ops.mul else sum(bounds)
        value = function(*numbers)
        if whole and (op is ops.pow or max(*bounds, bound) > EXACT) or isinstance(value, complex):
            return function(*[forced(o) for o in operands])
        tensors = [o.tensor if isinstance(o, Scalar) else _constant(o) for o in operands]
        sources = frozenset().union(*[s.sources for s in from_scalars])
        is_whole = whole if integer is None else integer
        return Scalar(dispatch(op, *tensors), value, is_whole, sources, self.on_force, bound)

    def _binary(self, op: Op, function: Callable[..., Any], other: Any, reflected: bool,
                integer: bool | None = None) -> Any:
        other = plain(other)
        if isinstance(other, Tensor) or not isinstance(other, (int, float, Scalar)):
            return NotImplemented
        pair = (other, self) if reflected else (self, other)
        return self._combine(op, function, *pair, integer=integer)

    def __add__(self, other: Any) -> Any:
        return self._binary(ops.add, operator.add, other, False)

    def __radd__(self, other: Any) -> Any:
        return self._binary(ops.add, operator.add, other, True)

    def __sub__(self, other: Any) -> Any:
        return self._binary(ops.sub, operator.sub, other, False)

    def __rsub__(self, other: Any) -> Any:
        return self._binary(ops.sub, operator.sub, other, True)

    def __mul__(self, other: Any) -> Any:
        return self._binary(ops.mul, operator.mul, other, False)

    def __rmul__(self, other: Any) -> Any:
        return self._binary(ops.mul, operator.mul, other, True)

    def __truediv__(self, other: Any) -> Any:
        return self._binary(ops.div, operator.truediv, other, False, integer=False)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary(ops.div, operator.truediv, other, True, integer=False)

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        if modulus is not None:
            return pow(self.force(), forced(other), forced(modulus))
        return self._binary(ops.pow, operator.pow, other, False)

    def __rpow__(self, other: Any, modulus: Any = None) -> Any:
        if modulus is not None:             # Python asks so from 3.14 on
            return pow(forced(other), self.force(), forced(modulus))
        return self._binary(ops.pow, operator.pow, other, True)

    def __neg__(self) -> Any:
        return self._combine(ops.neg, operator.neg, self)

    def __abs__(self) -> Any:
        return self._combine(ops.abs, operator.abs, self)

    def sqrt(self) -> Any:
        """Square root, kept symbolic (`math.sqrt` would force the number)."""
        return self._combine(ops.sqrt, math.sqrt, self, integer=False)

    def __pos__(self) -> Scalar:
        return self

    # Everything below needs the number itself.
    def __float__(self) -> float:
        return float(self.force())

    def __int__(self) -> int:
        return int(self.force())

    def __index__(self) -> int:
        if not self.is_whole:
            raise TypeError(f"'{self.stands_for.__name__}' object cannot be interpreted as an integer")
        return int(self.force())

    def __bool__(self) -> bool:
        return bool(self.force())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.force(), digits) if digits is not None else round(self.force())

    def __floordiv__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() // forced(other)

    def __rfloordiv__(self, other: Any) -> Any:
        return forced(other) // self.force()

    def __mod__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() % forced(other)

    def __rmod__(self, other: Any) -> Any:
        return forced(other) % self.force()

    def __eq__(self, other: object) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() == forced(other)

    def __ne__(self, other: object) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() != forced(other)

    def __lt__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() < forced(other)

    def __le__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() <= forced(other)

    def __gt__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() > forced(other)

    def __ge__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() >= forced(other)

    def __hash__(self) -> int:
        return hash(self.force())

    def __divmod__(self, other: Any) -> Any:
        return divmod(self.force(), forced(other))

    def __rdivmod__(self, other: Any) -> Any:
        return divmod(forced(other), self.force())

    def __and__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() & forced(other)

    def __or__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() | forced(other)

    def __xor__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() ^ forced(other)

    def __lshift__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() << forced(other)

    def __rshift__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.force() >> forced(other)

    def __rlshift__(self, other: Any) -> Any:
        return other << self.force()

    def __rrshift__(self, other: Any) -> Any:
        return other >> self.force()

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Any:
        return ~self.force()                # type: ignore[operator]

    def __trunc__(self) -> int:
        return math.trunc(self.force())

    def __floor__(self) -> int:
        return math.floor(self.force())

    def __ceil__(self) -> int:
        return math.ceil(self.force())

    def __getattr__(self, name: str) -> Any:
        """What the number's own type has besides: `is_integer()`, `bit_length()`, `real`, NumPy's `item()`, ..."""
        if name.startswith("__"):
            raise AttributeError(f"'{self.stands_for.__name__}' object has no attribute '{name}'")
        return getattr(self._original(), name)

    def _original(self) -> Any:
        """The number in the type that it stands for."""
        return self.stands_for(self.force())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.force(), dtype)

    def __copy__(self) -> Scalar:
        return self

    def __deepcopy__(self, memo: Any) -> Scalar:
        return self

    def __str__(self) -> str:
        return str(self.force())

    def __format__(self, spec: str) -> str:
        return format(self.force(), spec)

    def __repr__(self) -> str:
        return repr(self._original())

    def __reduce__(self) -> Any:
        return self.stands_for, (self.force(),)


PLAIN.add(Scalar)


def forced(value: Any) -> Any:
    """A plain number for a Scalar; anything else as it is."""
    return value.force() if isinstance(value, Scalar) else value


def _constant(number: float | int) -> Tensor:
    return dispatch(ops.Constant(ops.literal(float(number), dt.f64)))


