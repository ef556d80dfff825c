"""Automatic mixed precision: `autocast`, which computes products and convolutions in 16 bits, and `GradScaler`, which
keeps the gradients of f16 from vanishing. Micikevicius et al., ICLR 2018."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

import numpy as np

from flambeau.frontend.active import active
from flambeau.frontend.control import cond
from flambeau.frontend.functions.creation import zeros
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import isfinite
from flambeau.frontend.optim.optimizer import Optimizer
from flambeau.frontend.tape.autograd import grad_mode, no_grad
from flambeau.frontend.tape.casting import Casting, casting_to
from flambeau.frontend.tape.moves import placed
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.device import is_there, place_named
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.warned import warn

F = TypeVar("F", bound=Callable[..., Any])
_DEVICES = ("cpu", "cuda", "mtia", "maia", "xpu", "hpu", "ipu", "mps", "xla", "privateuseone")
_default: dict[str, Any] = {"cpu": dt.bf16, "cuda": dt.f16, "cache": True}


class autocast:
    """Within `with autocast("cpu"):`, or a function so decorated, the functions that gain by it compute in `dtype`
    (bfloat16, or float16), those that need the range in float32, all others in the dtypes that they are given; f64
    stays. docs/mixed_precision.md lists which is which.

    Casts are ops like others: they have derivatives, and a compiled function has only those that it needs. A compiled
    function may use it inside, or be called within it. dtypes, and devices, that are not available turn it off with a
    warning. cache_enabled is accepted: nothing is cast twice in compiled code."""

    def __init__(self, device_type: str, dtype: DType | None = None, enabled: bool = True,
                 cache_enabled: bool | None = None):
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if device_type not in _DEVICES:
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        self.device = device_type
        self.fast_dtype = _default.get(device_type, dt.f16) if dtype is None else dtype
        self._enabled = bool(enabled)
        if self._enabled and not is_autocast_available(device_type):
            warn("FB009", f"User provided device_type of '{device_type}', but it is not available. Disabling",
                          stacklevel=2)
            self._enabled = False
        if self._enabled and self.fast_dtype not in (dt.bf16, dt.f16):
            name = device_type.upper()
            warn("FB010", f"In {name} autocast, but the target dtype is not supported. Disabling autocast.\n{name} "
                          "Autocast only supports dtypes of torch.bfloat16, torch.float16 currently.", stacklevel=2)
            self._enabled = False
        self._saved: list[Casting | None] = []

    def __enter__(self) -> autocast:
        self._saved.append(grad_mode.casting)
        around = grad_mode.casting
        if self._enabled:
            grad_mode.cast(casting_to(self.fast_dtype, self.device))
        elif around is None or around.device == self.device:        # turned off, it turns off one around it
            grad_mode.cast(None)
        return self

    def __exit__(self, *exc: object) -> None:
        grad_mode.cast(self._saved.pop())

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast can do anything for a device: for "cpu", and for "cuda" where there is a GPU."""
    return device_type == "cpu" or device_type == "cuda" and is_there("cuda")


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast for the device is at work; without an argument it asks for "cuda", as in PyTorch."""
    return grad_mode.casting is not None and grad_mode.casting.device == device_type


def get_autocast_dtype(device_type: str) -> DType:
    """What autocast computes in, or would: on GPUs float16. Raises TypeError for what is no string."""
    _require_device_type("get_autocast_dtype", device_type)
    casting = grad_mode.casting
    return casting.dtype if casting is not None and casting.device == device_type else _default.get(device_type, dt.f16)


def _require_device_type(function: str, device_type: Any) -> None:
    if not isinstance(device_type, str):
        raise TypeError(f"{function}: argument 'device_type' must be a string, got {type(device_type).__name__}")


def is_autocast_cpu_enabled() -> bool:
    """is_autocast_enabled("cpu")."""
    return is_autocast_enabled("cpu")


def get_autocast_cpu_dtype() -> DType:
    """get_autocast_dtype("cpu")."""
    return get_autocast_dtype("cpu")


def get_autocast_gpu_dtype() -> DType:
    """get_autocast_dtype("cuda")."""
    return get_autocast_dtype("cuda")


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """What autocast computes in where it is not told. Raises TypeError for what is no dtype, or no name of devices."""
    _require_device_type("set_autocast_dtype", device_type)
    if not isinstance(dtype, DType):
        raise TypeError(f"set_autocast_dtype: argument 'dtype' must be a dtype, got {type(dtype).__name__}")
    _default[device_type] = dtype


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Turn autocast on or off from here on. Raises TypeError for what is no bool."""
    if not isinstance(enabled, bool):
        raise TypeError(f"set_autocast_enabled: argument 'enabled' must be a bool, got {type(enabled).__name__}")
    is_there = enabled and is_autocast_available(device_type)
    grad_mode.cast(casting_to(_default[device_type], device_type) if is_there else None)


