"""fb.autograd: gradients of computed tensors, functions with derivatives of their own, and checks of derivatives."""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flambeau.frontend.missing import missing
from flambeau.frontend.tape.anomaly import (
    detect_anomaly,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    set_detect_anomaly,
)
from flambeau.frontend.tape.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from flambeau.frontend.tape.backward import backward, grad
from flambeau.frontend.tape.custom import Function, FunctionContext

if TYPE_CHECKING:
    from flambeau.autograd import forward_ad, function, functional, grad_mode, variable
    from flambeau.autograd.variable import Variable
    from flambeau.frontend.func.checks import GradcheckError, gradcheck, gradgradcheck

_LAZY = {name: ("flambeau.frontend.func.checks", name) for name in ("GradcheckError", "gradcheck", "gradgradcheck")}
_LAZY.update({name: (f"flambeau.autograd.{name}", "") for name in ("forward_ad", "function", "functional", "grad_mode",
                                                                  "variable")})
_LAZY["Variable"] = ("flambeau.autograd.variable", "Variable")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise missing("flambeau.autograd", name)
    module, attribute = _LAZY[name]
    found = importlib.import_module(module)
    value = globals()[name] = getattr(found, attribute) if attribute else found
    return value


__all__ = ["Function", "FunctionContext", "GradcheckError", "Variable", "backward", "detect_anomaly", "enable_grad",
           "forward_ad", "function", "functional", "grad", "grad_mode", "gradcheck", "gradgradcheck",
           "inference_mode",           "is_grad_enabled", "no_grad", "set_detect_anomaly", "set_grad_enabled", "variable"]
