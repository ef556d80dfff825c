"""`autograd.grad_mode`: the contexts that turn recording on and off, where PyTorch keeps them."""
from flambeau.frontend.tape.autograd import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = ["enable_grad", "inference_mode", "no_grad", "set_grad_enabled"]
