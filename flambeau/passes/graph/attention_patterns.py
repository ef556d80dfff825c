"""Graph -> Graph, in place. Attention written by hand, and its derivative where the graph has it, becomes ops.

    matmul(softmax(where(mask, q @ k^T * c, -inf)), v)  ->  attention(q, k, v, mask, scale=c)

The derivative was traced op by op already, so both parts are matched: what reads the weights must be the product with
v, and nothing but the ops that a derivative of these is made of, whose ends (the cotangents of q, k and v) then come from
`attention_backward`. One reader more of the weights, the scores or what lies between, and all stays as it is. Every value
that is replaced is the same function of the same operands, so that results agree to rounding.
"""
from __future__ import annotations

from collections.abc import Mapping
from math import inf

from flambeau.ir import dtypes, ops
from flambeau.ir.answers import Undecided, assuming, known, proving
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.ops.attention import is_worthwhile
from flambeau.ir.records import dataclass
from flambeau.passes.graph.causal_masks import is_causal_mask
from flambeau.passes.graph.rewrite import Rewriter, graphs_within
from flambeau.passes.graph.rules.arithmetic import number

__all__ = ["recognise_attention"]

def recognise_attention(graph: Graph) -> Graph:
    for current in graphs_within(graph):
        order = current.toposort()
        found = [node for node in order if isinstance(node.op, ops.Softmax)]
        place_of = {node: place for place, node in enumerate(order)} if found else {}
        for node in found:
            matched = _Match(current, node, place_of).result()
            if matched is not None:
                _replace(Rewriter(current), node, matched)
    return graph


@dataclass(frozen=True)
class _Backward:
    """What the derivative reads, and the values that take part in nothing else: cotangents of q, k (or of k^T) and v."""

    g: Value
    dq: Value | None
    dk: Value | None
    dk_transposed: Value | None
    dv: Value | None


@dataclass(frozen=True)
class _Attention:
    q: Value
    k: _Permuted
    v: Value
    masks: tuple[tuple[str, Value], ...]    # "seen", "hidden" (bools like the scores) or "added", outermost last
    scale: float
    causal: bool
    out: Value
    backward: _Backward | None


class _Mismatch(Exception):
    pass


