"""Tensors: views that remember which function made them. The walk back of chapter 1 works on them as it is."""
import numpy as np
from ember import loops, operators
from ember.backward import backward
from ember.broadcast import broadcast_shape, repeated_dims
from ember.scalar import Context, Record
from ember.storage import View


class Machine:
    """What computes: map_view, zip_views, reduce_view, matmul_views and contiguous of a module. Chapter 3 puts its own here."""

    kernels = loops


class Tensor:
    """data: a View, or what View.of takes. Leaves with requires_grad get a grad, a View."""

    def __init__(self, data, record=None, requires_grad=True):
        self.data = data if isinstance(data, View) else View.of(getattr(data, "to_numpy", lambda: data)())
        self.record, self.requires_grad, self.grad = record, requires_grad, None

    @property
    def shape(self):
        return self.data.shape

    def is_leaf(self):
        return self.record is None

    def add_grad(self, d):
        self.grad = d if self.grad is None else self.grad + d

    def backward(self):
        """From a tensor of one element."""
        backward(self, constant(np.ones(self.shape)))

    def item(self):
        return float(self.data.to_numpy().item())

    def to_numpy(self):
        return self.data.to_numpy()

    def __repr__(self):
        return f"Tensor({self.to_numpy().tolist()})"

    def __add__(self, other):
        return Add.apply(self, other)

    __radd__ = __add__

    def __mul__(self, other):
        return Mul.apply(self, other)

    __rmul__ = __mul__

    def __neg__(self):
        return Neg.apply(self)

    def __sub__(self, other):
        return self + -as_tensor(other)

    def __rsub__(self, other):
        return other + -self

    def __truediv__(self, other):
        return self * Inv.apply(other)

    def __rtruediv__(self, other):
        return other * Inv.apply(self)

    def __matmul__(self, other):
        return MatMul.apply(self, other)

    def __gt__(self, other):
        return Lt.apply(other, self)

    def exp(self):
        return Exp.apply(self)

    def log(self):
        return Log.apply(self)

    def sigmoid(self):
        return Sigmoid.apply(self)

    def relu(self):
        return Relu.apply(self)

    def sum(self, dim=None):
        """Over one dim, which becomes 1; or over all, which gives a tensor of shape ()."""
        if dim is not None:
            return Sum.apply(self, dim=dim)
        result = self
        for d in range(len(self.shape)):
            result = Sum.apply(result, dim=d)
        return result.reshape()

    def mean(self, dim=None):
        # <solution>
        total = self.sum(dim)
        return total * (max(1, _size(total.shape)) / max(1, _size(self.shape)))
        # </solution>

    def permute(self, *order):
        return Permute.apply(self, order=order)

    def reshape(self, *shape):
        return Reshape.apply(self, shape=shape)


def _size(shape):
    return int(np.prod(shape))


def constant(data):
    return Tensor(data, requires_grad=False)


def as_tensor(value):
    return value if isinstance(value, Tensor) else constant(value)


class Function:
    """forward(context, *views, **attributes) -> View; backward(context, d) -> a tuple of Tensors, a derivative for each
    operand, of its shape. d is a Tensor too, so that derivatives are computed by the same functions."""

    @classmethod
    def apply(cls, *values, **attributes):
        operands, context = tuple(map(as_tensor, values)), Context()
        data = cls.forward(context, *(operand.data for operand in operands), **attributes)
        wanted = any(operand.requires_grad for operand in operands)
        return Tensor(data, Record(cls, operands, context) if wanted else None, wanted)


def both_shaped(x, y):
    """Two views read with the shape of the result of both."""
    shape = broadcast_shape(x.shape, y.shape)
    return x.broadcast_to(shape), y.broadcast_to(shape)


def summed_to(d, shape):
    """The derivative of something of `shape` that was read as d.shape: every element was used as often as it was repeated,
    and uses add up."""
    # <solution>
    for dim in repeated_dims(shape, d.shape):
        d = d.sum(dim)
    return d.reshape(*shape) if d.shape != tuple(shape) else d
    # </solution>


