"""What a graph means: each node in turn, by NumPy. Slow, plain, and what every pass and every compiler is held against."""
import numpy as np
from ember.ops import OPS


def interpret(graph, arrays):
    """The outputs, a list of arrays. arrays: one for each input, in order. Raises ValueError, naming the input, if one has
    another shape, or if there are too few or too many. A fusion means what its region means."""
    # <solution>
    if len(arrays) != len(graph.inputs):
        raise ValueError(f"{graph.name} has {len(graph.inputs)} inputs and was given {len(arrays)} arrays")
    value_of = {}
    for node, array in zip(graph.inputs, arrays, strict=True):
        value_of[node] = np.asarray(array, np.float64)
        if value_of[node].shape != node.shape:
            raise ValueError(f"input {node.attributes['name']} has shape {node.shape}, not {value_of[node].shape}")
    for node in graph.nodes:
        operands = [value_of[operand] for operand in node.operands]
        if node.op == "fusion":
            (value_of[node],) = interpret(node.region, operands)
        elif node.op != "input":
            value_of[node] = OPS[node.op].evaluate(*operands, **node.attributes)
    return [value_of[output] for output in graph.outputs]
    # </solution>
