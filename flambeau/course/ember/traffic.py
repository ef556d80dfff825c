"""What fusion saves: bytes that go to and from memory."""
import math


def bytes_of(shape):
    """Eight for each number."""
    # <solution>
    return 8 * math.prod(shape)
    # </solution>


def traffic(graph):
    """Bytes read and written if each node but the inputs is a kernel: it reads each operand once (an operand that it names twice
    too) and writes its result. A constant is part of the code: it costs nothing, neither when it is made nor when it is read."""
    # <solution>
    total = 0
    for node in graph.nodes:
        if node.op not in ("input", "constant"):
            read = {operand for operand in node.operands if operand.op != "constant"}
            total += sum(bytes_of(operand.shape) for operand in read) + bytes_of(node.shape)
    return total
    # </solution>


def operations(graph):
    """Elements that are computed: those of every elementwise op's result, and those of every sum's operand. A matmul of (m, k)
    and (k, n) is 2 m k n of them. In regions too."""
    # <solution>
    total = 0
    for node in graph.nodes:
        if node.is_elementwise:
            total += math.prod(node.shape)
        elif node.op == "sum":
            total += math.prod(node.operands[0].shape)
        elif node.op == "matmul":
            total += 2 * math.prod(node.operands[0].shape) * node.shape[1]
        elif node.op == "fusion":
            total += operations(node.region)
    return total
    # </solution>


def intensity(graph):
    """Operations for each byte. Below about ten, a processor waits for memory."""
    # <solution>
    return operations(graph) / traffic(graph) if traffic(graph) else 0.0
    # </solution>
