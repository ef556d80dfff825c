"""Stable sorts -> text. A thread takes one element and counts how many of its row come before it: that is its place. Every
pair is compared, which for the rows that models sort is less than what moving them many times would take."""
from __future__ import annotations

from typing import Final

from flambeau.codegen.cuda.code import Code
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, Instr, Kernel, Store

__all__ = ["emit_sort"]

_THREADS: Final = 256


def emit_sort(kernel: Kernel, name: str, source: Address, values: Address | None, indices: Address | None,
              descending: bool) -> KernelText:
    """The text of a kernel whose extents are those of the row dims, then the length of a row, then how many are kept."""
    w = Writer()
    code = Code(kernel, w)
    *rows, length, keep = range(len(kernel.extents))
    dtype = kernel.params[source.buffer].dtype
    points = code.product(kernel.extents[:length + 1])
    load = Instr(0, "load", dtype, (), source)
    with code.head(name):
        w.line(f"point = {code.cast(f'cuda.blockIdx.x * {_THREADS} + cuda.threadIdx.x')}")
        with w.block(f"if point < {points}:"):
            code.split("point", [*rows, length])
            w.line(f"place = {code.cast(f'point % {kernel.extents[length]}')}")
            code.load("mine", load)
            w.line("before = int64(0)")
            with w.block(f"for x in range({kernel.extents[length]}):"):
                w.line(f"i{length} = {code.cast('x')}")
                code.load("other", load)
                first, equal = _order(dtype, descending)
                w.line(f"before = before + (1 if {first} | ({equal} & (x < place)) else 0)")
            with w.block(f"if before < {kernel.extents[keep]}:"):
                w.line(f"i{keep} = {code.cast('before')}")
                if values is not None:
                    w.line("v0 = mine")
                    code.stores([Store(values, 0)])
                if indices is not None:
                    w.line("v1 = int64(place)")
                    code.stores([Store(indices, 1)])
    return code.finished(name, kernel.extents[:length + 1], _THREADS, _THREADS)


def _order(dtype: DType, descending: bool) -> tuple[str, str]:
    """Whether `other` comes before `mine`, and whether they are equal. NaN is greater than every number."""
    other, mine = ("int32(other)", "int32(mine)") if dtype is dt.bool_ else ("other", "mine")
    if not dtype.is_floating_point:
        return f"({other} {'>' if descending else '<'} {mine})", f"({other} == {mine})"
    greater, lesser = (other, mine) if descending else (mine, other)
    first = f"(({lesser} < {greater}) | (({greater} != {greater}) & ({lesser} == {lesser})))"
    return first, f"(({other} == {mine}) | (({other} != {other}) & ({mine} != {mine})))"


