"""Graph -> graph. Dead code elimination: what no output needs goes. Inputs stay: they are what the program is called with."""
from ember.graph import Graph, copied


def dce(graph):
    # <solution>
    live, stack = set(), list(graph.outputs)
    while stack:
        node = stack.pop()
        if node not in live:
            live.add(node)
            stack += node.operands
    new, place = Graph(graph.name), {}
    for node in graph.nodes:
        if node in live or node.op == "input":
            place[node] = copied(new, node, tuple(place[operand] for operand in node.operands))
    new.outputs = [place[output] for output in graph.outputs]
    return new
    # </solution>
