"""einops' layers as our Modules. They are made over the mixins of the copy of einops that the user's program has:

`einops.layers.flambeau` gives ours. `einops.layers.torch` gives them too as long as PyTorch isn't loaded. Once it is,
whoever asks for a layer may be a program of PyTorch's, so it gives PyTorch's, and our containers adopt those."""
from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from flambeau.frontend.functions.creation import empty, from_numpy
from flambeau.frontend.functions.products import einsum
from flambeau.frontend.nn.adoption import foreign
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tensor.tensor import Tensor

NAMES = ("Rearrange", "Reduce", "EinMix")


def spec_of(name: str) -> ModuleSpec | None:
    """How we make `einops.layers.flambeau` or `einops.layers.torch`; None where the latter is to be einops' own module."""
    if name.endswith(".flambeau"):
        return ModuleSpec(name, _Ours())
    return None if _torch_is_loaded() else ModuleSpec(name, _StandIns())


def adopt(theirs: ModuleType) -> None:
    """From now on our containers take the layers of einops' own module for PyTorch."""
    if issubclass(theirs.Rearrange, Module):        # made while sys.modules["torch"] was flambeau
        return
    ours: Any = importlib.import_module(_sibling(theirs.__name__, "flambeau"))

    def mixed(layer: Any) -> Module:
        made: Module = ours.EinMix(layer.pattern, layer.weight_shape, layer.bias_shape, **layer.axes_lengths)
        for name, parameter in layer.named_parameters():
            values = from_numpy(parameter.detach().cpu().numpy().copy())
            setattr(made, name, Parameter(values, requires_grad=parameter.requires_grad))
        return made.train(layer.training)

    foreign[theirs.Rearrange] = lambda layer: ours.Rearrange(layer.pattern, **layer.axes_lengths)
    foreign[theirs.Reduce] = lambda layer: ours.Reduce(layer.pattern, layer.reduction, **layer.axes_lengths)
    foreign[theirs.EinMix] = mixed


def _torch_is_loaded() -> bool:
    """Whether this process has PyTorch. `sys.modules["torch"] = flambeau`, and None there, are not PyTorch."""
    return getattr(sys.modules.get("torch"), "Tensor", Tensor) is not Tensor


def _sibling(name: str, last: str) -> str:
    return f"{name.rpartition('.')[0]}.{last}"


class _Ours(Loader):
    """Fills `einops.layers.flambeau`."""

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.rpartition(".")[0]
        mixins: Any = importlib.import_module(package)
        mixing: Any = importlib.import_module(f"{package}._einmix")

        class Rearrange(mixins.RearrangeMixin, Module):
            """`einops.rearrange(x, pattern, **axes_lengths)` as a layer."""

            def forward(self, input: Tensor) -> Any:
                return self._apply_recipe(input)

        class Reduce(mixins.ReduceMixin, Module):
            """`einops.reduce(x, pattern, reduction, **axes_lengths)` as a layer."""

            def forward(self, input: Tensor) -> Any:
                return self._apply_recipe(input)

        class EinMix(mixing._EinmixMixin, Module):
            """A linear layer over axes that a pattern names: `EinMix("b t c -> b t d", weight_shape="c d", c=8, d=16)`."""

            def _create_parameters(self, weight_shape: Any, weight_bound: float, bias_shape: Any,
                                   bias_bound: float) -> None:
                self.weight = _uniform(weight_shape, weight_bound)
                self.bias = None if bias_shape is None else _uniform(bias_shape, bias_bound)

            def _create_rearrange_layers(self, pre_reshape_pattern: str | None, pre_reshape_lengths: Any,
                                         post_reshape_pattern: str | None, post_reshape_lengths: Any) -> None:
                self.pre_rearrange = pre_reshape_pattern and Rearrange(pre_reshape_pattern, **pre_reshape_lengths)
                self.post_rearrange = post_reshape_pattern and Rearrange(post_reshape_pattern, **post_reshape_lengths)

            def forward(self, input: Tensor) -> Any:
                x = self.pre_rearrange(input) if self.pre_rearrange else input
                x = einsum(self.einsum_pattern, x, self.weight)
                if self.bias is not None:
                    x = x + self.bias
                return self.post_rearrange(x) if self.post_rearrange else x

        for layer in (Rearrange, Reduce, EinMix):
            layer.__module__, layer.__qualname__ = module.__name__, layer.__name__
            setattr(module, layer.__name__, layer)


def _uniform(shape: Any, bound: float) -> Parameter:
    return Parameter(empty(tuple(shape)).uniform_(-bound, bound))


class _StandIns(Loader):
    """Fills `einops.layers.torch` where PyTorch isn't loaded."""

    def exec_module(self, module: ModuleType) -> None:
        ours = importlib.import_module(_sibling(module.__name__, "flambeau"))
        fields = {"__module__": module.__name__, "stands_in": True}
        stand_ins = {name: _Chosen(name, (getattr(ours, name),), fields) for name in NAMES}

        def found(name: str) -> Any:
            if name not in stand_ins:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return getattr(_theirs(module.__name__), name) if _torch_is_loaded() else stand_ins[name]

        setattr(module, "__getattr__", found)       # noqa: B010


def _theirs(name: str) -> ModuleType:
    """einops' own module, in the place of ours."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is not None and isinstance(spec.loader, _StandIns):
        del sys.modules[name]
    return importlib.import_module(name)


class _Chosen(type):
    """The class of what `einops.layers.torch` gives: a call makes our layer, or PyTorch's if that was loaded since, for a
    program may have imported the name before it imported torch. A class that is derived from one is ours."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._chosen()(*args, **kwargs) if "stands_in" in cls.__dict__ else super().__call__(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._chosen()) if "stands_in" in cls.__dict__ else super().__instancecheck__(instance)

    def _chosen(cls) -> Any:
        return getattr(_theirs(cls.__module__), cls.__name__) if _torch_is_loaded() else cls.__bases__[0]


__all__ = ["adopt", "spec_of"]
