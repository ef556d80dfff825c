"""A pass of your own in Flambeau: exp(a) * exp(b) -> exp(a + b). It may change the last bit, so Flambeau leaves it to you."""
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.graph.rewrite import Rule
from flambeau.passes.graph.simplify import apply_rules
from flambeau.passes.pipeline import Pass


def is_exp_read_once(r, value):
    """Whether `value` is the result of an exp, that only one operand of one node reads: r.graph.uses(value) lists them; and that
    is no output: those are in r.roots. If somebody else needs it, merging saves nothing."""
    # <solution>
    return value.node.op.name == "exp" and len(r.graph.uses(value)) == 1 and value not in r.roots
    # </solution>


def merged(r, node):
    """The rule, for a "mul" node: the value in its place, or None where it does not hold. r.exp(...), r.add(...) append."""
    # <solution>
    x, y = node.operands
    if not (is_exp_read_once(r, x) and is_exp_read_once(r, y)):
        return None
    a, b = x.node.operands[0], y.node.operands[0]
    return r.exp(r.add(a, b)) if a.type == b.type == node.result.type else None
    # </solution>


RULE = Rule("exp(a) * exp(b) -> exp(a + b)", ("mul",), merged)


def merge_exponentials(graph):
    """The pass: apply the rule until it holds nowhere, and give the graph back. apply_rules(graph, {op: [rules]}) does that."""
    # <solution>
    apply_rules(graph, {"mul": [RULE]})
    return graph
    # </solution>


def passes():
    """Flambeau's passes for the CPU with ours, called "merge_exponentials", before them."""
    # <solution>
    return (Pass("merge_exponentials", merge_exponentials), *CPU_PASSES)
    # </solution>
