"""`from flambeau.optim.optimizer import Optimizer`, where PyTorch keeps what optimizers derive from."""
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from flambeau.frontend.active import active
from flambeau.frontend.optim.optimizer import Optimizer
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor

ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
_params_t = ParamsT
F = TypeVar("F", bound=Callable[..., Any])
required = object()                 # the default of a hyperparameter that must be given


def _use_grad_for_differentiable(func: F) -> F:
    """A decorator of an optimizer's `step`, which is not recorded."""
    return no_grad()(func)


def _default_to_fused_or_foreach(params: Any, differentiable: bool, use_fused: bool = False) -> tuple[bool, bool]:
    """(fused, foreach): neither, as everywhere on the CPU."""
    return False, False


def _get_capturable_supported_devices(supports_xla: bool = True) -> list[str]:
    """None of the devices that there are."""
    return []


def _get_value(x: Any) -> Any:
    """A step count as a number; in a compiled function the tensor."""
    return x.item() if isinstance(x, Tensor) and active.tracer is None else x


__all__ = ["Optimizer", "ParamsT", "required"]
