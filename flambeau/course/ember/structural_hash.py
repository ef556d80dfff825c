"""Equal programs, equal hash: whatever their inputs and their graph are called, and whatever was never needed."""
import hashlib


def structural_hash(graph):
    """A hex digest that says what the graph computes, and of what. Two graphs have the same one if their inputs have the same
    shapes in order, and their outputs are computed by the same ops, over the same operands, with the same attributes. Names, and
    the order of nodes that do not read each other, do not matter, and neither do nodes that no output needs. Whether a value is
    shared or computed twice may matter or not. Long chains must not recurse."""
    # <solution>
    key_of = {}
    for number, node in enumerate(graph.inputs):
        key_of[node] = digest("input", number, node.shape)
    for node in graph.nodes:
        if node.op != "input":
            inside = structural_hash(node.region) if node.region else ""
            attributes = sorted((name, repr(value)) for name, value in node.attributes.items())
            key_of[node] = digest(node.op, attributes, [key_of[operand] for operand in node.operands], inside)
    return digest([i.shape for i in graph.inputs], [key_of[output] for output in graph.outputs])


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()
    # </solution>
