"""`fb._foreach_add(tensors, 1)` and its like: one function of every tensor of a list, as optimizers written for PyTorch
call them. Eagerly they are loops; compiled they are fused as all code is."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from flambeau.frontend.functions.arithmetic import pow as power
from flambeau.frontend.functions.norms import vector_norm
from flambeau.frontend.missing import refusing
from flambeau.frontend.tensor.tensor import Tensor

_UNARY: Final = ("abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg "
                 "reciprocal round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc").split()
_BINARY: Final = ("other", "scalar", "scalars", "exponent"),    # what the operand is called when it is given by name
_TERNARY: Final = ("tensor1",), ("tensor2",), ("value", "scalars")
_OPERANDS: Final = {
    **dict.fromkeys("add clamp_max clamp_min div maximum minimum mul pow sub".split(), _BINARY),
    "addcdiv": _TERNARY, "addcmul": _TERNARY, "lerp": (("tensors1",), ("weight", "weights"))}
_METHODS: Final = {"maximum": "clamp_min", "minimum": "clamp_max"}      # they take numbers too


def _foreach_clone(self: Sequence[Tensor], *, memory_format: Any = None) -> tuple[Tensor, ...]:
    """t.clone() of each."""
    return _apply("clone", self)


def _foreach_copy_(self: Sequence[Tensor], src: Sequence[Tensor], non_blocking: bool = False) -> Sequence[Tensor]:
    """t.copy_(s) for each two. Returns self."""
    _apply("copy_", self, src)
    return self


def _foreach_zero_(self: Sequence[Tensor]) -> Sequence[Tensor]:
    """t.zero_() of each. Returns self."""
    _apply("zero_", self)
    return self


def _foreach_max(self: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The largest element of each."""
    return _apply("max", self)


def _foreach_mm(self: Sequence[Tensor], mat2: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The product of each two matrices."""
    return _apply("mm", self, mat2)


def _foreach_norm(self: Sequence[Tensor], ord: float = 2, dtype: Any = None) -> tuple[Tensor, ...]:
    """linalg.vector_norm of each, over all of it."""
    return tuple([vector_norm(t, ord, dtype=dtype) for t in _some(self)])


def _foreach_powsum(self: Sequence[Tensor], ord: float = 2, dtype: Any = None) -> tuple[Tensor, ...]:
    """The sum of |x|**ord over each."""
    return tuple([t.abs().pow(ord).sum(dtype=dtype) for t in _some(self)])


def _some(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    if isinstance(tensors, Tensor) or not all(isinstance(t, Tensor) for t in tensors):
        raise TypeError(f"takes a list of tensors, got {type(tensors).__name__}")
    if not tensors:
        raise RuntimeError("Tensor list must have at least one tensor.")
    return tensors


def _spread(operand: Any, count: int) -> Sequence[Any]:
    """An operand for each tensor: the list that was given, or that one number or tensor of no dimensions every time."""
    if isinstance(operand, Tensor):
        if not operand.dim():
            return [operand] * count
        if operand.dim() > 1 or len(operand) != count:
            raise RuntimeError(f"scalar tensor expected to be 0 dim but it has {operand.dim()} dimensions and "
                               f"{operand.numel()} elements.")
        return operand.unbind()
    if not isinstance(operand, (list, tuple)):
        return [operand] * count
    if len(operand) != count:
        raise RuntimeError(f"Tensor lists must have the same number of tensors, got {count} and {len(operand)}")
    return operand


def _apply(method: str, tensors: Sequence[Tensor], *operands: Any, **options: Any) -> tuple[Tensor, ...]:
    rows = zip(_some(tensors), *[_spread(operand, len(tensors)) for operand in operands], strict=True)
    if not method.startswith("addc") or len(operands) < 3:
        return tuple([getattr(t, method)(*others, **options) for t, *others in rows])
    return tuple([_weighted(method, *row) for row in rows])


def _weighted(method: str, t: Tensor, lhs: Tensor, rhs: Tensor, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        return getattr(t, method)(lhs, rhs, value=value)
    product = lhs * rhs if method.startswith("addcmul") else lhs / rhs
    return t.add_(product * value) if method.endswith("_") else t + product * value


def _of_each(name: str, in_place: bool) -> Callable[..., Any]:
    """The function for `name`, which takes a list of tensors and, for every other operand, a list, a number or a tensor of
    no dimensions."""
    names = _OPERANDS.get(name, ())
    method = _METHODS.get(name, name) + "_" * in_place

    def function(self: Any, *operands: Any, **options: Any) -> Any:
        for aliases in names[len(operands):]:
            operands += tuple([options.pop(alias) for alias in aliases if alias in options])
        if name == "pow" and not in_place and not isinstance(self, (list, tuple)):
            return tuple([power(self, exponent) for exponent in _some(operands[0])])
        results = _apply(method, self, *operands, **options)
        return self if in_place else results

    function.__name__ = function.__qualname__ = f"_foreach_{name}" + "_" * in_place
    function.__doc__ = f"t.{method}(...) for each tensor of a list" + (". Returns the list." if in_place else ".")
    return function


globals().update({made.__name__: made for name in (*_UNARY, *_OPERANDS)
                  for made in (_of_each(name, False), _of_each(name, True))})
__getattr__ = refusing("flambeau")