class _Match:
    """An attempt to see a softmax as that of attention. `place_of`: nodes in an order in which operands come first."""

    def __init__(self, graph: Graph, softmax: Node, place_of: Mapping[Node, int]) -> None:
        self.graph, self.softmax, self.place_of = graph, softmax, place_of
        self.weights = softmax.results[0]
        self.roots = set(graph.roots())
        self.facts = known()

    def result(self) -> _Attention | None:
        try:
            with proving():
                return self._matched()
        except (_Mismatch, Undecided):
            return None

    def readers(self, value: Value) -> list[tuple[Node, int]]:
        """All that reads a value, which is no result of the graph."""
        self.need(value not in self.roots)
        return list(self.graph.uses(value))

    def need(self, condition: bool) -> None:
        if not condition:
            raise _Mismatch

    def _is_computed_by(self, value: Value, node: Node) -> bool:
        """Whether a value follows from a node. What comes before the node, as the forward pass does, is not walked."""
        first = self.place_of.get(node, 0)
        seen: set[Node] = set()
        stack = [value.node]
        while stack:
            current = stack.pop()
            if current is node:
                return True
            if current not in seen and self.place_of.get(current, first) >= first:      # or it was made since
                seen.add(current)
                stack += [v.node for v in current.operands]
        return False

    def _matched(self) -> _Attention:
        shape = self.weights.type.shape
        self.need(self.weights.dtype in (dtypes.f32, dtypes.f64))
        self.need(isinstance(self.softmax.op, ops.Softmax) and self.softmax.op.dim == len(shape) - 1)
        readers = self.readers(self.weights)
        products = [node for node, position in readers if node.op is ops.matmul and position == 0]
        self.need(len(products) == 1 and products[0].operands[1] is not self.weights)
        out, v = products[0].results[0], products[0].operands[1]
        masks, scale, scaling, product = self._scores(self.softmax.operands[0])
        q, k_transposed = product.operands
        rest = [reader for reader in readers if reader[0] is not products[0]]
        backward = self._backward(rest, out, v, masks, scaling, q, k_transposed) if rest else None
        causal = [mask for mask in masks if is_causal_mask(*mask)]
        with assuming(self.facts):          # other sizes are other programs
            rows, columns = self.weights.type.static_shape[-2:]
            pays = is_worthwhile(rows, columns, q.type.static_shape[-1], v.type.static_shape[-1], bool(causal),
                                 backward is not None)
        self.need(pays)
        masks = [mask for mask in masks if mask not in causal]
        self.need(len(masks) <= 1)
        self.need(backward is None or all(kind != "added" for kind, _ in masks))    # see attention.is_exact
        return _Attention(q, _permuted(k_transposed).transposed, v, tuple(masks), scale, bool(causal), out, backward)

    # -- forward ----------------------------------------------------------------------------------------------------

    def _scores(self, scores: Value) -> tuple[list[tuple[str, Value]], float, Node | None, Node]:
        """Masks, the scale, the node that applies it, and the product of q and k^T."""
        masks: list[tuple[str, Value]] = []
        reader = self.softmax
        while True:
            node = scores.node
            readers = self.readers(scores)
            self.need(all(user is reader for user, _ in readers))
            if node.op is ops.where:
                condition, yes, no = node.operands
                if number(yes) == -inf:
                    masks.append(("hidden", condition))
                    scores = no
                else:
                    self.need(number(no) == -inf)
                    masks.append(("seen", condition))
                    scores = yes
            elif node.op.name == "add":
                first = _leads_to_product(node.operands[0])
                self.need(first != _leads_to_product(node.operands[1]))
                masks.append(("added", node.operands[1 if first else 0]))
                scores = node.operands[0 if first else 1]
            elif node.op.name in ("mul", "div"):
                factor = number(node.operands[1])
                self.need(factor is not None and 1e-30 < abs(factor) < 1e30)        # so is its inverse, in any dtype
                assert factor is not None
                product = node.operands[0]
                self.need(product.node.op is ops.matmul and all(user is node for user, _ in self.readers(product)))
                return masks, factor if node.op.name == "mul" else 1.0 / factor, node, product.node
            else:
                self.need(node.op is ops.matmul)
                return masks, 1.0, None, node
            reader = node

    # -- backward ---------------------------------------------------------------------------------------------------

    def _backward(self, readers: list[tuple[Node, int]], out: Value, v: Value, masks: list[tuple[str, Value]],
                  scaling: Node | None, q: Value, k_transposed: Value) -> _Backward:
        """Everything that reads the weights besides their product with v."""
        dv, g_of_v = None, None
        turned = [node for node, _ in readers if _is_transpose(node)]
        if turned:
            self.need(len(turned) == 1)
            (product, position), = self._only(turned[0].results[0], 1)
            self.need(product.op is ops.matmul and position == 0)
            dv, g_of_v = product.results[0], product.operands[1]
            self.need(g_of_v.type == out.type)
            self.need(not self._is_computed_by(v, product))     # weights @ (weights^T @ x)
        rest = [node for node, _ in readers if node not in turned]
        if not rest:
            assert g_of_v is not None
            return _Backward(g_of_v, None, None, None, dv)
        (by_scores, by_weights) = self._of_softmax(rest)
        product = by_weights.node
        self.need(product.op is ops.matmul and _permuted(product.operands[1]).transposed == _permuted(v))
        g = product.operands[0]
        self.need(g_of_v is None or g_of_v is g)
        for kind, mask in masks:                # the innermost comes last, as in the derivative
            if kind != "added":
                by_scores = self._hidden(by_scores, kind, mask)
        if scaling is not None:
            (node, position), = self._only(by_scores, 1)
            self.need(node.op is scaling.op and position == 0 and node.operands[1] is scaling.operands[1])
            by_scores = node.results[0]
        dq, dk, dk_transposed, k = None, None, None, _permuted(k_transposed).transposed
        for node, position in self.readers(by_scores):
            if node.op is ops.matmul and position == 0 and dq is None and _permuted(node.operands[1]) == k:
                dq = node.results[0]
            elif node.op is ops.matmul and position == 1 and dk_transposed is None and \
                    _permuted(node.operands[0]).transposed == _permuted(q):
                dk_transposed = node.results[0]
            elif _is_transpose(node) and dk is None:
                (product, place), = self._only(node.results[0], 1)
                self.need(product.op is ops.matmul and place == 0 and _permuted(product.operands[1]) == _permuted(q))
                dk = product.results[0]
            else:
                raise _Mismatch
        return _Backward(g, dq, dk, dk_transposed, dv)

    def _only(self, value: Value, count: int) -> list[tuple[Node, int]]:
        readers = self.readers(value)
        self.need(len(readers) == count)
        return readers

    def _of_softmax(self, nodes: list[Node]) -> tuple[Value, Value]:
        """weights * (d - sum(weights * d)): (its result, d)."""
        self.need(len(nodes) == 2 and all(node.op.name == "mul" for node in nodes))
        for weighted, last in (nodes, nodes[::-1]):
            d = weighted.operands[weighted.operands[0] is self.weights]
            summed = self.readers(weighted.results[0])
            if len(summed) != 1 or not isinstance(summed[0][0].op, ops.Sum):
                continue
            total = summed[0][0]
            assert isinstance(total.op, ops.Sum)
            self.need(total.op.dims == (len(self.weights.type.shape) - 1,))
            (spread, _), = self._only(total.results[0], 1)
            self.need(isinstance(spread.op, ops.Broadcast) and spread.results[0].type == self.weights.type)
            assert isinstance(spread.op, ops.Broadcast)
            self.need(spread.op.dims == tuple(range(len(self.weights.type.shape) - 1)))
            (centred, position), = self._only(spread.results[0], 1)
            self.need(centred.op.name == "sub" and position == 1 and centred.operands[0] is d)
            self.need({node for node, _ in self._only(d, 2)} == {weighted, centred})
            (user, _), = self._only(centred.results[0], 1)
            self.need(user is last and set(last.operands) == {self.weights, centred.results[0]})
            return last.results[0], d
        raise _Mismatch

    def _hidden(self, by_scores: Value, kind: str, mask: Value) -> Value:
        """The cotangent past a mask of bools, where it is 0."""
        (node, position), = self._only(by_scores, 1)
        self.need(node.op is ops.where and node.operands[0] is mask and position == (1 if kind == "seen" else 2))
        self.need(number(node.operands[2 if kind == "seen" else 1]) == 0.0)
        return node.results[0]


