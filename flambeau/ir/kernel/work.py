"""How much a kernel does: floating-point operations, and bytes that must move.

Counted from the kernel's text, so what a call of a library or a sort does inside counts nothing. An addition, a product,
a quotient, a root, an exponential each count one, a fused multiply-add two; a value that does not depend on a dim is
counted once for all points along it, as it is computed. Bytes: each param once, but no more of it than is addressed
(rows that a table of embeddings gives up), and what is both read and written twice. A kernel whose data does not stay in
the caches between its stages moves more.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Final

from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.dataflow import dims_of_values
from flambeau.ir.kernel.grammar import Address, Extent
from flambeau.ir.kernel.scalar import SCALAR_OPS
from flambeau.ir.records import dataclass

__all__ = ["Work", "work_of"]

_UNCOUNTED: Final = frozenset({"const", "index", "load", "affine", "acc", "cast", "select", "check", "philox", "not", "and",
                               "or", "xor", "shl", "shr"})


@dataclass(frozen=True, slots=True)
class Work:
    """flops: floating-point operations; bytes: read and written, each byte of memory once."""

    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Flops a byte: what has few waits for memory, whatever the processor can do."""
        return self.flops / self.bytes if self.bytes else float("inf") if self.flops else 0.0


def work_of(kernel: Kernel, sizes: Mapping[str, int] | None = None) -> Work:
    """sizes: the runtime sizes by name, which `kernel.sizes` lists."""
    return _Count(kernel, sizes or {}).work()


class _Count:
    def __init__(self, kernel: Kernel, sizes: Mapping[str, int]) -> None:
        self.kernel, self.sizes = kernel, sizes

    def work(self) -> Work:
        return Work(self._code() + self.kernel.product_flops, sum(map(self._bytes, range(len(self.kernel.params)))))

    def _extent(self, extent: Extent) -> int:
        return self.sizes.get(extent, 1) if isinstance(extent, str) else extent

    def _points(self, dims: Iterable[int]) -> int:
        return prod([self._extent(self.kernel.extents[dim]) for dim in dims])

    def _code(self) -> int:
        """Flops of scalar code, reductions included."""
        kernel, dims_of, total = self.kernel, dims_of_values(self.kernel), 0
        for stage in kernel.code:
            walked = kernel.walked(stage)
            for instr in stage.body:
                if instr.dtype.is_floating_point and instr.op not in _UNCOUNTED and not SCALAR_OPS[instr.op].is_test:
                    dims = [dim for dim in walked if dim in dims_of[instr.id]]
                    total += (2 if instr.op == "fma" else 1) * self._points(dims)
            total += self._points(walked) * sum(reduction.dtype.is_floating_point for reduction in stage.reductions)
            total += sum(self._points(walked) for store in stage.stores
                         if store.combine == "add" and kernel.params[store.address.buffer].dtype.is_floating_point)
        return total

    def _bytes(self, number: int) -> int:
        param = self.kernel.params[number]
        if param.role == "scratch":
            return 0
        elements = self._extent(param.elements)
        addressed = [self._elements(address) for address in self.kernel.addresses() if address.buffer == number]
        if addressed:                               # a kernel without addresses takes its params whole
            elements = min(elements, sum(addressed))
        return elements * param.dtype.itemsize * (2 if param.role == "inout" else 1)

    def _elements(self, address: Address) -> int:
        """How many an address names, at most."""
        return self._points(range(len(self.kernel.extents)) if address.dynamic else [dim for dim, _ in address.strides])
