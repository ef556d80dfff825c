"""fb.autograd.function: what custom Functions are made with."""
from flambeau.frontend.tape.custom import Function, FunctionContext, once_differentiable

FunctionCtx = FunctionContext

__all__ = ["Function", "FunctionContext", "FunctionCtx", "once_differentiable"]