def _replace(r: Rewriter, softmax: Node, found: _Attention) -> None:
    r.stand_for(found.out.node)
    mask = [_mask(r, *pair) for pair in found.masks]
    k = r.permute(found.k.base, found.k.dims)
    safe = isinstance(softmax.op, ops.SafeSoftmax)
    out, lse = r.emit(ops.Attention(found.scale, found.causal, safe), found.q, k, found.v, *mask)
    back = found.backward
    if back is not None:
        r.stand_for(softmax)
        r.phase = "backward"
        op = ops.AttentionBackward(found.scale, found.causal, safe)
        dq, dk, dv = r.emit(op, found.q, k, found.v, *mask, out, lse, back.g)
        for old, new in ((back.dq, dq), (back.dk, dk), (back.dv, dv)):
            if old is not None:
                r.stand_for(old.node)
                r.replace(old.node, [new])
        if back.dk_transposed is not None:
            r.stand_for(back.dk_transposed.node)
            r.replace(back.dk_transposed.node, [r.transpose(dk)])
    r.replace(found.out.node, [out])
    r.apply({}, r.graph.toposort())


def _mask(r: Rewriter, kind: str, mask: Value) -> Value:
    """As the op takes it: bools are true where a row sees a column."""
    if kind != "hidden":
        return mask
    if isinstance(mask.node.op, ops.Broadcast):
        return r.broadcast(r.logical_not(mask.node.operands[0]), mask.type.shape, mask.node.op.dims)
    return r.logical_not(mask)


# -- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Permuted:
    """A value as a permutation of another, which is none itself: so that two ways to one value are the same."""

    base: Value
    dims: tuple[int, ...]

    @property
    def transposed(self) -> _Permuted:
        return _Permuted(self.base, (*self.dims[:-2], self.dims[-1], self.dims[-2]))


def _permuted(value: Value) -> _Permuted:
    dims = tuple(range(len(value.type.shape)))
    while isinstance(value.node.op, ops.Permute):
        dims = tuple([value.node.op.dims[d] for d in dims])
        value = value.node.operands[0]
    return _Permuted(value, dims)


def _is_transpose(node: Node) -> bool:
    if not isinstance(node.op, ops.Permute):
        return False
    rank = len(node.op.dims)
    return rank >= 2 and node.op.dims == (*range(rank - 2), rank - 1, rank - 2)


def _leads_to_product(value: Value) -> bool:
    """Whether a score lies behind a value, not a mask: a product, scaled or masked."""
    for _ in range(8):
        node = value.node
        if node.op is ops.matmul:
            return True
        if node.op is ops.where:
            value = node.operands[2 if number(node.operands[1]) is not None else 1]
        elif node.op.name in ("mul", "div", "add") and node.operands:
            value = node.operands[0]
        else:
            return False
    return False
