"""Graph -> Graph. Convolutions as lowering knows them: of channels-last images, without padding, none that is the
gradient of an input. Where images of other layouts meet them, permutes stand around them.

    conv2d(x, w) NCHW, padded  ->  permute(conv2d(pad(permute(x)), permute(w)) NHWC)

Padding becomes an explicit `pad`, an input gradient a convolution of the padded cotangent with flipped weights: all are
strided sums. Volumes (conv3d) go the same way, NCDHW to NDHWC. A device that would rather keep whole parts of a graph
channels-last does that in its own layout pass.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any, Final

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.dims import Size, same, same_shape
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.op import Op
from flambeau.ir.ops.windows import CHANNELS_LAST
from flambeau.passes.graph.rewrite import graphs_within

__all__ = ["CONVOLUTION", "PlainConvolutions", "plain_convolutions", "to_nhwc"]

FORWARD = (ops.Conv2d, ops.Conv3d)
INPUT_GRAD = (ops.Conv2dInputGrad, ops.Conv3dInputGrad)
WEIGHT_GRAD = (ops.Conv2dWeightGrad, ops.Conv3dWeightGrad)
CONVOLUTION = FORWARD + INPUT_GRAD + WEIGHT_GRAD
_FEWEST_CHANNELS: Final = 8               # of a depthwise convolution that is a sum of shifted images
_MOST_TAPS: Final = 64                    # that are written out one by one


def to_nhwc(rank: int) -> tuple[int, ...]:
    """The dims that make images NHWC, volumes NDHWC."""
    return (0, *range(2, rank), 1)


def to_nchw(rank: int) -> tuple[int, ...]:
    """The inverse."""
    return (0, rank - 1, *range(1, rank - 1))


def to_rsio(rank: int) -> tuple[int, ...]:
    """The dims that put the channels of a weight last, from OIHW."""
    return (*range(2, rank), 1, 0)


def to_oihw(rank: int) -> tuple[int, ...]:
    """The inverse."""
    return (rank - 1, rank - 2, *range(rank - 2))


def plain_convolutions(graph: Graph) -> Graph:
    """The pass; edits `graph`, and the regions in it, in place. Leaves dead nodes behind."""
    for current in graphs_within(graph):
        if any(isinstance(node.op, CONVOLUTION) for node in current):
            PlainConvolutions(current).run()
    return graph


class PlainConvolutions:
    """Rewrites convolutions; a subclass may `visit` other nodes too."""

    def __init__(self, graph: Graph):
        self.graph, self.b = graph, Builder(graph)
        self.nhwc_of: dict[Value, Value] = {}       # an NCHW value -> the same image batch channels-last

    def run(self) -> None:
        for node in list(self.graph.toposort()):
            self.b.stand_for(node)
            self.visit(node)

    def visit(self, node: Node) -> None:
        """Rewrite one node; those before it are done."""
        if isinstance(node.op, FORWARD):
            self._forward(node)
        elif isinstance(node.op, INPUT_GRAD):
            self._input_grad(node)
        elif isinstance(node.op, WEIGHT_GRAD):
            self._weight_grad(node)

    # -- images -----------------------------------------------------------------------------------------------------

    def _image(self, x: Value, layout: str) -> Value:
        """x as [n, h, w, c]."""
        if layout not in CHANNELS_LAST:
            return x
        if x not in self.nhwc_of:
            self.nhwc_of[x] = self.b.permute(x, to_nhwc(len(x.shape)))
        return self.nhwc_of[x]

    def _replace_image(self, old: Value, new: Value, layout: str) -> None:
        """`new`, channels-last, takes the place of `old`, which stands in `layout`."""
        if layout not in CHANNELS_LAST:
            self.graph.replace_uses(old, new)
            return
        back = self.b.permute(new, to_nchw(len(new.shape)))
        self.graph.replace_uses(old, back)
        self.nhwc_of[back] = new

    def _weights(self, w: Value, layout: str) -> Value:
        return self.b.permute(w, to_rsio(len(w.shape))) if layout in CHANNELS_LAST else w

    # -- convolutions -----------------------------------------------------------------------------------------------

    def _forward(self, node: Node) -> None:
        op, (x, w) = node.op, node.operands
        assert isinstance(op, FORWARD)
        if op.is_plain and not _is_depthwise(op, x, w):
            return
        padded = self._fit(self._image(x, op.layout), *zip(*op.padding, strict=True))
        self._replace_image(node.results[0], self._convolved(_plain(op), padded, self._weights(w, op.layout)), op.layout)

    def _input_grad(self, node: Node) -> None:
        op, (ct, w) = node.op, node.operands
        assert isinstance(op, INPUT_GRAD)
        image, weights = self._image(ct, op.layout), self._weights(w, op.layout)
        strided = [dilation for stride, dilation in zip(op.stride, op.dilation, strict=True) if stride > 1]
        by = self._input_grad_by_phases if strided and max(strided) == 1 else self._input_grad_of_spread
        self._replace_image(node.results[0], by(op, image, weights), op.layout)

    def _input_grad_of_spread(self, op: Any, ct: Value, w: Value) -> Value:
        """Each input position meets the flipped taps over the cotangent, spread out by the stride."""
        rank = len(op.stride)
        low, high = [], []
        for side in range(rank):
            reach = op.dilation[side] * (w.shape[side] - 1)
            spread = (ct.shape[1 + side] - 1) * op.stride[side] + 1
            low.append(reach - op.padding[side][0])
            high.append(op.input_shape[side] + reach - spread - low[side])
        padded = self._fit(ct, low, high, tuple([step - 1 for step in op.stride]))
        flipped = self.b.emit(ops.Flip(tuple(range(rank))), w)
        return self._convolved(_stride_1(op, op.dilation), padded, self._swap_channels(flipped, op.groups))

    def _input_grad_by_phases(self, op: Any, ct: Value, w: Value) -> Value:
        """Input positions of one phase (position + padding, modulo the stride) meet every stride-th tap, over
        neighbouring windows. So each phase is a few channels more of one convolution that multiplies no zeros of a spread
        cotangent, and its results are put side by side. Shi et al., "Is the deconvolution layer the same as a
        convolutional layer?", 2016. Taps that no phase has, and phases without taps, are zeros."""
        rank, sides = len(op.stride), range(len(op.stride))
        *taps, channels, outputs = w.shape
        phases = [min(taps[i], op.stride[i]) for i in sides]
        each = [-(-taps[i] // op.stride[i]) for i in sides]                  # taps of a phase
        w = self._fit_dims(w, [(0, each[i] * phases[i] - taps[i]) for i in sides])
        split = [size for i in sides for size in (each[i], phases[i])]
        w = self.b.reshape(w, (*split, channels, op.groups, outputs // op.groups))
        w = self.b.emit(ops.Flip(tuple([2 * i for i in sides])), w)
        w = self.b.permute(w, (*[2 * i for i in sides], 2 * rank + 2, 2 * rank + 1, *[2 * i + 1 for i in sides], 2 * rank))
        w = self.b.reshape(w, (*each, outputs // op.groups, op.groups * prod(phases) * channels))

        first = [op.padding[i][0] // op.stride[i] for i in sides]            # of the windows, counted from the padding
        count = [-(-(op.input_shape[i] + op.padding[i][0]) // op.stride[i]) - first[i] for i in sides]
        ct = self._fit(ct, [(each[i] - 1) * op.dilation[i] - first[i] for i in sides],
                       [first[i] + count[i] - ct.shape[1 + i] for i in sides])
        y = self._convolved(_stride_1(op, op.dilation), ct, w)
        y = self.b.reshape(y, (y.shape[0], *count, op.groups, *phases, channels))
        order = [dim for i in sides for dim in (1 + i, 2 + rank + i)]
        y = self.b.permute(y, (0, *order, 1 + rank, 2 * rank + 2))
        y = self._fit_dims(y, [(0, 0)] + [ends for i in sides for ends in ((0, 0), (0, op.stride[i] - phases[i]))])
        y = self.b.reshape(y, (y.shape[0], *[count[i] * op.stride[i] for i in sides], op.groups * channels))
        start = [op.padding[i][0] - first[i] * op.stride[i] for i in sides]
        return self._fit(y, [-s for s in start], [start[i] + op.input_shape[i] - y.shape[1 + i] for i in sides])

    def _convolved(self, op: Any, x: Value, w: Value) -> Value:
        """A plain convolution: a contraction, or, where each channel meets only its own taps and a product would have a
        single column, a sum of shifted images, which is computed in vectors of channels and fuses with its neighbours."""
        (result,) = op.infer(x.type, w.type)
        if not _is_depthwise(op, x, w):
            made: Value = self.b.emit(op, x, w)
            return made
        wide = dt.f32 if x.dtype.itemsize == 2 else x.dtype
        x, w = (v if v.dtype is wide else self.b.emit(ops.Cast(wide), v) for v in (x, w))
        shape, ends = result.static_shape, (1,) * len(result.shape)
        w = self.b.add(w, self.b.scalar(0.0, w))        # in memory, in the order in which it is read again and again
        total: Value | None = None
        for tap in product(*map(range, w.shape[:-2])):
            start = (0, *[t * d for t, d in zip(tap, op.dilation, strict=True)], 0)
            steps = (1, *op.stride, 1)
            limit = tuple([at + (size - 1) * step + 1 for at, size, step in zip(start, shape, steps, strict=True)])
            weight = self.b.emit(ops.Slice((*tap, 0, 0), (*[t + 1 for t in tap], 1, shape[-1]), ends), w)
            weight = self.b.emit(ops.Broadcast(shape, (len(shape) - 1,)), self.b.reshape(weight, shape[-1:]))
            term = self.b.mul(self.b.emit(ops.Slice(start, limit, steps), x), weight)
            total = term if total is None else self.b.add(total, term)
        assert total is not None, "a kernel has a tap"
        return total if wide is result.dtype else self.b.emit(ops.Cast(result.dtype), total)

    def _swap_channels(self, w: Value, groups: int) -> Value:
        """[r, s, i, g*o] -> [r, s, o, g*i]."""
        *taps, channels, channels_out = w.shape
        first = range(len(taps))
        if groups == 1:
            return self.b.permute(w, (*first, len(taps) + 1, len(taps)))
        split = self.b.reshape(w, (*taps, channels, groups, channels_out // groups))
        swapped = self.b.permute(split, (*first, len(taps) + 2, len(taps) + 1, len(taps)))
        return self.b.reshape(swapped, (*taps, channels_out // groups, groups * channels))

    def _weight_grad(self, node: Node) -> None:
        op, (x, ct) = node.op, node.operands
        assert isinstance(op, WEIGHT_GRAD)
        if op.is_plain:
            return
        padded = self._fit(self._image(x, op.layout), *zip(*op.padding, strict=True))
        made = self.b.emit(_plain(op), padded, self._image(ct, op.layout))
        self.graph.replace_uses(node.results[0], self.b.permute(made, to_oihw(len(made.shape)))
                                if op.layout in CHANNELS_LAST else made)

    def _fit_dims(self, x: Value, ends: Sequence[tuple[Size, Size]]) -> Value:
        """x with zeros before and after its first dims."""
        if all(same(end, 0) for pair in ends for end in pair):
            return x
        low, high = zip(*ends, *[(0, 0)] * (len(x.shape) - len(ends)), strict=True)
        padded: Value = self.b.emit(ops.Pad(low, high, (0,) * len(low)), x)
        return padded

    def _fit(self, image: Value, low: Sequence[Size], high: Sequence[Size], interior: Sequence[int] = ()) -> Value:
        """Zeros around (and between) the pixels of an image; a negative amount crops."""
        before, after = [max(a, 0) for a in low], [max(b, 0) for b in high]
        if not same_shape((*before, *after, *interior), (0,) * (2 * len(before) + len(interior))):
            between = interior or (0,) * len(before)
            image = self.b.emit(ops.Pad((0, *before, 0), (0, *after, 0), (0, *between, 0)), image)
        if any(end < 0 for end in (*low, *high)):
            starts = (0, *[max(-a, 0) for a in low], 0)
            limits = [size - max(-b, 0) for size, b in zip(image.shape, (0, *high, 0), strict=True)]
            image = self.b.emit(ops.Slice(starts, tuple(limits), (1,) * len(starts)), image)
        return image


def _is_depthwise(op: Any, x: Value, w: Value) -> bool:
    """One input and one output channel in each group, enough of them to fill vectors, and few enough taps to write out."""
    groups, taps = op.groups, w.shape[2:] if op.channels_first else w.shape[:-2]
    channels, outputs = x.shape[op.channel_dim], w.shape[0 if op.channels_first else -1]
    return groups == channels == outputs >= _FEWEST_CHANNELS and prod(taps) <= _MOST_TAPS and x.type.numel > 0


def _stride_1(op: Any, dilation: tuple[int, ...]) -> Op:
    """The plain convolution of stride 1 that has the groups of an input gradient."""
    forward = ops.Conv2d if isinstance(op, ops.Conv2dInputGrad) else ops.Conv3d
    rank = len(dilation)
    return forward((1,) * rank, ((0, 0),) * rank, dilation, op.groups, forward.layouts[1])


def _plain(op: Any) -> Op:
    return replace(op, padding=((0, 0),) * len(op.padding), layout=op.layouts[1])
