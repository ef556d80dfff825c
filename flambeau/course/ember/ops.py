"""The ops of the compiler: what type each gives, and what it means. All numbers are f64; a type is a shape."""
import numpy as np


class InferenceError(TypeError):
    """Operands that an op does not take: the message names the op and the shapes."""


def same_shapes(op, shapes):
    """The type of an elementwise op: its operands have one shape, which is the result's. There is no broadcasting here: it is
    written out as an op of its own. Raises InferenceError."""
    # <solution>
    if any(shape != shapes[0] for shape in shapes):
        raise InferenceError(f"{op}: operands of shapes {' and '.join(map(str, shapes))}")
    return shapes[0]
    # </solution>


def broadcast_type(op, shapes, shape, dims):
    """Dim i of the operand becomes dim dims[i] of the result, which has `shape`; what is not named repeats, and so does a dim
    of 1. dims rise. Raises InferenceError."""
    (given,) = shapes
    # <solution>
    fits = len(dims) == len(given) and list(dims) == sorted(set(dims)) and all(
        0 <= d < len(shape) and n in (1, shape[d]) for d, n in zip(dims, given, strict=True))
    if not fits:
        raise InferenceError(f"{op}: {given} as {shape} with dims {dims}")
    return tuple(shape)
    # </solution>


def sum_type(op, shapes, dims):
    """The dims named go away. Raises InferenceError if one is named twice or is not there."""
    (given,) = shapes
    # <solution>
    if len(set(dims)) != len(dims) or any(not 0 <= d < len(given) for d in dims):
        raise InferenceError(f"{op}: dims {dims} of {given}")
    return tuple(n for d, n in enumerate(given) if d not in dims)
    # </solution>


def permute_type(op, shapes, dims):
    """Dim i of the result is dim dims[i] of the operand. Raises InferenceError if dims is not each dim once."""
    (given,) = shapes
    # <solution>
    if sorted(dims) != list(range(len(given))):
        raise InferenceError(f"{op}: dims {dims} of {given}")
    return tuple(given[d] for d in dims)
    # </solution>


def matmul_type(op, shapes):
    """(m, k) and (k, n) give (m, n). Raises InferenceError."""
    # <solution>
    lhs, rhs = shapes
    if len(lhs) != 2 or len(rhs) != 2 or lhs[1] != rhs[0]:
        raise InferenceError(f"{op}: {lhs} and {rhs}: the columns of one are not the rows of the other")
    return lhs[0], rhs[1]
    # </solution>


def constant_type(op, shapes, value):
    return ()


class Op:
    """infer(name, operand shapes, **attributes) -> shape; evaluate(*arrays, **attributes) -> array."""

    def __init__(self, name, n_operands, infer, evaluate, is_elementwise=False):
        self.name, self.n_operands, self.infer, self.evaluate = name, n_operands, infer, evaluate
        self.is_elementwise = is_elementwise


def expanded(x, shape, dims):
    placed = x.reshape([x.shape[dims.index(d)] if d in dims else 1 for d in range(len(shape))])
    return np.broadcast_to(placed, shape)


OPS = {op.name: op for op in (
    *(Op(name, n, same_shapes, function, True) for name, n, function in (
        ("add", 2, np.add), ("sub", 2, np.subtract), ("mul", 2, np.multiply), ("div", 2, np.divide), ("neg", 1, np.negative),
        ("exp", 1, np.exp), ("log", 1, np.log), ("relu", 1, lambda x: np.where(x > 0, x, 0.0)), ("sign", 1, np.sign))),
    Op("constant", 0, constant_type, lambda value: np.float64(value)),
    Op("broadcast", 1, broadcast_type, expanded),
    Op("permute", 1, permute_type, lambda x, dims: x.transpose(dims)),
    Op("sum", 1, sum_type, lambda x, dims: x.sum(axis=tuple(dims))),
    Op("matmul", 2, matmul_type, np.matmul),
)}
