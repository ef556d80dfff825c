"""Fusion region -> ContractionKernel: one matmul or convolution, its operands addressed through views, and the
elementwise ops after it as the epilogue.

Convolutions come here channels-last and without padding (see layout.py), so that all of them are strided sums:
forward m=(n,oh,ow) n=(o) k=(r,s,i); weight gradient m=(r,s,i) n=(o) k=(n,oh,ow).
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.errors import GraphError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.graph import Node, Value
from flambeau.ir.index_maps import Index
from flambeau.ir.kernel import Address, ContractionKernel
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.loops import Body, RegionLowering, locations, params_of
from flambeau.passes.lowering.spaces import IndexTuple, is_view, pull


@dataclass(frozen=True)
class Contraction:
    """The dims of one contraction, numbered in the kernel: extents, roles, and the index of its result and of its
    operands in those dims."""

    extents: tuple[int, ...]
    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    result: IndexTuple
    lhs: IndexTuple
    rhs: IndexTuple


class _Dims:
    """Hands out kernel dims in order."""

    def __init__(self) -> None:
        self.extents: list[int] = []

    def new(self, *sizes: int) -> tuple[tuple[int, ...], IndexTuple]:
        """(numbers, indices) of new dims of these sizes."""
        first = len(self.extents)
        self.extents.extend(sizes)
        numbers = tuple(range(first, len(self.extents)))
        return numbers, tuple([Index.dim(n, size) for n, size in zip(numbers, sizes, strict=True)])


def matmul_dims(node: Node) -> Contraction:
    """[b..., m, k] @ [b..., k, n]."""
    lhs, rhs = (v.type.static_shape for v in node.operands)
    dims = _Dims()
    batch, b = dims.new(*lhs[:-2])
    (m, im), (n, jn), (k, ik) = dims.new(lhs[-2]), dims.new(rhs[-1]), dims.new(lhs[-1])
    return Contraction(tuple(dims.extents), batch, m, n, k, (*b, *im, *jn), (*b, *im, *ik), (*b, *ik, *jn))


def convolution_dims(node: Node) -> Contraction:
    """x[n, h, w, g*i], w[r, s, i, g*o] -> y[n, oh, ow, g*o], without padding; of volumes d, od and q come first."""
    op, (count, *out, channels_out) = _laid_out(node), node.results[0].type.static_shape
    *kernel, channels, _ = node.operands[1].type.static_shape
    dims = _Dims()
    batch, (g,) = dims.new(op.groups)
    m, (i_n, *places) = dims.new(count, *out)
    n, (o,) = dims.new(channels_out // op.groups)
    k, (*taps, c) = dims.new(*kernel, channels)
    out_channel = g * (channels_out // op.groups) + o
    x = (i_n, *_seen(op, places, taps), g * channels + c)
    return Contraction(tuple(dims.extents), batch, m, n, k, (i_n, *places, out_channel), x, (*taps, c, out_channel))


def weight_grad_dims(node: Node) -> Contraction:
    """x[n, h, w, g*i], ct[n, oh, ow, g*o] -> w[r, s, i, g*o]; of volumes d, od and q come first."""
    op, (count, *out, _) = _laid_out(node), node.operands[1].type.static_shape
    *kernel, channels, channels_out = node.results[0].type.static_shape
    dims = _Dims()
    batch, (g,) = dims.new(op.groups)
    m, (*taps, c) = dims.new(*kernel, channels)
    n, (o,) = dims.new(channels_out // op.groups)
    k, (i_n, *places) = dims.new(count, *out)
    out_channel = g * (channels_out // op.groups) + o
    x = (i_n, *_seen(op, places, taps), g * channels + c)
    return Contraction(tuple(dims.extents), batch, m, n, k, (*taps, c, out_channel), x, (i_n, *places, out_channel))


def _laid_out(node: Node) -> Any:
    """The op of a convolution. Raises VerificationError where the layout pass has not been."""
    op: Any = node.op
    if not op.is_plain:
        raise VerificationError(f"{op} is not laid out")
    return op


def _seen(op: Any, places: Sequence[Index], taps: Sequence[Index]) -> list[Index]:
    """Where the tap of each window stands."""
    return [place * stride + tap * dilation
            for place, tap, stride, dilation in zip(places, taps, op.stride, op.dilation, strict=True)]


DIMS_OF = {"matmul": matmul_dims, "byte_matmul": matmul_dims,
           "conv2d": convolution_dims, "conv2d_weight_grad": weight_grad_dims,
           "conv3d": convolution_dims, "conv3d_weight_grad": weight_grad_dims}


class _ContractionSpace:
    """Reads the fusion's index attributes, which are in the dims of the contraction's result, in kernel dims."""

    def __init__(self, contraction: Contraction):
        self.contraction = contraction
        self.inner: tuple[int, ...] = ()

    def index(self, attribute: Sequence[Any]) -> IndexTuple:
        made = []
        for offset, terms in attribute:
            index = Index(offset)
            for dim, coefficient in terms:
                index = index + self.contraction.result[dim] * coefficient
            made.append(index)
        return tuple(made)


class ContractionLowering(RegionLowering):
    """One fusion of kind "contraction" being lowered."""

    def __init__(self, node: Node, name: str):
        super().__init__(node, name)
        (self.center,) = (n for n in self.region.toposort() if n.op.name in DIMS_OF)
        self.contraction = DIMS_OF[self.center.op.name](self.center)
        self.space = _ContractionSpace(self.contraction)       # type: ignore[assignment]

    @property
    def acc_dtype(self) -> dt.DType:
        dtype = self.center.results[0].dtype
        return dt.f32 if dtype in (dt.f16, dt.bf16) else dtype

    def known(self, body: Body, value: Value, index: IndexTuple) -> int | None:
        if value.node is not self.center:
            return None
        if index != self.contraction.result and value.type.numel:       # what has no elements is never read
            raise GraphError(f"{value!r} is summed at {self.contraction.result}, read at {index}")
        acc = body.emit("acc", self.acc_dtype)
        return acc if value.dtype is self.acc_dtype else body.emit("cast", value.dtype, acc)

    def contraction_kernel(self) -> ContractionKernel:
        op, c = self.node.op, self.contraction
        assert isinstance(op, ops.Fusion)
        lhs = self._operand(self.center.operands[0], c.lhs)
        rhs = self._operand(self.center.operands[1], c.rhs)
        stores = [(v, self.space.index(at)) for v, at in zip(self.region.outputs, op.stores, strict=True)]
        epilogue = self._store_stage((), stores)
        return ContractionKernel(self.name, params_of(self.region), c.extents, c.batch, c.m, c.n, c.k, lhs, rhs,
                                 self.acc_dtype, epilogue, locations=locations(self.region),
                                 keeps_lhs=_is_kept(self.center.operands[0]), keeps_rhs=_is_kept(self.center.operands[1]))

    def _operand(self, value: Value, index: IndexTuple) -> Address:
        """Strides of an operand, through the views that lead to it."""
        while is_view(value.node):
            pulled = pull(value.node, index)
            if pulled is None:
                raise VerificationError(f"{value!r} has no affine address; fuse should have materialized it")
            index, value = pulled, value.node.operands[0]
        if value not in self.param_of:
            raise VerificationError(f"{value!r} does not lie in memory")
        return Body(self).address(self.param_of[value], value, index)


def _is_kept(value: Value) -> bool:
    """Whether an operand is the same from call to call."""
    while is_view(value.node):
        if isinstance(value.node.op, ops.Kept):
            return True
        value = value.node.operands[0]
    return False
