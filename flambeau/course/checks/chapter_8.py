"""Checks of chapter 8: fusion."""
from __future__ import annotations

from typing import Any

from flambeau.course.checking import Wrong, check, expect, of_ember
from flambeau.course.checks.programs import ops_of, parsed, random_graph, same_meaning, text_of


def prepared(seed: int) -> Any:
    """A random graph without matmuls, as fusion gets it."""
    return of_ember("decompose").decompose(of_ember("simplify").simplify(random_graph(seed)))


@check("8.1", "a product of matrices becomes broadcasts, a product and a sum")
def _(m: Any) -> None:
    graph = parsed('%0 = input arg "x" : f64[2,3]\n%1 = input arg "y" : f64[3,4]\n%2 = matmul(%0, %1) : f64[2,4]\nreturn %2')
    found = m.decompose(graph)
    expect("the ops", sorted(ops_of(found)), ["broadcast", "broadcast", "mul", "sum"])
    expect("the shapes of the broadcasts", [n.shape for n in found.nodes if n.op == "broadcast"], [(2, 3, 4)] * 2,
           "(m, k, n): one loop for each")
    same_meaning("decompose", graph, found)


@check("8.1", "two in a row, and what is between")
def _(m: Any) -> None:
    graph = parsed('%0 = input arg "x" : f64[2,3]\n%1 = input arg "y" : f64[3,3]\n%2 = matmul(%0, %1) : f64[2,3]\n'
                   '%3 = exp(%2) : f64[2,3]\n%4 = matmul(%3, %1) : f64[2,3]\nreturn %4, %3')
    same_meaning("decompose", graph, m.decompose(graph))


@check("8.1", "random programs, and everything else stays")
def _(m: Any) -> None:
    n = 0
    for seed in range(25):
        graph = random_graph(seed)
        found = m.decompose(graph)
        same_meaning("decompose", graph, found)
        n += ops_of(graph).count("matmul")
        expect("matmuls that are left", ops_of(found).count("matmul"), 0)
        if "matmul" not in ops_of(graph):
            expect("the ops of a graph without matmul", ops_of(found), ops_of(graph))
    expect("that there were some", n > 3, True)


EXAMPLE = """%0 = input arg "x" : f64[4,3]
%1 = exp(%0) : f64[4,3]
%2 = neg(%1) : f64[4,3]
%3 = sum(%2, dims=(1,)) : f64[4]
%4 = log(%3) : f64[4]
%5 = broadcast(%4, shape=(4, 3), dims=(0,)) : f64[4,3]
%6 = sub(%2, %5) : f64[4,3]
%7 = permute(%6, dims=(1, 0)) : f64[3,4]
%8 = constant(value=f64[] 2.0) : f64[]
%9 = broadcast(%8, shape=(3, 4), dims=()) : f64[3,4]
%10 = mul(%7, %9) : f64[3,4]
return %10"""


def names(graph: Any, pairs: Any) -> Any:
    return {f"%{graph.nodes.index(a)}": f"%{graph.nodes.index(b)}" for a, b in pairs.items()}


@check("8.2", "who reads it, through views")
def _(m: Any) -> None:
    graph = parsed(EXAMPLE)
    found = {f"%{graph.nodes.index(n)}": sorted((f"%{graph.nodes.index(r)}", bool(repeats)) for r, repeats in readers)
             for n, readers in m.readers_of(graph).items()}
    wanted = {"%0": [("%1", False)], "%1": [("%2", False)], "%2": [("%3", False), ("%6", False)], "%3": [("%4", False)],
              "%4": [("%6", True)], "%6": [("%10", False)], "%10": []}
    expect("the readers of the example", found, wanted, "%5 repeats what it reads three times; %7 only turns it. Views have no "
                                                        "readers of their own")
    twice = parsed('%0 = input arg "x" : f64[2,2]\n%1 = permute(%0, dims=(1, 0)) : f64[2,2]\n%2 = add(%0, %1) : f64[2,2]\nreturn %2, %1')
    found = m.readers_of(twice)[twice.nodes[0]]
    expect("the readers of x in (x + x turned, x turned)", sorted(r.op for r, _ in found), ["add", "permute"],
           "an output is a reader, even if it is a view: somebody has to copy it. What reads the copy does not read x")


@check("8.2", "roots")
def _(m: Any) -> None:
    graph = parsed(EXAMPLE)
    expect("the root of each node of the example", names(graph, m.root_of(graph)),
           {"%1": "%2", "%2": "%2", "%3": "%3", "%4": "%4", "%6": "%10", "%10": "%10"},
           "%2 is read by two kernels, %3 is a sum, %4 would be computed once for each of three repetitions")
    line = parsed('%0 = input arg "x" : f64[4]\n%1 = exp(%0) : f64[4]\n%2 = neg(%1) : f64[4]\n%3 = mul(%2, %1) : f64[4]\n'
                  '%4 = sum(%3, dims=(0,)) : f64[]\nreturn %4')
    expect("exp and neg and mul go into the sum that reads them", set(names(line, m.root_of(line)).values()), {"%4"},
           "exp is read twice, but by one kernel")
    output = parsed('%0 = input arg "x" : f64[4]\n%1 = exp(%0) : f64[4]\n%2 = neg(%1) : f64[4]\n%3 = permute(%2, dims=(0,)) : f64[4]\n'
                    'return %2, %1, %3')
    expect("outputs are roots", names(output, m.root_of(output)), {"%1": "%1", "%2": "%2", "%3": "%3"})


