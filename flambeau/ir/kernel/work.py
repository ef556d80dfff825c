"""How much a kernel does: floating-point operations, and bytes that must move.

Counted from the kernel's text, so what a call of a library or a sort does inside counts nothing. An addition, a product,
a quotient, a root, an exponential each count one, a fused multiply-add two; a value that does not depend on a dim is
counted once for all points along it, as it is computed. Bytes: each param once, but no more of it than is addressed
(rows that a table of embeddings gives up), and what is both read and written twice. A kernel whose data does not stay in
the caches between its stages moves more.
"""
from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from flambeau.ir.kernel.attention_kernel import AttentionKernel
from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.contraction_kernel import ContractionKernel
from flambeau.ir.kernel.dataflow import dims_of_values
from flambeau.ir.kernel.grammar import Address, Extent
from flambeau.ir.kernel.loop_kernel import LoopKernel
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
        return Work(self._code() + self._products(), sum(map(self._bytes, range(len(self.kernel.params)))))

    def _extent(self, extent: Extent) -> int:
        return self.sizes.get(extent, 1) if isinstance(extent, str) else extent

    def _points(self, dims: tuple[int, ...]) -> int:
        return prod([self._extent(self.kernel.extents[dim]) for dim in dims])

    def _code(self) -> int:
        """Flops of scalar code, reductions included."""
        kernel = self.kernel
        if not kernel.code:
            return 0
        total, dims_of = 0, dims_of_values(kernel) if isinstance(kernel, LoopKernel) else {}
        for stage in kernel.code:
            walked = kernel.walked(stage)
            for instr in stage.body:
                if instr.dtype.is_floating_point and instr.op not in _UNCOUNTED and not SCALAR_OPS[instr.op].is_test:
                    dims = tuple([dim for dim in walked if not dims_of or dim in dims_of[instr.id]])
                    total += (2 if instr.op == "fma" else 1) * self._points(dims)
            total += self._points(walked) * sum(reduction.dtype.is_floating_point for reduction in stage.reductions)
            total += sum(self._points(walked) for store in stage.stores
                         if store.combine == "add" and kernel.params[store.address.buffer].dtype.is_floating_point)
        return total

    def _products(self) -> int:
        """Flops of sums of products, a multiplication and an addition each."""
        kernel = self.kernel
        if isinstance(kernel, ContractionKernel):
            return 2 * prod(kernel.extents) if kernel.acc_dtype.is_floating_point else 0
        if isinstance(kernel, AttentionKernel):
            rows, columns, size, value = kernel.sizes_of_rows
            weights = prod(kernel.batch) * rows * columns
            if kernel.causal and rows == columns:
                weights = prod(kernel.batch) * rows * (rows + 1) // 2
            products = 3 * size + 2 * value if kernel.is_backward else size + value     # of scores again, dq, dk; dv, dp
            return weights * (2 * products + 4)                                         # and scale, shift, exp, sum
        return 0

    def _bytes(self, number: int) -> int:
        param = self.kernel.params[number]
        if param.role == "scratch":
            return 0
        elements = self._extent(param.elements)
        if self.kernel.code:
            elements = min(elements, sum(self._addressed(number)))
        return elements * param.dtype.itemsize * (2 if param.role == "inout" else 1)

    def _addressed(self, number: int) -> list[int]:
        """How many elements each address of a param names, at most."""
        kernel, found = self.kernel, []
        if isinstance(kernel, ContractionKernel):
            found += [self._elements(address, tuple(range(len(kernel.extents))))
                      for address in (kernel.lhs, kernel.rhs) if address.buffer == number]
        for stage in kernel.code:
            walked = kernel.walked(stage)
            addresses = [i.attr for i in stage.body if isinstance(i.attr, Address)] + [s.address for s in stage.stores]
            found += [self._elements(address, walked) for address in addresses if address.buffer == number]
        return found

    def _elements(self, address: Address, walked: tuple[int, ...]) -> int:
        if address.dynamic:
            return self._points(walked)
        return self._points(tuple([dim for dim, _ in address.strides if dim in walked]))
