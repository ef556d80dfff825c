"""Graph -> graph. Rules that make a program smaller without changing a bit of what it computes: for NaN, for infinities, and for
-0.0 too. x * 0 is not 0 (x may be NaN), x - x is not 0, and x + 0.0 is not x (-0.0 + 0.0 is 0.0)."""
from ember.dce import dce
from ember.graph import copied, rebuilt


def constant_value(node):
    """The number that a node is everywhere: that of a constant, or of a broadcast of one. Else None."""
    # <solution>
    while node.op == "broadcast":
        (node,) = node.operands
    return node.attributes["value"] if node.op == "constant" else None
    # </solution>


# A rule is given the new graph, the new operands and the attributes of a node; it gives the node that takes its place, or None.
# At least these:

def mul_by_one(new, operands, attributes):
    """x * 1 -> x and 1 * x -> x"""
    # <solution>
    x, y = operands
    return x if constant_value(y) == 1.0 else y if constant_value(x) == 1.0 else None
    # </solution>


def div_by_one(new, operands, attributes):
    """x / 1 -> x"""
    # <solution>
    return operands[0] if constant_value(operands[1]) == 1.0 else None
    # </solution>


def neg_of_neg(new, operands, attributes):
    """-(-x) -> x"""
    # <solution>
    (x,) = operands
    return x.operands[0] if x.op == "neg" else None
    # </solution>


def permute_of_permute(new, operands, attributes):
    """Two permutes are one; one that leaves every dim where it is, is none."""
    # <solution>
    (x,), dims = operands, attributes["dims"]
    if list(dims) == list(range(len(dims))):
        return x
    if x.op == "permute":
        inner = tuple(x.attributes["dims"][d] for d in dims)
        return permute_of_permute(new, x.operands, {"dims": inner}) or new.append("permute", *x.operands, dims=inner)
    return None
    # </solution>


def broadcast_of_broadcast(new, operands, attributes):
    """Two broadcasts are one; one to the shape that is there already is none."""
    # <solution>
    (x,), dims = operands, attributes["dims"]
    if x.shape == tuple(attributes["shape"]):
        return x
    if x.op == "broadcast":
        inner = tuple(dims[d] for d in x.attributes["dims"])
        return new.append("broadcast", *x.operands, shape=attributes["shape"], dims=inner)
    return None
    # </solution>


RULES = {"mul": [mul_by_one], "div": [div_by_one], "neg": [neg_of_neg], "permute": [permute_of_permute],
         "broadcast": [broadcast_of_broadcast]}


def simplify(graph):
    """Apply the first rule that holds to each node, again and again until none holds anywhere; then drop what is dead."""
    # <solution>
    fired = True
    while fired:
        fired = False

        def change(new, node, operands):
            nonlocal fired
            for rule in RULES.get(node.op, ()):
                found = rule(new, operands, node.attributes)
                if found is not None:
                    fired = True
                    return found
            return copied(new, node, operands)

        graph = dce(rebuilt(graph, change))
    return graph
    # </solution>