class Add(Function):
    @staticmethod
    def forward(context, x, y):
        context.save(x.shape, y.shape)
        return Machine.kernels.zip_views(operators.add, *both_shaped(x, y))

    @staticmethod
    def backward(context, d):
        # <solution>
        x_shape, y_shape = context.saved
        return summed_to(d, x_shape), summed_to(d, y_shape)
        # </solution>


class Mul(Function):
    @staticmethod
    def forward(context, x, y):
        context.save(x, y)
        return Machine.kernels.zip_views(operators.mul, *both_shaped(x, y))

    @staticmethod
    def backward(context, d):
        # <solution>
        x, y = context.saved
        return summed_to(d * constant(y), x.shape), summed_to(d * constant(x), y.shape)
        # </solution>


class Lt(Function):
    @staticmethod
    def forward(context, x, y):
        context.save(x.shape, y.shape)
        return Machine.kernels.zip_views(operators.lt, *both_shaped(x, y))

    @staticmethod
    def backward(context, d):
        return tuple(constant(np.zeros(shape)) for shape in context.saved)


class Neg(Function):
    @staticmethod
    def forward(context, x):
        return Machine.kernels.map_view(operators.neg, x)

    @staticmethod
    def backward(context, d):
        return (-d,)


class Inv(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return Machine.kernels.map_view(operators.inv, x)

    @staticmethod
    def backward(context, d):
        return _back(operators.inv_back, context, d)


class Exp(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return Machine.kernels.map_view(operators.exp, x)

    @staticmethod
    def backward(context, d):
        return _back(operators.exp_back, context, d)


class Log(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return Machine.kernels.map_view(operators.log, x)

    @staticmethod
    def backward(context, d):
        return _back(operators.log_back, context, d)


class Sigmoid(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return Machine.kernels.map_view(operators.sigmoid, x)

    @staticmethod
    def backward(context, d):
        return _back(operators.sigmoid_back, context, d)


class Relu(Function):
    @staticmethod
    def forward(context, x):
        context.save(x)
        return Machine.kernels.map_view(operators.relu, x)

    @staticmethod
    def backward(context, d):
        return _back(operators.relu_back, context, d)


def _back(function, context, d):
    return (constant(Machine.kernels.zip_views(function, context.saved[0], d.data)),)


class Sum(Function):
    @staticmethod
    def forward(context, x, dim):
        context.save(x.shape)
        return Machine.kernels.reduce_view(operators.add, 0.0, x, dim)

    @staticmethod
    def backward(context, d):
        """Each element went into the sum once."""
        # <solution>
        return (constant(d.data.broadcast_to(context.saved[0])),)
        # </solution>


class Permute(Function):
    @staticmethod
    def forward(context, x, order):
        context.save(order)
        return x.permute(*order)

    @staticmethod
    def backward(context, d):
        """Back to where it came from: the order that undoes `order`."""
        # <solution>
        (order,) = context.saved
        return (d.permute(*(order.index(dim) for dim in range(len(order)))),)
        # </solution>


class Reshape(Function):
    @staticmethod
    def forward(context, x, shape):
        context.save(x.shape)
        return Machine.kernels.contiguous(x).reshape(shape)

    @staticmethod
    def backward(context, d):
        # <solution>
        return (d.reshape(*context.saved[0]),)
        # </solution>


class MatMul(Function):
    @staticmethod
    def forward(context, x, y):
        context.save(x, y)
        return Machine.kernels.matmul_views(x, y)

    @staticmethod
    def backward(context, d):
        """With z = x @ y, the derivative by x is d @ y transposed, that by y is x transposed @ d."""
        # <solution>
        x, y = context.saved
        return d @ constant(y.permute(1, 0)), constant(x.permute(1, 0)) @ d
        # </solution>
