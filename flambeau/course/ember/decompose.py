"""Graph -> graph. Ops become simpler ones, so that the passes after this have fewer to know."""
from ember.graph import Builder, copied, rebuilt


def decompose(graph):
    """A matmul of (m, k) and (k, n) becomes what it means: both broadcast to (m, k, n), their product, and its sum over k.
    Nothing of that size is ever made, if the next pass does its work."""
    # <solution>
    def change(new, node, operands):
        if node.op != "matmul":
            return copied(new, node, operands)
        x, y = operands
        b, shape = Builder(new), (*x.shape, y.shape[1])
        product = b.mul(b.broadcast(x, shape=shape, dims=(0, 1)), b.broadcast(y, shape=shape, dims=(1, 2)))
        return b.sum(product, dims=(1,))

    return rebuilt(graph, change)
    # </solution>
