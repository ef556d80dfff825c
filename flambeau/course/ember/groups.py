"""Which ops become one kernel. A kernel walks once over all points of its loops and stores one result, its root.

- A sum, and what stands in the outputs, is a root: its result goes to memory.
- broadcast, permute and constant are never computed: whoever reads them reads their operand at another index, or a number. They
  belong to every kernel that reads them (if one is an output, a kernel copies it).
- An elementwise op joins the kernel that reads it, if it is only one, and if it is not read through a broadcast that repeats it:
  it would be computed again for every repetition. Else it is a root."""
import math

VIEWS = ("broadcast", "permute", "constant")


def readers_of(graph):
    """{node: [(reader, repeats), ...]} for the nodes that are no views: who reads it, be it through views; a reader is no view
    itself, or is an output. `repeats` tells whether one of the views between is a broadcast whose result is larger than its
    operand. A reader that reads it in two ways is there twice."""
    # <solution>
    users, outputs = graph.users_of(), set(graph.outputs)
    readers = {node: [] for node in graph.nodes}
    for node in reversed(graph.nodes):      # a view's readers are known before its operand asks for them
        for user in users[node]:
            if user.op in VIEWS and user not in outputs:
                grows = user.op == "broadcast" and math.prod(user.shape) > math.prod(node.shape)
                readers[node] += [(reader, repeats or grows) for reader, repeats in readers[user]]
            else:
                readers[node].append((user, user.op == "broadcast" and math.prod(user.shape) > math.prod(node.shape)))
    return {node: found for node, found in readers.items() if node.op not in VIEWS}
    # </solution>


def root_of(graph):
    """{node: the root of its kernel} for all nodes but inputs, and views that are no output. A root is its own."""
    # <solution>
    readers, outputs, root = readers_of(graph), set(graph.outputs), {}
    for node in reversed(graph.nodes):      # those who read it are decided
        if node.op == "input" or node.op in VIEWS and node not in outputs:
            continue
        roots = {root[reader] for reader, _ in readers.get(node, ())}
        repeats = any(repeats for _, repeats in readers.get(node, ()))
        joins = node.is_elementwise and node not in outputs and len(roots) == 1 and not repeats
        root[node] = roots.pop() if joins else node
    return root
    # </solution>
