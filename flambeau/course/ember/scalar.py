"""Scalars: numbers that remember which function made them of what. A Record is one entry of the tape."""
from dataclasses import dataclass, field

from ember import operators


class Context:
    """What a function keeps on its way forward for its way back."""

    def __init__(self):
        self.saved = ()

    def save(self, *values):
        self.saved = values


@dataclass(frozen=True)
class Record:
    function: type
    operands: tuple         # Scalars, in order
    context: Context = field(repr=False)


class Scalar:
    """A number with a record; without one it is a leaf: a number that somebody wrote. Leaves with requires_grad get a grad."""

    def __init__(self, data, record=None, requires_grad=True, name=""):
        self.data, self.record, self.requires_grad, self.name = float(data), record, requires_grad, name
        self.grad = None

    def is_leaf(self):
        return self.record is None

    def add_grad(self, d):
        """Add d to grad, which starts at None."""
        # <solution>
        self.grad = d if self.grad is None else self.grad + d
        # </solution>

    def __repr__(self):
        return f"Scalar({self.data:g})"

    def __add__(self, other):
        return Add.apply(self, other)

    def __radd__(self, other):
        return Add.apply(other, self)

    def __mul__(self, other):
        return Mul.apply(self, other)

    def __rmul__(self, other):
        return Mul.apply(other, self)

    def __neg__(self):
        return Neg.apply(self)

    def __sub__(self, other):
        # <solution>
        return self + -as_scalar(other)
        # </solution>

    def __rsub__(self, other):
        # <solution>
        return other + -self
        # </solution>

    def __truediv__(self, other):
        # <solution>
        return self * Inv.apply(other)
        # </solution>

    def __rtruediv__(self, other):
        # <solution>
        return other * Inv.apply(self)
        # </solution>

    def __lt__(self, other):
        return Lt.apply(self, other)

    def __gt__(self, other):
        return Lt.apply(other, self)

    def log(self):
        return Log.apply(self)

    def exp(self):
        return Exp.apply(self)

    def sigmoid(self):
        return Sigmoid.apply(self)

    def relu(self):
        return Relu.apply(self)


def as_scalar(value):
    """Python numbers become constants: Scalars that want no derivative."""
    return value if isinstance(value, Scalar) else Scalar(value, requires_grad=False)


class Function:
    """forward(context, *floats) -> float; backward(context, d) -> a tuple, d times the derivative by each operand."""

    @classmethod
    def apply(cls, *values):
        """Compute, and remember: a Scalar whose record names the function, its operands and its context. What depends on
        nothing that requires a derivative requires none and needs no record."""
        operands = tuple(map(as_scalar, values))
        context = Context()
        # <solution>
        data = cls.forward(context, *(operand.data for operand in operands))
        if not any(operand.requires_grad for operand in operands):
            return Scalar(data, requires_grad=False)
        return Scalar(data, Record(cls, operands, context))
        # </solution>


class Add(Function):
    @staticmethod
    def forward(context, x, y):
        return operators.add(x, y)

    @staticmethod
    def backward(context, d):
        # <solution>
        return d, d
        # </solution>


class Mul(Function):
    @staticmethod
    def forward(context, x, y):
        # <solution>
        context.save(x, y)
        return operators.mul(x, y)
        # </solution>

    @staticmethod
    def backward(context, d):
        # <solution>
        x, y = context.saved
        return d * y, d * x
        # </solution>


class Neg(Function):
    @staticmethod
    def forward(context, x):
        return operators.neg(x)

    @staticmethod
    def backward(context, d):
        # <solution>
        return (-d,)
        # </solution>


class Lt(Function):
    """A step: flat on both sides, so its derivative is 0."""

    @staticmethod
    def forward(context, x, y):
        return operators.lt(x, y)

    @staticmethod
    def backward(context, d):
        return 0.0, 0.0


class Inv(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return operators.inv(x)

    @staticmethod
    def backward(context, d):
        return (operators.inv_back(*context.saved, d),)


class Log(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return operators.log(x)

    @staticmethod
    def backward(context, d):
        return (operators.log_back(*context.saved, d),)


class Exp(Function):
    """Its derivative is its result: save that."""

    @staticmethod
    def forward(context, x):
        # <solution>
        y = operators.exp(x)
        context.save(y)
        return y
        # </solution>

    @staticmethod
    def backward(context, d):
        # <solution>
        return (d * context.saved[0],)
        # </solution>


class Sigmoid(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return operators.sigmoid(x)

    @staticmethod
    def backward(context, d):
        return (operators.sigmoid_back(*context.saved, d),)


class Relu(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return operators.relu(x)

    @staticmethod
    def backward(context, d):
        return (operators.relu_back(*context.saved, d),)
