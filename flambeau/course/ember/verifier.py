"""The rules that every graph keeps. Passes are run between two checks of them, so that what breaks one is found at once."""
from ember.ops import OPS, InferenceError


class GraphError(Exception):
    """A rule that is broken: the message names the node."""


def verify(graph):
    """Raises GraphError unless: each operand stands before its reader, in this graph; each node has the shape that its op
    infers; no node is there twice; there is an output, and all outputs are nodes of the graph; the inputs have names of their
    own; a fusion has a region that keeps these rules, with as many inputs as operands, of their shapes, and with one output."""
    # <solution>
    seen, names = set(), set()
    for node in graph.nodes:
        if node in seen:
            raise GraphError(f"{node} is there twice")
        for operand in node.operands:
            if operand not in seen:
                raise GraphError(f"{node} reads {operand}, which does not stand before it")
        seen.add(node)
        if node.op == "input":
            if node.attributes["name"] in names:
                raise GraphError(f"two inputs are called {node.attributes['name']}")
            names.add(node.attributes["name"])
            continue
        if (shape := shape_by_rule(node)) != node.shape:
            raise GraphError(f"{node} has shape {node.shape}, and its op gives {shape}")
    if not graph.outputs:
        raise GraphError(f"graph {graph.name} has no output")
    for output in graph.outputs:
        if output not in seen:
            raise GraphError(f"output {output} is not in the graph")


def shape_by_rule(node):
    shapes = tuple(operand.shape for operand in node.operands)
    if node.op == "fusion":
        verify(node.region)
        if [i.shape for i in node.region.inputs] != list(shapes) or len(node.region.outputs) != 1:
            raise GraphError(f"{node} and its region do not fit")
        return node.region.outputs[0].shape
    if node.op not in OPS or len(shapes) != OPS[node.op].n_operands:
        raise GraphError(f"{node} is no op with {len(shapes)} operands")
    try:
        return OPS[node.op].infer(node.op, shapes, **node.attributes)
    except InferenceError as error:
        raise GraphError(f"{node}: {error}") from None
    # </solution>
