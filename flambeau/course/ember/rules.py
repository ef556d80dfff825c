"""The derivative of each op, in ops. A rule gets a Builder, the node, and the cotangent d (the derivative by the node's result,
of its shape), and gives a cotangent for each operand, or None where there is none."""


def add(b, node, d):
    # <solution>
    return d, d
    # </solution>


def sub(b, node, d):
    # <solution>
    return d, b.neg(d)
    # </solution>


def mul(b, node, d):
    # <solution>
    x, y = node.operands
    return b.mul(d, y), b.mul(d, x)
    # </solution>


def div(b, node, d):
    """z = x / y: by x it is d / y, by y it is -(d / y) * z. Use the node itself for z."""
    # <solution>
    part = b.div(d, node.operands[1])
    return part, b.neg(b.mul(part, node))
    # </solution>


def neg(b, node, d):
    # <solution>
    return (b.neg(d),)
    # </solution>


def exp(b, node, d):
    # <solution>
    return (b.mul(d, node),)
    # </solution>


def log(b, node, d):
    # <solution>
    return (b.div(d, node.operands[0]),)
    # </solution>


def relu(b, node, d):
    """The slope is 1 where the result is positive, else 0: the sign of the result."""
    # <solution>
    return (b.mul(d, b.sign(node)),)
    # </solution>


def sign(b, node, d):
    return (None,)


def constant(b, node, d):
    return ()


def sum_(b, node, d):
    """Back to the operand's shape: d repeats along the dims that went away."""
    # <solution>
    (x,) = node.operands
    kept = tuple(dim for dim in range(len(x.shape)) if dim not in node.attributes["dims"])
    return (b.broadcast(d, shape=x.shape, dims=kept),)
    # </solution>


def broadcast(b, node, d):
    """Sum over all dims that repeat: those that are new, and those that were 1, which a `broadcast` brings back."""
    # <solution>
    (x,) = node.operands
    dims = node.attributes["dims"]
    grown = {dim for dim, n in zip(dims, x.shape, strict=True) if n != node.shape[dim]}
    repeated = tuple(dim for dim in range(len(node.shape)) if dim not in dims or dim in grown)
    total = b.sum(d, dims=repeated) if repeated else d
    if not grown:
        return (total,)
    kept = tuple(at for at, dim in enumerate(dims) if dim not in grown)
    return (b.broadcast(total, shape=x.shape, dims=kept),)
    # </solution>


def permute(b, node, d):
    # <solution>
    dims = node.attributes["dims"]
    return (b.permute(d, dims=tuple(dims.index(dim) for dim in range(len(dims)))),)
    # </solution>


def matmul(b, node, d):
    # <solution>
    x, y = node.operands
    return b.matmul(d, b.permute(y, dims=(1, 0))), b.matmul(b.permute(x, dims=(1, 0)), d)
    # </solution>


RULES = {"add": add, "sub": sub, "mul": mul, "div": div, "neg": neg, "exp": exp, "log": log, "relu": relu, "sign": sign,
         "constant": constant, "sum": sum_, "broadcast": broadcast, "permute": permute, "matmul": matmul}
