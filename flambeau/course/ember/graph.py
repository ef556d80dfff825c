"""A program as a graph: nodes in an order in which each comes after its operands. Each node has one result."""
from ember.ops import OPS, InferenceError


class Node:
    """op: a name in OPS, or "input" or "fusion". A node is its result: operands are nodes. `graph` is the one it is in,
    `region` the graph inside of a fusion."""

    def __init__(self, graph, op, operands, attributes, shape, region=None):
        self.graph, self.op, self.operands, self.attributes = graph, op, tuple(operands), attributes
        self.shape, self.region = tuple(shape), region

    @property
    def is_elementwise(self):
        return self.op in OPS and OPS[self.op].is_elementwise

    def __repr__(self):
        return f"<{self.op} {self.shape}>"


class Graph:
    def __init__(self, name="f"):
        self.name, self.nodes, self.outputs = name, [], []

    @property
    def inputs(self):
        return [node for node in self.nodes if node.op == "input"]

    def input(self, name, shape):
        node = Node(self, "input", (), {"name": name}, shape)
        self.nodes.append(node)
        return node

    def append(self, op, *operands, region=None, **attributes):
        """A new node at the end, of the shape that its op infers; the node. A fusion has the shape of its region's output.
        Raises InferenceError for an op that is not there, for too few or too many operands, and for operands that are not of
        this graph."""
        # <solution>
        if any(operand.graph is not self for operand in operands):
            raise InferenceError(f"{op}: an operand is not of graph {self.name}")
        if op == "fusion":
            shape = region.outputs[0].shape
        elif op not in OPS:
            raise InferenceError(f"there is no op {op!r}")
        elif len(operands) != OPS[op].n_operands:
            raise InferenceError(f"{op} takes {OPS[op].n_operands} operands, not {len(operands)}")
        else:
            shape = OPS[op].infer(op, tuple(operand.shape for operand in operands), **attributes)
        node = Node(self, op, operands, attributes, shape, region)
        self.nodes.append(node)
        return node
        # </solution>

    def users_of(self):
        """{node: the nodes that read it, in order}: one that reads it twice is there twice, and a node that nobody reads has
        an empty list."""
        # <solution>
        users = {node: [] for node in self.nodes}
        for node in self.nodes:
            for operand in node.operands:
                users[operand].append(node)
        return users
        # </solution>


class Builder:
    """b.mul(x, y), b.sum(x, dims=(0,)), ... append to a graph."""

    def __init__(self, graph):
        self.graph = graph

    def __getattr__(self, op):
        return lambda *operands, **attributes: self.graph.append(op, *operands, **attributes)

    def full(self, value, shape):
        """A constant of that shape."""
        one = self.graph.append("constant", value=float(value))
        return one if shape == () else self.graph.append("broadcast", one, shape=tuple(shape), dims=())


def copied(new, node, operands):
    """Append to `new` what `node` is, over other operands."""
    if node.op == "input":
        return new.input(node.attributes["name"], node.shape)
    return new.append(node.op, *operands, region=node.region, **node.attributes)


def rebuilt(graph, change=copied):
    """A new graph. For each node in order `change(new, node, operands)` gives the node of `new` that takes its place; operands
    are those that took the place of the node's own. What every pass is made of. Without `change`, a copy."""
    # <solution>
    new, place = Graph(graph.name), {}
    for node in graph.nodes:
        place[node] = change(new, node, tuple(place[operand] for operand in node.operands))
    new.outputs = [place[output] for output in graph.outputs]
    return new
    # </solution>
