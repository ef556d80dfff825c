"""Graph -> graph. Common subexpressions: of nodes that compute the same, the first stays and the others become it."""
from ember.graph import copied, rebuilt


def cse(graph):
    """Two nodes are the same if they have the same op, the same attributes, and operands that are the same. Inputs are never.
    0.0 and -0.0 are equal to Python, and 1 / x tells them apart."""
    # <solution>
    seen = {}

    def change(new, node, operands):
        if node.op in ("input", "fusion"):
            return copied(new, node, operands)
        key = node.op, operands, repr(sorted(node.attributes.items()))
        if key not in seen:
            seen[key] = copied(new, node, operands)
        return seen[key]

    return rebuilt(graph, change)
    # </solution>
