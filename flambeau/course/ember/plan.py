"""Where values lie between kernels: one arena, shared by those that are never alive together."""


def lives_of(graph):
    """{fusion: (first, last)} for those that are no output: the number of the node that makes it and of the last that reads it,
    counted in graph.nodes. Outputs and inputs have memory of their own."""
    # <solution>
    number = {node: n for n, node in enumerate(graph.nodes)}
    lives = {node: (n, n) for node, n in number.items() if node.op == "fusion" and node not in graph.outputs}
    for node in graph.nodes:
        for operand in node.operands:
            if operand in lives:
                lives[operand] = lives[operand][0], number[node]
    return lives
    # </solution>


def plan(sizes, lives):
    """(offsets, total): a place for each value, so that no two that are alive at one time share a byte, and the size of the
    arena. sizes: bytes; lives: (first, last), both included. A kernel reads its operands while it writes its result: they are
    alive together.

    Largest first; each takes the lowest place that is free for as long as it lives. No plan that is quick is best always."""
    # <solution>
    offsets = [0] * len(sizes)
    placed = []
    for number in sorted(range(len(sizes)), key=lambda n: -sizes[n]):
        first, last = lives[number]
        taken = sorted((offsets[other], offsets[other] + sizes[other]) for other in placed
                       if lives[other][0] <= last and first <= lives[other][1])
        offset = 0
        for begin, end in taken:
            if begin - offset >= sizes[number]:
                break
            offset = max(offset, end)
        offsets[number] = offset
        placed.append(number)
    return offsets, max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)
    # </solution>
