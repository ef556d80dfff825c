"""Graph -> graph. Reverse mode: walk the nodes backwards, sending each cotangent to its operands."""
from ember.graph import Builder, rebuilt
from ember.rules import RULES


def gradient(graph, wrt=None):
    """A copy of the graph whose outputs are its own and then the derivatives of the first of them, which has shape (), by the
    inputs whose numbers `wrt` lists (all of them). An input that has no part in it has a derivative of zeros. Values that no
    input in `wrt` leads to get no cotangent. The result is a graph as any other: it can be differentiated again. Raises ValueError if the output is not of shape ()."""
    # <solution>
    new = rebuilt(graph)
    last, b = new.outputs[0], Builder(new)
    if last.shape != ():
        raise ValueError(f"{graph.name}: the output to differentiate has shape {last.shape}, not ()")
    wanted = [new.inputs[i] for i in (range(len(new.inputs)) if wrt is None else wrt)]
    needed = set(wanted)
    for node in new.nodes:
        if any(operand in needed for operand in node.operands):
            needed.add(node)
    cotangent_of = {last: b.full(1.0, ())}
    for node in reversed(list(new.nodes)):
        if node not in cotangent_of or node not in needed or node.op == "input":
            continue
        for operand, part in zip(node.operands, RULES[node.op](b, node, cotangent_of[node]), strict=True):
            if part is not None and operand in needed:
                seen = cotangent_of.get(operand)
                cotangent_of[operand] = part if seen is None else b.add(seen, part)
    new.outputs += [cotangent_of[x] if x in cotangent_of else b.full(0.0, x.shape) for x in wanted]
    return new
    # </solution>