@check("8.2", "the rules hold in random programs")
def _(m: Any) -> None:
    for seed in range(25):
        graph = prepared(seed)
        root, readers = m.root_of(graph), m.readers_of(graph)
        for node in graph.nodes:
            view = node.op in m.VIEWS and node not in graph.outputs
            expect(f"{node} has a root, in\n{text_of(graph)}", node in root, node.op != "input" and not view)
            if node not in root:
                continue
            theirs = {root[r] for r, _ in readers.get(node, ())}
            joins = (node.is_elementwise and node not in graph.outputs and len(theirs) == 1
                     and not any(repeats for _, repeats in readers[node]))
            if joins != (root[node] is not node):
                raise Wrong(f"{node} {'is a root' if joins is True else 'joins another kernel'} in\n{text_of(graph)}",
                            "decide backwards: who reads a node is decided before it")
            if root[node] is not node and root[node] not in theirs:
                raise Wrong(f"the root of {node} is {root[node]}, and that kernel does not read it")


@check("8.3", "what belongs to a kernel, views included")
def _(m: Any) -> None:
    graph = parsed(EXAMPLE)
    members = m.members_of(graph, of_ember("groups").root_of(graph))
    found = {f"%{graph.nodes.index(root)}": [f"%{graph.nodes.index(n)}" for n in nodes] for root, nodes in members.items()}
    expect("the kernels of the example", found, {"%2": ["%1", "%2"], "%3": ["%3"], "%4": ["%4"],
                                                 "%10": ["%5", "%6", "%7", "%8", "%9", "%10"]},
           "a view has no root: it is in every kernel that reads it, and so is the view that it reads")


@check("8.3", "every node becomes an input or a fusion, and the meaning stays")
def _(m: Any) -> None:
    for seed in range(25):
        graph = prepared(seed)
        found = m.fuse(graph)
        expect("ops other than fusion", set(ops_of(found)) - {"fusion"}, set())
        roots = {root for node, root in of_ember("groups").root_of(graph).items() if root is node}
        expect("how many kernels", len(ops_of(found)), len(roots))
        same_meaning("fuse", graph, found, "a kernel's inputs are what its nodes read and is not in it, in that order")


@check("8.3", "each operand once")
def _(m: Any) -> None:
    graph = parsed('%0 = input arg "x" : f64[2,2]\n%1 = permute(%0, dims=(1, 0)) : f64[2,2]\n%2 = mul(%0, %1) : f64[2,2]\n'
                   '%3 = add(%2, %0) : f64[2,2]\nreturn %3')
    (node,) = [n for n in m.fuse(graph).nodes if n.op == "fusion"]
    expect("operands of the kernel of x * x turned + x", len(node.operands), 1, "x is read three times, and is one input")
    expect("the region's inputs", [i.attributes["name"] for i in node.region.inputs], ["in0"])


@check("8.3", "an output that is a view, or an input")
def _(m: Any) -> None:
    graph = parsed('%0 = input arg "x" : f64[2,3]\n%1 = permute(%0, dims=(1, 0)) : f64[3,2]\n%2 = exp(%1) : f64[3,2]\nreturn %1, %0, %2')
    same_meaning("fuse", graph, m.fuse(graph))


@check("8.4", "bytes of each op")
def _(m: Any) -> None:
    expect("bytes of f64[2,3]", m.bytes_of((2, 3)), 48)
    expect("bytes of f64[]", m.bytes_of(()), 8, "a single number has 8")
    graph = parsed('%0 = input arg "x" : f64[2,3]\n%1 = mul(%0, %0) : f64[2,3]\n%2 = constant(value=f64[] 2.0) : f64[]\n'
                   '%3 = broadcast(%2, shape=(2, 3), dims=()) : f64[2,3]\n%4 = add(%1, %3) : f64[2,3]\nreturn %4')
    expect("bytes of x * x + 2 for 2 x 3 numbers, op by op", m.traffic(graph), 2 * 48 + 48 + 3 * 48,
           "x is read once by mul; the constant is free, the broadcast writes its result and add reads it")
    expect("the same as one kernel", m.traffic(of_ember("fuse").fuse(graph)), 2 * 48)


@check("8.4", "operations, and how many there are for a byte")
def _(m: Any) -> None:
    graph = parsed('%0 = input arg "x" : f64[2,3]\n%1 = mul(%0, %0) : f64[2,3]\n%2 = sum(%1, dims=(1,)) : f64[2]\nreturn %2')
    expect("operations of the sums of x * x", m.operations(graph), 12, "six products, six additions")
    fused = of_ember("fuse").fuse(graph)
    expect("in a fusion", m.operations(fused), 12)
    expect("operations for a byte, fused", m.intensity(fused), 12 / (48 + 16))
    product = parsed('%0 = input arg "x" : f64[2,3]\n%1 = input arg "y" : f64[3,4]\n%2 = matmul(%0, %1) : f64[2,4]\nreturn %2')
    expect("operations of a matmul", m.operations(product), 48)
    nothing = parsed('%0 = input arg "x" : f64[2]\nreturn %0')
    expect("a program that does nothing", m.intensity(nothing), 0.0)


@check("8.4", "fusion never reads or writes more, and computes what it did")
def _(m: Any) -> None:
    for seed in range(15):
        graph = of_ember("dce").dce(prepared(seed))
        found = of_ember("fuse").fuse(graph)
        if m.traffic(found) > m.traffic(graph):
            raise Wrong(f"{m.traffic(found)} bytes after fusion, {m.traffic(graph)} before, in\n{text_of(graph)}")
        expect(f"operations after fusion, in\n{text_of(graph)}", m.operations(found), m.operations(graph))
