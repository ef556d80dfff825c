"""The type of a value in a Graph: shape, element type, device."""
from __future__ import annotations

from flambeau.ir.answers import known
from flambeau.ir.dims import Dim, Size
from flambeau.ir.dtypes import DTYPES, DType
from flambeau.ir.records import dataclass
from flambeau.ir.size_text import parse_size

Shape = tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """f32[8,B,3]: sizes are ints or symbolic Dims; a 0-d tensor is f32[]."""

    shape: Shape
    dtype: DType
    device: str = "cpu"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        return True not in [isinstance(size, Dim) for size in self.shape]

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints; sizes with names behave as such where something is known of them (answers.py), and only
        there."""
        assert self.is_static or known() is not None, f"{self} has symbolic dims"
        return self.shape  # type: ignore[return-value]

    @property
    def numel(self) -> int:
        """Number of elements, as `static_shape`."""
        count = 1
        for size in self.static_shape:
            count *= size
        return count

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    @property
    def size_mistake(self) -> str:
        """Why no memory can hold such a tensor: a negative size, or more bytes than there are addresses; or ""."""
        nbytes = self.dtype.itemsize
        for size in self.shape:
            if isinstance(size, Dim):
                return ""
            if size < 0:
                return f"a tensor can't have negative sizes: {self}"
            nbytes *= max(size, 1)
        return f"{self} is larger than any memory: {nbytes} bytes" if nbytes >= 1 << 63 else ""

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(tuple(shape), self.dtype, self.device)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype, self.device)

    def on(self, device: str) -> TensorType:
        """The same, lying there."""
        return self if self.device == device else TensorType(self.shape, self.dtype, device)

    def __str__(self) -> str:
        device = "" if self.device == "cpu" else f"@{self.device}"
        return f"{self.dtype.name}[{','.join(str(size) for size in self.shape)}]{device}"


def parse_type(text: str) -> TensorType:
    """Inverse of str(TensorType). Raises ValueError with the offending text."""
    head, bracket, rest = text.strip().partition("[")
    sizes, close, device = rest.partition("]")
    if not bracket or not close or head not in DTYPES:
        raise ValueError(f"not a tensor type: {text!r}; expected something like f32[8,4]")
    shape = tuple(parse_size(size) for size in sizes.split(",")) if sizes.strip() else ()
    return TensorType(shape, DTYPES[head], device[1:] if device else "cpu")
