"""Graph -> graph. Each group becomes a fusion: a node with a region, in which its ops are."""
from ember.graph import Graph, copied
from ember.groups import VIEWS, root_of


def members_of(graph, roots):
    """{root: its kernel's nodes, in the graph's order}: those that have it as root, and the views that are between them and what
    they read, in every kernel that reads them. roots: as root_of gives."""
    # <solution>
    needs = {root: set() for root in roots.values()}
    for node in reversed(graph.nodes):
        mine = [roots[node]] if node in roots else [root for root, found in needs.items() if node in found]
        for root in mine:
            needs[root].add(node)
            needs[root].update(operand for operand in node.operands if operand.op in VIEWS and operand not in roots)
    return {root: [node for node in graph.nodes if node in found] for root, found in needs.items()}
    # </solution>


def fuse(graph):
    """Every node of the result is an input or a fusion. A region's inputs are called in0, in1, ..., in the order in which its
    nodes read what is not in the kernel; each is there once."""
    roots = root_of(graph)
    members = members_of(graph, roots)
    new, place = Graph(graph.name), {}
    for node in graph.nodes:
        if node.op == "input":
            place[node] = copied(new, node, ())
        elif roots.get(node) is node:
            # <solution: place[node] = ...      # a fusion, over those in `place` that it reads>
            region, inside, read = Graph("fused"), {}, []
            for member in members[node]:
                for operand in member.operands:
                    if operand not in inside and operand not in members[node]:
                        inside[operand] = region.input(f"in{len(read)}", operand.shape)
                        read.append(place[operand])
                inside[member] = copied(region, member, tuple(inside[operand] for operand in member.operands))
            region.outputs = [inside[node]]
            place[node] = new.append("fusion", *read, region=region)
            # </solution>
    new.outputs = [place[output] for output in graph.outputs]
    return new
