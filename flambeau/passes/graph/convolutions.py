"""Graph -> Graph. Convolutions as lowering knows them: of channels-last images, without padding, none that is the
gradient of an input. Where images of other layouts meet them, permutes stand around them.

    conv2d(x, w) NCHW, padded  ->  permute(conv2d(pad(permute(x)), permute(w)) NHWC)

Padding becomes an explicit `pad`, an input gradient a convolution of the padded cotangent with flipped weights: all are
strided sums. A device that would rather keep whole parts of a graph channels-last does that in its own layout pass.
"""
from __future__ import annotations

from dataclasses import replace

from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Node, Value
from flambeau.passes.graph.rewrite import graphs_within

__all__ = ["CONVOLUTION", "TO_NCHW", "TO_NHWC", "PlainConvolutions", "plain_convolutions"]

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
TO_RSIO = (2, 3, 1, 0)          # from OIHW
TO_OIHW = (3, 2, 0, 1)          # from RSIO
CONVOLUTION = (ops.Conv2d, ops.Conv2dInputGrad, ops.Conv2dWeightGrad)


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
        match node.op:
            case ops.Conv2d():
                self._conv2d(node)
            case ops.Conv2dInputGrad():
                self._input_grad(node)
            case ops.Conv2dWeightGrad():
                self._weight_grad(node)

    # -- images -----------------------------------------------------------------------------------------------------

    def _image(self, x: Value, layout: str) -> Value:
        """x as [n, h, w, c]."""
        if layout == "NHWC":
            return x
        if x not in self.nhwc_of:
            self.nhwc_of[x] = self.b.permute(x, TO_NHWC)
        return self.nhwc_of[x]

    def _replace_image(self, old: Value, new: Value, layout: str) -> None:
        """`new`, channels-last, takes the place of `old`, which stands in `layout`."""
        if layout == "NHWC":
            self.graph.replace_uses(old, new)
            return
        back = self.b.permute(new, TO_NCHW)
        self.graph.replace_uses(old, back)
        self.nhwc_of[back] = new

    def _weights(self, w: Value, layout: str) -> Value:
        return w if layout == "NHWC" else self.b.permute(w, TO_RSIO)

    # -- convolutions -----------------------------------------------------------------------------------------------

    def _conv2d(self, node: Node) -> None:
        op, (x, w) = node.op, node.operands
        assert isinstance(op, ops.Conv2d)
        if op.layout == "NHWC" and op.padding == ((0, 0), (0, 0)):
            return
        (top, bottom), (left, right) = op.padding
        padded = self._fit(self._image(x, op.layout), (top, left), (bottom, right))
        plain = replace(op, padding=((0, 0), (0, 0)), layout="NHWC")
        self._replace_image(node.results[0], self.b.emit(plain, padded, self._weights(w, op.layout)), op.layout)

    def _input_grad(self, node: Node) -> None:
        """Each input position meets the flipped taps over the cotangent, spread out by the stride."""
        op, (ct, w) = node.op, node.operands
        assert isinstance(op, ops.Conv2dInputGrad)
        image, weights = self._image(ct, op.layout), self._weights(w, op.layout)
        low, high = [], []
        for side in (0, 1):
            reach = op.dilation[side] * (weights.shape[side] - 1)
            spread = (image.shape[1 + side] - 1) * op.stride[side] + 1
            low.append(reach - op.padding[side][0])
            high.append(op.input_shape[side] + reach - spread - low[side])
        padded = self._fit(image, (low[0], low[1]), (high[0], high[1]), (op.stride[0] - 1, op.stride[1] - 1))
        flipped = self.b.emit(ops.Flip((0, 1)), weights)
        conv = ops.Conv2d((1, 1), ((0, 0), (0, 0)), op.dilation, op.groups, "NHWC")
        made = self.b.emit(conv, padded, self._swap_channels(flipped, op.groups))
        self._replace_image(node.results[0], made, op.layout)

    def _swap_channels(self, w: Value, groups: int) -> Value:
        """[r, s, i, g*o] -> [r, s, o, g*i]."""
        r, s, channels, channels_out = w.shape
        if groups == 1:
            return self.b.permute(w, (0, 1, 3, 2))
        split = self.b.reshape(w, (r, s, channels, groups, channels_out // groups))
        swapped = self.b.permute(split, (0, 1, 4, 3, 2))
        return self.b.reshape(swapped, (r, s, channels_out // groups, groups * channels))

    def _weight_grad(self, node: Node) -> None:
        op, (x, ct) = node.op, node.operands
        assert isinstance(op, ops.Conv2dWeightGrad)
        if op.layout == "NHWC" and op.padding == ((0, 0), (0, 0)):
            return
        (top, bottom), (left, right) = op.padding
        padded = self._fit(self._image(x, op.layout), (top, left), (bottom, right))
        plain = replace(op, padding=((0, 0), (0, 0)), layout="NHWC")
        made = self.b.emit(plain, padded, self._image(ct, op.layout))
        self.graph.replace_uses(node.results[0], made if op.layout == "NHWC" else self.b.permute(made, TO_OIHW))

    def _fit(self, image: Value, low: tuple[int, int], high: tuple[int, int],
             interior: tuple[int, int] = (0, 0)) -> Value:
        """Zeros around (and between) the pixels of an image; a negative amount crops."""
        pad = [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)]
        if any(a or b for a, b in pad) or any(interior):
            (top, bottom), (left, right) = pad
            image = self.b.emit(ops.Pad((0, top, left, 0), (0, bottom, right, 0), (0, *interior, 0)), image)
        if min(*low, *high) < 0:
            starts = (0, max(-low[0], 0), max(-low[1], 0), 0)
            limits = (image.shape[0], image.shape[1] - max(-high[0], 0), image.shape[2] - max(-high[1], 0),
                      image.shape[3])
            image = self.b.emit(ops.Slice(starts, limits, (1, 1, 1, 1)), image)
        return image
