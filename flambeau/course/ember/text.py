"""Graph -> text, in Flambeau's own words: fb.ir.parse reads it."""


def attribute_text(value):
    """2.0 becomes "f64[] 2.0", and tuples are written as Python does."""
    return f"f64[] {value!r}" if isinstance(value, float) else repr(value)


def type_text(shape):
    """(2, 3) becomes "f64[2,3]", () "f64[]"."""
    # <solution>
    return f"f64[{','.join(map(str, shape))}]"
    # </solution>


def print_graph(graph, indent=""):
    """One line for each node, numbered in order:

        graph @f {
          %0 = input arg "x" : f64[2,3]
          %1 = constant(value=f64[] 2.0) : f64[]
          %2 = broadcast(%1, shape=(2, 3), dims=()) : f64[2,3]
          %3 = mul(%0, %2) : f64[2,3]
          return %3
        }

    Operands come first, then attributes in their order. A fusion ends in " {", then comes its region, four spaces further in,
    then "  }". All lines begin with `indent`, and the text ends with a newline."""
    # <solution>
    number = {node: f"%{n}" for n, node in enumerate(graph.nodes)}
    lines = [f"graph @{graph.name} {{"]
    for node in graph.nodes:
        if node.op == "input":
            lines.append(f'  {number[node]} = input arg "{node.attributes["name"]}" : {type_text(node.shape)}')
            continue
        inside = [number[o] for o in node.operands] + [f"{k}={attribute_text(v)}" for k, v in node.attributes.items()]
        line = f"  {number[node]} = {node.op}({', '.join(inside)}) : {type_text(node.shape)}"
        if node.region is None:
            lines.append(line)
        else:
            region = print_graph(node.region, "    ")
            lines += [line + " {", region.rstrip("\n"), "  }"]
    lines += [f"  return {', '.join(number[output] for output in graph.outputs)}", "}"]
    return "".join(indent + line + "\n" for line in "\n".join(lines).split("\n"))
    # </solution>
