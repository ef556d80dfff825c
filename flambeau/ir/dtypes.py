"""Element types: what a tensor's numbers are, and how NumPy stores them.

bf16 has no NumPy type: it is stored as its upper 16 bits in uint16 and computed in f32, rounded to
nearest even after each op (`to_compute`, `to_storage`). u32 and u64 exist for random bits.
"""
from __future__ import annotations

from typing import Final

import numpy as np

from flambeau.ir.records import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """One element type. Compared by identity; `DTYPES[name]` finds it by its IR name."""

    name: str               # the IR spelling: f32
    torch_name: str         # the public spelling: float32
    kind: str               # "float" | "int" | "uint" | "bool"
    itemsize: int           # bytes
    storage: np.dtype       # how NumPy holds it
    compute: np.dtype       # what the NumPy meaning computes in

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Integer and not bool."""
        return self.kind in ("int", "uint")

    @property
    def is_signed(self) -> bool:
        return self.kind in ("float", "int")

    @property
    def is_complex(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"flambeau.{self.torch_name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, ...]:
        return (_named, (self.name,))

    def __deepcopy__(self, memo: object) -> DType:
        return self


DTYPES: Final[dict[str, DType]] = {}


def _named(name: str) -> DType:
    """What a pickled DType loads through: there is one object per name."""
    return DTYPES[name]


def _dtype(name: str, torch_name: str, kind: str, itemsize: int, storage: str, compute: str = "") -> DType:
    dtype = DType(name, torch_name, kind, itemsize, np.dtype(storage), np.dtype(compute or storage))
    DTYPES[name] = dtype
    return dtype


f16 = _dtype("f16", "float16", "float", 2, "float16")
bf16 = _dtype("bf16", "bfloat16", "float", 2, "uint16", "float32")
f32 = _dtype("f32", "float32", "float", 4, "float32")
f64 = _dtype("f64", "float64", "float", 8, "float64")
i8 = _dtype("i8", "int8", "int", 1, "int8")
i16 = _dtype("i16", "int16", "int", 2, "int16")
i32 = _dtype("i32", "int32", "int", 4, "int32")
i64 = _dtype("i64", "int64", "int", 8, "int64")
u8 = _dtype("u8", "uint8", "uint", 1, "uint8")
u32 = _dtype("u32", "uint32", "uint", 4, "uint32")
u64 = _dtype("u64", "uint64", "uint", 8, "uint64")
bool_ = _dtype("bool", "bool", "bool", 1, "bool")

_FROM_NUMPY: Final = {d.storage: d for d in DTYPES.values() if d is not bf16}


def from_numpy_dtype(dtype: np.dtype) -> DType:
    """The DType whose storage is `dtype`. Raises KeyError for types with no counterpart (complex, object...)."""
    return _FROM_NUMPY[np.dtype(dtype)]


def bf16_to_f32(bits: np.ndarray) -> np.ndarray:
    """uint16 bf16 bits -> the float32 they stand for (exact)."""
    return np.asarray(bits.astype(np.uint32) << np.uint32(16)).view(np.float32)     # of rank 0, << gives a number


def f32_to_bf16(values: np.ndarray) -> np.ndarray:
    """float32 -> uint16 bf16 bits, rounded to nearest even; a NaN stays a (quiet) NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    quiet_nan = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint16).reshape(np.shape(values))


def to_compute(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Storage array -> the array that the NumPy meaning of an op works on."""
    return bf16_to_f32(array) if dtype is bf16 else array


def to_storage(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Result of a NumPy meaning -> storage array of `dtype` (rounds to bf16; no other conversion)."""
    return f32_to_bf16(array) if dtype is bf16 else np.asarray(array, dtype.storage)
