"""What a call of a Program brings: names and types, so that it can be called, exported or kept without its graph."""
from __future__ import annotations

import math
from dataclasses import field

from flambeau.errors import VerificationError
from flambeau.ir.dims import Dim
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

__all__ = ["LARGEST", "Signature", "SizeSpec", "TensorSpec"]

LARGEST = (1 << 63) - 1             # of all sizes and counts, which native code holds in 64 bits


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a caller passes or gets. initial: the bytes that a state begins with, if the program brings them."""

    name: str
    type: TensorType
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SizeSpec:
    """A size that comes with each call: from 0 to `most`. Dims of this name in the signature stand for it."""

    name: str
    most: int


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything that a call brings: pointers to arguments, numbers, pointers to the memory of outputs, sizes; and the
    states, whose memory is bound before."""

    args: tuple[TensorSpec, ...] = ()
    states: tuple[TensorSpec, ...] = ()
    scalars: tuple[TensorSpec, ...] = ()
    outs: tuple[TensorSpec, ...] = ()
    sizes: tuple[SizeSpec, ...] = ()

    def nbytes(self, spec: TensorSpec) -> int:
        """Bytes of its memory when every size is at its most. Raises VerificationError where that is no number."""
        sizes = [self._largest(size) if isinstance(size, Dim) else size for size in spec.type.shape]
        count = math.prod(sizes) * spec.type.dtype.itemsize
        if min(sizes, default=0) < 0 or count > LARGEST:
            raise VerificationError(f"no memory holds {spec.name} : {spec.type}")
        return count

    def _largest(self, dim: Dim) -> int:
        most = {size.name: size.most for size in self.sizes}
        if any(times < 0 for _, times in dim.terms):
            raise VerificationError(f"the size {dim} does not grow with its parts")
        try:
            return dim.evaluate(most)
        except KeyError as error:
            raise VerificationError(f"the size {dim} names {error}, which no call brings") from None
