"""Jacobians, Hessians and products with them, of a function at given inputs: torch.autograd.functional's forms.

Inputs are a tensor or a tuple of tensors, outputs too; results nest accordingly. Without create_graph they are off all
tapes. strict: an output that does not depend on an input is an error, where else its derivative is zeros."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from flambeau.frontend.func import forward, reverse
from flambeau.frontend.tape.autograd import no_grad, set_grad_enabled
from flambeau.frontend.tape.backward import grad
from flambeau.frontend.tensor.tensor import Tensor

Inputs = Tensor | tuple[Tensor, ...]
Function = Callable[..., Any]


def jacobian(func: Function, inputs: Inputs, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
             strategy: str = "reverse-mode") -> Any:
    """The Jacobian of func at inputs: for an output of shape S and an input of shape T one of shape S + T; a tuple over
    outputs of tuples over inputs where func and inputs have several. strategy: "reverse-mode" or "forward-mode".
    vectorize means nothing here: rows are always computed at once."""
    if strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(f"jacobian: strategy must be 'reverse-mode' or 'forward-mode', got {strategy!r}")
    given = _given(inputs, "jacobian")
    _check_strict(func, given, strict)
    with _mode(create_graph):
        transform = reverse.jacrev if strategy == "reverse-mode" else forward.jacfwd
        found = transform(_checked(func, "jacobian"), argnums=tuple(range(len(given))))(*given)
    if isinstance(found[0], tuple):
        return found if not isinstance(inputs, Tensor) else tuple([each[0] for each in found])
    return found[0] if isinstance(inputs, Tensor) else found


def hessian(func: Function, inputs: Inputs, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
            outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """The Hessian of func, which gives one element, at inputs: of shape T + T, or a tuple of tuples over inputs."""
    given = _given(inputs, "hessian")
    _check_strict(func, given, strict)

    def gradient(*xs: Tensor) -> Any:
        return reverse.grad(_scalar(func, "hessian"), argnums=tuple(range(len(xs))))(*xs)

    found = jacobian(gradient, given, create_graph, False, vectorize, outer_jacobian_strategy)
    return found[0][0] if isinstance(inputs, Tensor) else found


def vjp(func: Function, inputs: Inputs, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """(func(*inputs), v times the Jacobian): v is of the outputs' structure, None for one element."""
    given = _given(inputs, "vjp")
    _check_strict(func, given, strict)
    with _mode(create_graph):
        output, back = reverse.vjp(_checked(func, "vjp"), *given)
        found = back(_vector(v, output, "vjp"))
    return output, _like(found, inputs)


def jvp(func: Function, inputs: Inputs, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """(func(*inputs), the Jacobian times v): v is of the inputs' structure, None for one element."""
    given = _given(inputs, "jvp")
    _check_strict(func, given, strict)
    with _mode(create_graph):
        return forward.jvp(_checked(func, "jvp"), given, _given(_vector(v, inputs, "jvp"), "jvp"))


def hvp(func: Function, inputs: Inputs, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """(func(*inputs), the Hessian times v): forward mode over the gradient."""
    given = _given(inputs, "hvp")
    _check_strict(func, given, strict)
    with _mode(create_graph):
        (_, output), (found, _) = forward.jvp(_both(func, len(given), "hvp"), given,
                                              _given(_vector(v, inputs, "hvp"), "hvp"))
    return output, _like(found, inputs)


def vhp(func: Function, inputs: Inputs, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """(func(*inputs), v times the Hessian): reverse mode over the gradient."""
    given = _given(inputs, "vhp")
    _check_strict(func, given, strict)
    with _mode(create_graph):
        _, back, output = reverse.vjp(_both(func, len(given), "vhp"), *given, has_aux=True)
        found = back(_given(_vector(v, inputs, "vhp"), "vhp"))
    return output, _like(found, inputs)


def _mode(create_graph: bool) -> Any:
    return nullcontext() if create_graph else no_grad()


def _given(inputs: Any, who: str) -> tuple[Tensor, ...]:
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs) if isinstance(inputs, (tuple, list)) else None
    if given is None or not all(isinstance(t, Tensor) for t in given):
        raise TypeError(f"{who}: inputs and v must be a tensor or a tuple of tensors")
    return given


def _like(found: Sequence[Tensor], inputs: Inputs) -> Any:
    return found[0] if isinstance(inputs, Tensor) else tuple(found)


def _checked(func: Function, who: str) -> Function:
    def called(*xs: Tensor) -> Any:
        found = func(*xs)
        if not isinstance(found, Tensor) and not (isinstance(found, tuple) and all(isinstance(t, Tensor) for t in found)):
            raise TypeError(f"{who}: func must give a tensor or a tuple of tensors, got {type(found).__name__}")
        return found

    return called


def _scalar(func: Function, who: str) -> Function:
    def called(*xs: Tensor) -> Tensor:
        found = func(*xs)
        if not isinstance(found, Tensor) or found.numel() != 1:
            raise RuntimeError(f"{who}: func must give a tensor of one element")
        return found.reshape(())

    return called


def _both(func: Function, count: int, who: str) -> Function:
    """A function that gives (gradients, output)."""
    def called(*xs: Tensor) -> Any:
        output: list[Tensor] = []

        def scalar(*ys: Tensor) -> tuple[Tensor, Tensor]:
            output.append(func(*ys))
            return _scalar(lambda: output[0], who)(), output[0]

        gradients, (_, value) = reverse.grad_and_value(scalar, argnums=tuple(range(count)), has_aux=True)(*xs)
        return gradients, value

    return called


def _vector(v: Any, like: Any, who: str) -> Any:
    """v, or ones for a single tensor of one element. Raises RuntimeError where v is missing, or of another shape."""
    if v is None:
        if not isinstance(like, Tensor) or like.numel() != 1:
            raise RuntimeError(f"{who}: v can be left out for a single element only")
        return like.detach() * 0 + 1
    vs, tensors = _given(v, who), _given(like, who)
    if len(vs) != len(tensors) or any(a.shape != b.shape for a, b in zip(vs, tensors, strict=True)):
        raise RuntimeError(f"{who}: v must have the structure and the shapes of what it multiplies")
    return vs[0] if isinstance(like, Tensor) else vs


def _check_strict(func: Function, inputs: tuple[Tensor, ...], strict: bool) -> None:
    if not strict:
        return
    with set_grad_enabled(True):
        leaves = [t.detach().requires_grad_() for t in inputs]
        found = func(*leaves)
        for number, output in enumerate(found if isinstance(found, tuple) else (found,)):
            gradients = grad(output.sum(), leaves, allow_unused=True) if output.requires_grad else [None] * len(leaves)
            for position, gradient in enumerate(gradients):
                if gradient is None:
                    raise RuntimeError(f"strict=True: output {number} of the function does not depend on input {position}")


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
