"""`fb.quantize_dynamic`: Linear layers for inference whose weights are bytes, and whose inputs become bytes as they come.

A row of the input is quantized by its own least and greatest element, a row of the weight by its greatest magnitude, so

    x ~ (q - zero) * step,  w ~ p * scale,  x @ w.T ~ step * scale * (q @ p.T - zero * p.sum(-1)),

where q (unsigned) and p (signed) are bytes, and what is in brackets is computed in int32, exactly.
"""
from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Final

from flambeau.frontend.nn.linear import Linear
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

__all__ = ["DynamicQuantizedLinear", "qint8", "quantize_dynamic"]

_SMALLEST_STEP: Final = 2.0**-120           # whose reciprocal is finite
_MOST_FEATURES: Final = (2**31 - 1) // (255 * 127)


class _QuantizedDType:
    """What `quantize_dynamic` is told to make of weights. No tensor has it: scales are the layer's."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"flambeau.{self.name}"

    def __reduce__(self) -> str:
        return self.name


qint8 = _QuantizedDType("qint8")


class DynamicQuantizedLinear(Module):
    """`linear` in bytes. input: floating-point [*, in_features] -> [*, out_features] of its dtype, which requires no grad.

    weight: int8 [out_features, in_features]; scale: f32 [out_features]; weight_sums: int32 [out_features], of rows of
    weight. Each product is off by at most |x| scale/2 + |w| step + scale step/2, where step is 1/255 of the range of the
    input's row, 0 included. NaN and infinities in a row make all its results NaN or infinite."""

    weight: Tensor
    scale: Tensor
    weight_sums: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        if self.in_features > _MOST_FEATURES:
            raise ValueError(f"sums of {self.in_features} products of bytes overflow int32, {_MOST_FEATURES} do not")
        if not weight.isfinite().all():
            raise ValueError("weights that are not finite cannot be quantized")
        largest = weight.abs().amax(1) if self.in_features else weight.new_zeros(self.out_features)
        scale = (largest / 127).clamp(min=_SMALLEST_STEP)
        rounded = (weight / scale[:, None]).round().clamp(-127, 127).to(dt.i8)
        self.register_buffer("weight", rounded)
        self.register_buffer("scale", scale)
        self.register_buffer("weight_sums", rounded.to(dt.i32).sum(1, dtype=dt.i32))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    @classmethod
    def from_float(cls, layer: Linear) -> DynamicQuantizedLinear:
        """The layer in bytes, with its hooks. Raises TypeError unless its weights are float32, ValueError if they are not
        finite or so many that sums would overflow."""
        if layer.weight.dtype is not dt.f32:
            raise TypeError(f"weights of float32 can be quantized, got {layer.weight.dtype!r}")
        made = cls(layer.weight.detach(), layer.bias)
        made.training = layer.training
        for name, hooks in vars(layer).items():
            if name.startswith("_forward_"):
                vars(made)[name] = hooks
        return made

    def forward(self, input: Tensor) -> Tensor:
        with no_grad():
            x = input.to(dt.f32)
            if self.in_features == 0 or x.numel() == 0:
                found = x.new_zeros((*x.shape[:-1], self.out_features))
                return (found if self.bias is None else found + self.bias).to(input.dtype)
            rows = x.reshape(-1, self.in_features)
            low = rows.amin(1, keepdim=True).clamp(max=0)
            high = rows.amax(1, keepdim=True).clamp(min=0)
            step = (high / 255 - low / 255).clamp(min=_SMALLEST_STEP)
            per_step = 1 / step
            zero = (-low * per_step).round().clamp(0, 255)
            quantized = ((rows * per_step).round() + zero).clamp(0, 255).to(dt.u8)
            sums = dispatch(ops.byte_matmul, quantized, self.weight.t()) - zero.to(dt.i32) * self.weight_sums
            found = sums.to(dt.f32) * (step * self.scale)
            found = found if self.bias is None else found + self.bias
            return found.reshape(*input.shape[:-1], self.out_features).to(input.dtype)

    def extra_repr(self) -> str:
        return (f"in_features={self.in_features}, out_features={self.out_features}, dtype=qint8, "
                f"bias={self.bias is not None}")


def quantize_dynamic(model: Module, qconfig_spec: Iterable[Any] | None = None, dtype: Any = qint8,
                     mapping: None = None, inplace: bool = False) -> Module:
    """A copy of the model for inference (with `inplace` the model itself) whose Linear layers multiply bytes, four times as
    many as floats at once where the processor has AVX512-VNNI. qconfig_spec: classes or dotted names of the layers to
    change; all Linear layers if None. Subclasses of Linear are left alone, as in PyTorch.

    Raises ValueError for another dtype than `fb.qint8` or a name that is no layer, NotImplementedError for layers that have
    no form in bytes, TypeError for what is no Module, what `DynamicQuantizedLinear.from_float` raises."""
    if not isinstance(model, Module):
        raise TypeError(f"quantize_dynamic: argument 'model' must be a Module, got {type(model).__name__}")
    if dtype is not qint8:
        raise ValueError(f"quantize_dynamic makes weights of fb.qint8, not of {dtype!r}")
    if mapping is not None or isinstance(qconfig_spec, dict):
        raise NotImplementedError("quantize_dynamic takes a set of layers; it has one way to quantize and no mapping")
    wanted = {Linear} if qconfig_spec is None else set(qconfig_spec)
    for name in wanted:
        found = model.get_submodule(name) if isinstance(name, str) else None
        if name is not Linear and type(found) is not Linear:
            raise NotImplementedError(f"of {name if found is None else type(found).__name__} there is no form in bytes; "
                                      "nn.Linear has one")
    model = model if inplace else copy.deepcopy(model)
    made: dict[Module, Module] = {}

    def converted(layer: Module, path: str) -> Module:
        if layer in made:
            return made[layer]
        if type(layer) is Linear and (Linear in wanted or path in wanted):
            made[layer] = DynamicQuantizedLinear.from_float(layer)
            return made[layer]
        made[layer] = layer
        for name, child in layer._modules.items():
            if child is not None:
                layer._modules[name] = converted(child, f"{path}.{name}" if path else name)
        return layer

    return converted(model, "")
