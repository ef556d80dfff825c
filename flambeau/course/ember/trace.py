"""Python -> graph. A function is run once with tracers in place of arrays: they compute nothing and write down everything."""
from ember.broadcast import broadcast_shape
from ember.graph import Builder, Graph


class TraceError(Exception):
    """What a trace cannot record."""


class Tracer:
    """Stands for an array of which only the shape is known. Operators append nodes to its graph."""

    def __init__(self, node):
        self.node = node

    @property
    def shape(self):
        return self.node.shape

    def __bool__(self):
        """`if x > 0` asks for a value that is not there yet. Raises TraceError, which says so."""
        # <solution>
        raise TraceError("a branch or a loop asks for the value of a traced array, which is known only when the program runs")
        # </solution>

    __float__ = __int__ = __index__ = __bool__

    def __add__(self, other):
        return elementwise("add", self, other)

    def __radd__(self, other):
        return elementwise("add", other, self)

    def __sub__(self, other):
        return elementwise("sub", self, other)

    def __rsub__(self, other):
        return elementwise("sub", other, self)

    def __mul__(self, other):
        return elementwise("mul", self, other)

    def __rmul__(self, other):
        return elementwise("mul", other, self)

    def __truediv__(self, other):
        return elementwise("div", self, other)

    def __rtruediv__(self, other):
        return elementwise("div", other, self)

    def __neg__(self):
        return elementwise("neg", self)

    def exp(self):
        return elementwise("exp", self)

    def log(self):
        return elementwise("log", self)

    def relu(self):
        return elementwise("relu", self)

    def sigmoid(self):
        return 1.0 / (1.0 + (-self).exp())

    def __matmul__(self, other):
        return Tracer(self.node.graph.append("matmul", self.node, other.node))

    @property
    def T(self):
        return Tracer(self.node.graph.append("permute", self.node, dims=(1, 0)))

    def sum(self, *dims):
        """Over the dims named, or all of them; they go away."""
        dims = tuple(d % len(self.shape) for d in dims) or tuple(range(len(self.shape)))
        return Tracer(self.node.graph.append("sum", self.node, dims=dims))

    def mean(self, *dims):
        total = self.sum(*dims)
        n = 1
        for d in dims or range(len(self.shape)):
            n *= self.shape[d]
        return total * (1.0 / n)


def elementwise(op, *operands):
    """Append `op`, after a `broadcast` of each operand that has not the shape of the result already. Operands are tracers or
    Python numbers, which become constants. A number alone is broadcast as any rank-0 operand is."""
    graph = next(operand.node.graph for operand in operands if isinstance(operand, Tracer))
    # <solution>
    b = Builder(graph)
    nodes = [operand.node if isinstance(operand, Tracer) else b.constant(value=float(operand)) for operand in operands]
    shape = ()
    for node in nodes:
        shape = broadcast_shape(shape, node.shape)
    return Tracer(graph.append(op, *(as_shape(b, node, shape) for node in nodes)))


def as_shape(b, node, shape):
    if node.shape == shape:
        return node
    new = len(shape) - len(node.shape)
    return b.broadcast(node, shape=shape, dims=tuple(range(new, len(shape))))
    # </solution>


def trace(f, *shapes, names=None):
    """The graph of f for arguments of these shapes: an input for each, called x0, x1, ... or as `names` say. f gives a tracer
    or a tuple of them; these are the outputs. Raises TraceError if it gives something else."""
    # <solution>
    graph = Graph(getattr(f, "__name__", "f").strip("<>"))
    names = names or [f"x{i}" for i in range(len(shapes))]
    arguments = [Tracer(graph.input(name, shape)) for name, shape in zip(names, shapes, strict=True)]
    result = f(*arguments)
    results = result if isinstance(result, tuple) else (result,)
    for one in results:
        if not isinstance(one, Tracer):
            raise TraceError(f"{graph.name} gives {one!r}, which is not an array that was computed from its arguments")
    graph.outputs = [one.node for one in results]
    return graph
    # </solution>
