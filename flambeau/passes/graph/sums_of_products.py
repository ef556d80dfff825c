"""Graph -> Graph, in place. Sums of many short products of matrices become one product, long in k.

    a0 @ b0 + a1 @ b1 + ... + a127 @ b127 + x  ->  cat([a0, ..., a127], 1) @ cat([b0, ..., b127], 0) + x

The gradient of a weight that every step of an unrolled loop reads is such a sum: as it stands, each product is a matrix of
the weight's size that is stored and added, whose memory traffic is most of the work where k is short.

Terms may be transposed products. Sums are regrouped: results agree to rounding. Requires: f32 or f64, sizes that are known.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from flambeau.ir import dtypes, ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.passes.graph.rewrite import Rewriter, graphs_within

__all__ = ["join_products"]

_FEWEST: Final = 4                      # products
_TURNED: Final = ops.Permute((1, 0))


class _Form(NamedTuple):
    """What terms that become one product have in common."""

    is_turned: bool
    rows: int
    columns: int


def join_products(graph: Graph) -> Graph:
    """Join those whose results are larger than what is copied for it; the same graph."""
    for current in graphs_within(graph):
        nodes = current.toposort()
        if sum(node.op is ops.matmul for node in nodes) < _FEWEST:
            continue
        rewriter = Rewriter(current)
        for node in nodes:
            if node.op is ops.add and not _is_inner(rewriter, node):
                _join(rewriter, node)
    return graph


def _is_inner(r: Rewriter, node: Node) -> bool:
    """Whether the one who reads a sum is another sum, of which it is a part."""
    users = r.graph.uses(node.results[0])
    return len(users) == 1 and users[0][0].op is ops.add and node.results[0] not in r.roots


def _join(r: Rewriter, root: Node) -> None:
    of_form: dict[_Form, list[Node]] = {}
    others: list[Value] = []
    for term in _terms(r, root):
        form = _form(r, term)
        if form is None:
            others.append(term)
        else:
            of_form.setdefault(form, []).append(_product(term))
    joined = {form: products for form, products in of_form.items() if _gains(form, products)}
    if not joined:
        return
    kept = {product for form, products in of_form.items() if form not in joined for product in products}
    r.stand_for(root)
    total = [_joined(r, form, products) for form, products in joined.items()]
    total += [term for term in _terms(r, root) if term in others or _product(term) in kept]
    while len(total) > 1:
        total[:2] = [r.add(total[0], total[1])]
    r.replace(root, total)


def _terms(r: Rewriter, root: Node) -> list[Value]:
    """What a tree of sums adds up, in order."""
    found, stack = [], list(reversed(root.operands))
    while stack:
        value = stack.pop()
        if value.node.op is ops.add and value.type == root.results[0].type and _is_inner(r, value.node):
            stack.extend(reversed(value.node.operands))
        else:
            found.append(value)
    return found


def _product(term: Value) -> Node:
    return term.node.operands[0].node if term.node.op == _TURNED else term.node


def _form(r: Rewriter, term: Value) -> _Form | None:
    """None for what is no product, or is read elsewhere too."""
    product = _product(term)
    value = product.results[0] if product.results else term
    if product.op is not ops.matmul or len(value.shape) != 2 or value.dtype not in (dtypes.f32, dtypes.f64) or \
            any(v in r.roots or len(r.graph.uses(v)) != 1 for v in {term, value}):
        return None
    sizes = (*value.shape, product.operands[0].shape[1])
    if not all(isinstance(size, int) for size in sizes):
        return None
    rows, columns = value.type.static_shape
    return _Form(term.node is not product, rows, columns)


def _gains(form: _Form, products: Sequence[Node]) -> bool:
    """Whether the sums that are spared are more than the operands that are copied."""
    length = sum(product.operands[0].type.static_shape[1] for product in products)
    added, copied = form.rows * form.columns * (len(products) - 1), (form.rows + form.columns) * length
    return len(products) >= _FEWEST and added > copied


def _joined(r: Rewriter, form: _Form, products: Sequence[Node]) -> Value:
    products = _as_joined_elsewhere(r, products)
    lhs = _side_by_side(r, [product.operands[0] for product in products], 1)
    rhs = _side_by_side(r, [product.operands[1] for product in products], 0)
    value: Value = r.matmul(lhs, rhs)
    return r.permute(value, (1, 0)) if form.is_turned else value


def _side_by_side(r: Rewriter, parts: Sequence[Value], dim: int) -> Value:
    """Joined along k. What all parts are transposes of is joined, and then transposed."""
    if all(part.node.op == _TURNED for part in parts):
        return r.permute(r.emit(ops.Concat(1 - dim), *[part.node.operands[0] for part in parts]), (1, 0))
    found: Value = r.emit(ops.Concat(dim), *parts)
    return found


def _as_joined_elsewhere(r: Rewriter, products: Sequence[Node]) -> Sequence[Node]:
    """In the order in which something else joins their operands, which are then joined once."""
    sides: tuple[Callable[[Node], Value], ...] = (lambda p: _source(p.operands[0]), lambda p: _source(p.operands[1]))
    for side in sides:
        of_part = {side(product): product for product in products}
        if len(of_part) < len(products):
            continue
        for user, _ in r.graph.uses(next(iter(of_part))):
            parts = user.operands
            if isinstance(user.op, ops.Concat) and len(parts) == len(products) and of_part.keys() == {*parts}:
                return [of_part[part] for part in parts]
    return products


def _source(value: Value) -> Value:
    return value.node.operands[0] if value.node.op == _TURNED else value
