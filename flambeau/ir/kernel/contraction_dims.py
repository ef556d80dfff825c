"""ContractionKernel -> ContractionKernel: the same sums over fewer dims, or with the operands' roles swapped.

Pure rewrites of dims and strides that a schedule is chosen on and a backend emits from. Dims that disappear keep
their number with extent 1, so no address has to be renumbered.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from flambeau.ir.kernel import Address, ContractionKernel

__all__ = ["LONG_SUM", "as_windows", "canonicalize", "merge_strides", "neighbours", "swap_roles"]


LONG_SUM: Final = 384       # terms from which on sums in f32 are flushed into totals now and then: a few percent slower


def swap_roles(kernel: ContractionKernel) -> ContractionKernel:
    """lhs[b,m,k] * rhs[b,k,n] -> rhs as the left operand and lhs as the right one; m and n change places.
    The products are the same numbers, so only the vector dim differs. Drops the schedule."""
    return replace(kernel, m=kernel.n, n=kernel.m, lhs=kernel.rhs, rhs=kernel.lhs, schedule=None,
                   keeps_lhs=kernel.keeps_rhs, keeps_rhs=kernel.keeps_lhs)


def canonicalize(kernel: ContractionKernel) -> ContractionKernel:
    """Few, long dims: drop extents of 1, give batch dims that one operand ignores to the other's role, merge dims
    whose strides compose in every address, and put the dim along which rhs is contiguous innermost in n.
    Requires: no schedule (its m_tile would name other dims). Ensures: the same stores of the same values."""
    assert kernel.schedule is None, (
        "a scheduled contraction is canonical already: its m_tile names its m dims"
    )
    kernel = _without_unit_dims(kernel)
    kernel = _with_one_sided_batch_dims_moved(kernel)
    kernel = replace(kernel, n=_contiguous_last(kernel.n, kernel))
    for role in ("batch", "m", "n", "k"):
        kernel = _with_merged_role(kernel, role)
    return kernel


def as_windows(kernel: ContractionKernel) -> ContractionKernel | None:
    """The kernel with its dims in the order that `walks_windows` asks for, None where no order is such."""
    kernel = _with_one_sided_batch_dims_moved(_without_unit_dims(kernel))
    if kernel.batch or len(kernel.k) != 3 or len(kernel.m) < 2:
        return None
    for k in itertools.permutations(kernel.k):
        moves = [[d for d in kernel.m if kernel.lhs.stride_of(d) == kernel.lhs.stride_of(tap)] for tap in k[:2]]
        if all(moves) and moves[0] != moves[1] and kernel.lhs.stride_of(k[0]) > kernel.lhs.stride_of(k[1]):
            height, width = moves[0][-1], moves[1][-1]
            images = [d for d in kernel.m if d not in (height, width)]
            found = replace(kernel, m=(*images, height, width), k=k)
            if found.walks_windows:
                return found
    return None


def neighbours(kernel: ContractionKernel, address: Address, dims: Sequence[int]) -> int:
    """How many flattened points of `dims`, from a multiple of that number on, lie side by side in memory, from a multiple
    of it on as well: a power of two, at most 16."""
    long = [d for d in dims if kernel.extents[d] != 1]
    if not long or address.stride_of(long[-1]) != 1:
        return 1
    others = [stride for d, stride in address.strides if d != long[-1] and kernel.extents[d] != 1]
    width = 16
    while any(number % width for number in (kernel.extents[long[-1]], address.offset, *others)):
        width //= 2
    return width


def merge_strides(dims: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """(extent, stride, stride...) rows, outer to inner -> as few rows as adjacent composing strides allow."""
    merged: list[tuple[int, ...]] = []
    for row in dims:
        if row[0] == 1:
            continue
        if merged and all(
            outer == row[0] * inner for outer, inner in zip(merged[-1][1:], row[1:], strict=True)
        ):
            merged[-1] = (merged[-1][0] * row[0], *row[1:])
        else:
            merged.append(row)
    return tuple(merged) or ((1, *(0 for _ in dims[0][1:])),) if dims else ()


def _without_unit_dims(kernel: ContractionKernel) -> ContractionKernel:
    """Roles without their dims of extent 1."""

    def long(dims: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(d for d in dims if kernel.extents[d] != 1)

    return replace(kernel, batch=long(kernel.batch), m=long(kernel.m), n=long(kernel.n), k=long(kernel.k))


def _with_one_sided_batch_dims_moved(kernel: ContractionKernel) -> ContractionKernel:
    to_m = tuple(d for d in kernel.batch if not kernel.rhs.stride_of(d))
    to_n = tuple(d for d in kernel.batch if d not in to_m and not kernel.lhs.stride_of(d))
    batch = tuple(d for d in kernel.batch if d not in to_m and d not in to_n)
    return replace(kernel, batch=batch, m=(*to_m, *kernel.m), n=(*to_n, *kernel.n))


def _contiguous_last(dims: tuple[int, ...], kernel: ContractionKernel) -> tuple[int, ...]:
    """The dim with stride 1 in rhs, else in a store, moved to the end."""
    for address in (kernel.rhs, *(store.address for store in kernel.epilogue.stores)):
        found = [d for d in dims if address.stride_of(d) == 1]
        if found:
            return (*(d for d in dims if d != found[0]), found[0])
    return dims


def _with_merged_role(kernel: ContractionKernel, role: str) -> ContractionKernel:
    """Merge any two dims of one role that compose, wherever they stand; the pair takes the inner one's place."""
    pinned = {i.attr for i in kernel.epilogue.body if i.op == "index" and isinstance(i.attr, int)}
    while (
        pair := _composing_pair(kernel, [d for d in getattr(kernel, role) if d not in pinned])
    ) is not None:
        outer, inner = pair
        extents = list(kernel.extents)
        extents[inner] *= extents[outer]
        extents[outer] = 1
        kernel = replace(_without_dim(kernel, outer), extents=tuple(extents))
    return kernel


def _without_dim(kernel: ContractionKernel, dim: int) -> ContractionKernel:
    return kernel.map(dim=lambda d: None if d == dim else d)


def _composing_pair(kernel: ContractionKernel, dims: Sequence[int]) -> tuple[int, int] | None:
    """(outer, inner) such that every address steps over all of inner where it steps once along outer."""
    for outer, inner in itertools.permutations(dims, 2):
        extent = kernel.extents[inner]
        if all(a.stride_of(outer) == extent * a.stride_of(inner) for a in kernel.addresses()):
            return outer, inner
    return None
