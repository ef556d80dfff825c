"""A fusion -> loops. From here on there are no tensors: only numbers at a point of the loops, and addresses."""
from dataclasses import dataclass

from ember.layout import strides_of
from ember.ops import OPS


@dataclass(frozen=True)
class Loop:
    """params: shapes of the operands, the result last. extents: of the loops, the outermost first; the last `n_reduced` of them
    are summed over. code: what is computed at each point, a tuple of steps, each of which has the number of its place:

        ("load", param, strides)        the element of a param: its address is the sum of stride times loop index
        ("const", value)
        ("add", a, b), ("exp", a), ...  of earlier steps, by number: the elementwise ops

    The last step's value, summed if n_reduced, is stored to the result, whose strides are store_strides (one for each loop that
    is not summed over)."""

    params: tuple
    extents: tuple
    n_reduced: int
    code: tuple
    store_strides: tuple


def lower(node):
    """The Loop of a fusion.

    Loops: if the region's output is a sum, those of its operand's dims that stay, then those that go away; else the output's dims.
    An *index* says which loop each dim of a value follows, None for one that stays at 0. The walk goes backwards first, from the
    output's index: an elementwise op asks its operands at its own index; a broadcast asks its operand's dim i at what
    its dim dims[i] follows (None if the operand's dim is 1 and the result's is not); a permute asks dim dims[i] at what its dim i
    follows. A value may be asked at two indices. Then the walk goes forwards and writes code: for an input a load, for each
    pair of a value and an index once."""
    region = node.region
    (root,) = region.outputs
    # <solution>
    if root.op == "sum":
        body, gone = root.operands[0], root.attributes["dims"]
        order = [d for d in range(len(body.shape)) if d not in gone] + [d for d in range(len(body.shape)) if d in gone]
        extents, n_reduced = tuple(body.shape[d] for d in order), len(gone)
        start = tuple(order.index(d) for d in range(len(body.shape)))
    else:
        body, extents, n_reduced = root, root.shape, 0
        start = tuple(range(len(root.shape)))
    asked = {value: [] for value in region.nodes}       # the indices at which it is asked
    asked[body].append(start)
    for value in reversed(region.nodes):
        for index in asked[value]:
            for operand, at in operand_indices(value, index):
                if at not in asked[operand]:
                    asked[operand].append(at)
    code, place = [], {}
    for value in region.nodes:
        for index in asked[value]:
            if value.op in ("broadcast", "permute"):
                ((operand, at),) = operand_indices(value, index)
                place[value, index] = place[operand, at]        # no step: the same number
                continue
            if value.op == "input":
                code.append(("load", region.inputs.index(value), strides_over(value.shape, index, len(extents))))
            elif value.op == "constant":
                code.append(("const", value.attributes["value"]))
            else:
                code.append((value.op, *(place[pair] for pair in operand_indices(value, index))))
            place[value, index] = len(code) - 1
    params = (*(operand.shape for operand in node.operands), root.shape)
    return Loop(params, extents, n_reduced, tuple(code), strides_of(root.shape))


def operand_indices(value, index):
    """[(operand, the index at which it is asked), ...] if `value` is asked at `index`."""
    if value.op == "broadcast":
        (x,) = value.operands
        dims = value.attributes["dims"]
        return [(x, tuple(index[d] if n == value.shape[d] else None for d, n in zip(dims, x.shape, strict=True)))]
    if value.op == "permute":
        at = [None] * len(index)
        for i, d in enumerate(value.attributes["dims"]):
            at[d] = index[i]
        return [(value.operands[0], tuple(at))]
    return [(operand, index) for operand in value.operands] if value.op in OPS and OPS[value.op].is_elementwise else []


def strides_over(shape, index, n_loops):
    """How far in memory one step of each loop goes, for a value whose dims follow the loops in `index`."""
    over = [0] * n_loops
    for stride, loop in zip(strides_of(shape), index, strict=True):
        if loop is not None:
            over[loop] += stride
    return tuple(over)
    # </solution>


def print_loop(loop, name="k0"):
    """As text, for people."""
    letters = [f"%i{n}" for n in range(len(loop.extents))]

    def address(strides, names):
        return " + ".join(n if s == 1 else f"{n}*{s}" for n, s in zip(names, strides, strict=True) if s) or "0"

    n_outer = len(loop.extents) - loop.n_reduced
    lines = [f"loop @{name} {{"]
    lines += [f"  {'parallel' if n < n_outer else 'inner'} {letter} = {extent}"
              for n, (letter, extent) in enumerate(zip(letters, loop.extents, strict=True))]
    for number, (op, *rest) in enumerate(loop.code):
        match op:
            case "load":
                lines.append(f"    %{number} = load in{rest[0]}[{address(rest[1], letters)}]")
            case "const":
                lines.append(f"    %{number} = const {rest[0]}")
            case _:
                lines.append(f"    %{number} = {op} {', '.join(f'%{r}' for r in rest)}")
    stored = f"%{len(loop.code) - 1}"
    stored = f"sum of {stored}" if loop.n_reduced else stored
    return "\n".join([*lines, f"  store {stored} to out[{address(loop.store_strides, letters[:n_outer])}]", "}"])
