"""Steps against the derivative."""


class SGD:
    """parameters: Parameters whose value is a leaf, a Scalar or a Tensor."""

    def __init__(self, parameters, lr):
        self.parameters, self.lr = list(parameters), lr

    def zero_grad(self):
        """Forget the derivatives: grad becomes None."""
        # <solution>
        for parameter in self.parameters:
            parameter.value.grad = None
        # </solution>

    def step(self):
        """Every value that has a grad becomes a new leaf: of the data minus lr times the grad. The program that led to the
        old one is no part of the new one, else each step would drag all steps before it along. type(value)(data) makes a
        leaf of either kind."""
        # <solution>
        for parameter in self.parameters:
            value = parameter.value
            if value.grad is not None:
                parameter.update(type(value)(value.data - self.lr * value.grad))
        # </solution>