def is_autocast_cache_enabled() -> bool:
    """What `set_autocast_cache_enabled` was told."""
    return bool(_default["cache"])


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Accepted; there is no cache. Raises TypeError for what is no bool."""
    if not isinstance(enabled, bool):
        raise TypeError(f"set_autocast_cache_enabled: argument 'enabled' must be a bool, got {type(enabled).__name__}")
    _default["cache"] = enabled


def clear_autocast_cache() -> None:
    """Accepted; there is no cache."""


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: DType | None = None) -> Any:
    """For `forward` of an autograd.Function: it runs with autocast off and floating-point tensors cast to cast_inputs;
    without cast_inputs as autocast is around it."""
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def forward(*args: Any, **kwargs: Any) -> Any:
        args[0]._casting = grad_mode.casting
        if cast_inputs is None or grad_mode.casting is None:
            return fwd(*args, **kwargs)
        args[0]._casting = None
        with autocast(device_type, enabled=False):
            return fwd(*_cast(args, cast_inputs), **_cast(kwargs, cast_inputs))

    return forward


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """For `backward` of an autograd.Function: it runs with autocast as it was in its forward."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def backward(*args: Any, **kwargs: Any) -> Any:
        casting = args[0]._casting
        with autocast(device_type, None if casting is None else casting.dtype, casting is not None):
            return bwd(*args, **kwargs)

    return backward


def _cast(value: Any, dtype: DType) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype is not dt.f64 else value
    if isinstance(value, dict):
        return {key: _cast(item, dtype) for key, item in value.items()}
    return type(value)([_cast(item, dtype) for item in value]) if type(value) in (list, tuple) else value


class GradScaler:
    """Losses times a scale, so that gradients in f16 don't underflow: `scaler.scale(loss).backward()`,
    `scaler.step(optimizer)`, which divides the gradients by the scale and leaves the step out if one is inf or NaN, and
    `scaler.update()`, after which the scale is smaller by backoff_factor if one was, and larger by growth_factor after
    growth_interval steps without.

    All of it may be part of a compiled step: whether the step is taken is then decided as it runs."""

    def __init__(self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True):
        self._device, self._enabled = device, enabled
        if enabled and not is_autocast_available(device):
            warn("FB011", f"GradScaler is enabled, but device '{device}' is not available. Disabling.", stacklevel=2)
            self._enabled = False
        if self._enabled:
            if not growth_factor > 1.0:
                raise AssertionError("The growth factor must be > 1.0.")
            if not backoff_factor < 1.0:
                raise AssertionError("The backoff factor must be < 1.0.")
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        place = place_named(device) if self._enabled else None
        self._scale = placed(Tensor._from_array(np.array(init_scale, np.float32), dt.f32), place)
        self._growth_tracker = placed(Tensor._from_array(np.array(0, np.int32), dt.i32), place)
        self._found: dict[int, Tensor] = {}             # by optimizer: whether one of its gradients is not finite
        self._stepped: set[int] = set()

    @overload
    def scale(self, outputs: Tensor) -> Tensor: ...
    @overload
    def scale(self, outputs: Iterable[Any]) -> Any: ...
    def scale(self, outputs: Any) -> Any:
        """The tensor, or all in a list or tuple, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, (list, tuple)):
            return type(outputs)([self.scale(output) for output in outputs])
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    @no_grad()
    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the optimizer's gradients by the scale, in place, as before clipping them. Raises RuntimeError the
        second time before `update()`, and after `step()`."""
        if not self._enabled:
            return
        if id(optimizer) in self._stepped:
            raise RuntimeError("unscale_() is being called after step().")
        if id(optimizer) in self._found:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        inverse = self._scale.to(dt.f64).reciprocal().to(dt.f32)
        found = zeros((), dtype=dt.bool_, device=self._scale.device)
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.dtype is dt.f16:
                    raise ValueError("Attempting to unscale FP16 gradients.")
                p.grad = p.grad * inverse.to(p.grad.dtype)
                found = found | ~isfinite(p.grad).all()
        self._found[id(optimizer)] = found

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Unscale the gradients, if that is not done, and optimizer.step(*args, **kwargs) unless one is not finite.
        Returns what that gives, None where it is left out or compiled. Closures are not supported."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        if id(optimizer) in self._stepped:
            raise RuntimeError("step() has already been called since the last update().")
        if id(optimizer) not in self._found:
            self.unscale_(optimizer)
        found = self._found[id(optimizer)]
        self._stepped.add(id(optimizer))
        if active.tracer is None:
            return None if found.item() else optimizer.step(*args, **kwargs)

        def taken() -> None:
            optimizer.step(*args, **kwargs)

        with no_grad():
            cond(found, lambda: None, taken)
        return None

    @no_grad()
    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapt the scale to what the steps since the last update found, or set it to new_scale."""
        if not self._enabled:
            return
        if new_scale is not None:
            if isinstance(new_scale, Tensor):
                self._scale.copy_(new_scale)
            else:
                self._scale.fill_(new_scale)
        else:
            if not self._found:
                raise AssertionError("No inf checks were recorded prior to update.")
            found, *others = self._found.values()
            for other in others:
                found = found | other
            steps = self._growth_tracker + 1
            is_due = steps == self._growth_interval
            grown = self._scale * self._growth_factor
            kept = where(is_due & isfinite(grown), grown, self._scale)
            assign_(self._scale, where(found, self._scale * self._backoff_factor, kept))
            assign_(self._growth_tracker, where(found | is_due, 0, steps).to(dt.i32))
        self._found.clear()
        self._stepped.clear()

    def get_scale(self) -> float:
        """The scale; 1.0 when disabled."""
        return self._scale.item() if self._enabled else 1.0

    def is_enabled(self) -> bool:
        return self._enabled

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """The scale and how it moves, as plain numbers; {} when disabled."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
                "growth_interval": self._growth_interval, "_growth_tracker": self._growth_tracker.item()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another scaler's state_dict() was taken. Raises RuntimeError for one that was disabled."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance "
                               "of GradScaler.")
        self._scale.fill_(state_dict["scale"])
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._growth_tracker.fill_(state_dict["_growth_tracker"])


__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
