"""einops' layers as Modules: `from flambeau.einops import Rearrange, Reduce, EinMix`, as from `einops.layers.torch`.

einops' functions (`rearrange`, `reduce`, `repeat`, `einsum`, `pack`) take our tensors without this."""
from __future__ import annotations

from typing import Any

from einops.layers import RearrangeMixin, ReduceMixin
from einops.layers._einmix import _EinmixMixin

from flambeau.frontend.functions.creation import empty
from flambeau.frontend.functions.products import einsum
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tensor.tensor import Tensor


class Rearrange(RearrangeMixin, Module):
    """`einops.rearrange(x, pattern, **axes_lengths)` as a layer."""

    def forward(self, input: Tensor) -> Tensor:
        return self._apply_recipe(input)


class Reduce(ReduceMixin, Module):
    """`einops.reduce(x, pattern, reduction, **axes_lengths)` as a layer."""

    def forward(self, input: Tensor) -> Tensor:
        return self._apply_recipe(input)


class EinMix(_EinmixMixin, Module):
    """A linear layer over axes that a pattern names: `EinMix("b t c -> b t d", weight_shape="c d", c=8, d=16)`."""

    def _create_parameters(self, weight_shape: Any, weight_bound: float, bias_shape: Any, bias_bound: float) -> None:
        self.weight = Parameter(empty(tuple(weight_shape)).uniform_(-weight_bound, weight_bound))
        self.bias = None if bias_shape is None else Parameter(empty(tuple(bias_shape)).uniform_(-bias_bound, bias_bound))

    def _create_rearrange_layers(self, pre_reshape_pattern: str | None, pre_reshape_lengths: Any,
                                 post_reshape_pattern: str | None, post_reshape_lengths: Any) -> None:
        self.pre_rearrange = None if pre_reshape_pattern is None else Rearrange(pre_reshape_pattern, **pre_reshape_lengths)
        self.post_rearrange = None if post_reshape_pattern is None else \
            Rearrange(post_reshape_pattern, **post_reshape_lengths)

    def forward(self, input: Tensor) -> Tensor:
        x = input if self.pre_rearrange is None else self.pre_rearrange(input)
        x = einsum(self.einsum_pattern, x, self.weight)
        if self.bias is not None:
            x = x + self.bias
        return x if self.post_rearrange is None else self.post_rearrange(x)


__all__ = ["EinMix", "Rearrange", "Reduce"]
