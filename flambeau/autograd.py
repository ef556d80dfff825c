"""fb.autograd: gradients of computed tensors, and functions with derivatives of their own."""
from flambeau.frontend.tape.autograd import (
           enable_grad,
           inference_mode,
           is_grad_enabled,
           no_grad,
           set_grad_enabled,
)
from flambeau.frontend.tape.backward import backward, grad
from flambeau.frontend.tape.custom import Function, FunctionContext

__all__ = ["Function", "FunctionContext", "backward", "enable_grad", "grad", "inference_mode", "is_grad_enabled",
           "no_grad", "set_grad_enabled"]
