"""Type promotion, PyTorch's rules, in one place.

Operands rank in three tiers: tensors with dims, 0-d tensors, Python numbers. The result takes its category
(bool < integer < float) from all operands, but its width from the highest tier that reaches that category.
Source: the documentation of torch.result_type and torch.promote_types.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from flambeau.frontend.epoch import epoch
from flambeau.frontend.tensor.complex_tensor import ComplexDType, complex_of
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType

_default = dt.f32


def get_default_dtype() -> DType:
    """The float dtype of literals and of integer inputs to float functions; float32 unless changed."""
    return _default


def set_default_dtype(d: DType) -> None:
    """Change the default float dtype. d: a floating-point dtype. Raises TypeError otherwise."""
    global _default
    dtype = as_dtype(d, "set_default_dtype")
    if dtype is None or not dtype.is_floating_point:
        raise TypeError(f"set_default_dtype: only floating-point types are supported, got {dtype!r}")
    _default = dtype
    epoch.bump()


_OF_PYTHON: Final = {float: dt.f64, int: dt.i64, bool: dt.bool_}


def as_dtype(dtype: Any, name: str) -> DType | None:
    """A dtype that was passed to the function `name`: Python's float, int and bool stand for float64, int64 and bool.

    Raises TypeError for anything else, NumPy's types among them, as PyTorch does."""
    if dtype is None or isinstance(dtype, DType):
        return dtype
    found = _OF_PYTHON.get(dtype) if isinstance(dtype, type) else None
    if found is None:
        raise TypeError(f"{name}: argument 'dtype' must be a flambeau dtype (fb.float32, ...), got {dtype!r}")
    return found


def category(dtype: DType) -> int:
    """0 bool, 1 integer, 2 floating point."""
    return 0 if dtype is dt.bool_ else 1 if dtype.is_integer else 2


_SIGNED: Final = (dt.i8, dt.i16, dt.i32, dt.i64)


def promote_types(type1: DType, type2: DType) -> DType:
    """The smallest dtype that both convert to by PyTorch's lattice: promote_types(u8, i8) is i16."""
    for given in (type1, type2):
        if isinstance(given, ComplexDType):
            parts = [t.component if isinstance(t, ComplexDType) else t for t in (type1, type2)]
            return complex_of(promoted_types(*parts))
        if not isinstance(given, DType):
            raise TypeError(f"promote_types: takes two dtypes, got {type(given).__name__}")
    return promoted_types(type1, type2)


def promoted_types(a: DType, b: DType) -> DType:
    """promote_types() of what is known to be dtypes."""
    if a is b:
        return a
    ca, cb = category(a), category(b)
    if ca != cb:
        return a if ca > cb else b
    if ca == 2:
        if a.itemsize == b.itemsize:            # f16 with bf16
            return dt.f32
        return a if a.itemsize > b.itemsize else b
    if a.kind == b.kind:
        return a if a.itemsize > b.itemsize else b
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    if signed.itemsize > unsigned.itemsize:
        return signed
    return next((s for s in _SIGNED if s.itemsize > unsigned.itemsize), dt.i64)


def number_dtype(value: object) -> DType:
    """The dtype a bare Python number stands for: bool, int64, or the default float."""
    if isinstance(value, bool):
        return dt.bool_
    return dt.i64 if isinstance(value, int) else _default


def result_type_of(shaped: Iterable[DType], scalars: Iterable[DType], numbers: Iterable[DType]) -> DType:
    """Promotion over the three tiers. At least one operand must be given."""
    result: DType | None = None
    for tier in (shaped, scalars, numbers):
        promoted: DType | None = None
        for dtype in tier:
            promoted = dtype if promoted is None else promoted_types(promoted, dtype)
        if promoted is not None and (result is None or category(promoted) > category(result)):
            result = promoted
    assert result is not None, "result_type needs an operand"
    return result
