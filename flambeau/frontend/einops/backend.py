"""einops on our tensors: the backend that it looks for by the type of a tensor."""
from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from flambeau.frontend.functions import creation, joining, products, reductions, views
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.answers import known
from flambeau.ir.dims import Dim


class _Sizes(tuple[Any, ...]):
    """Sizes with names: no key of einops' caches, which would keep what it asked of them for other programs."""

    __hash__ = None         # type: ignore[assignment]


def register(backends: ModuleType) -> None:
    """Add our backend to einops' module of backends: made now, so that no call of a compiled function changes it."""
    base: Any = backends.AbstractBackend

    class FlambeauBackend(base):
        """What einops asks of a tensor library, by our functions."""

        framework_name = "flambeau"

        def is_appropriate_type(self, tensor: Any) -> bool:
            return isinstance(tensor, Tensor)

        def from_numpy(self, x: Any) -> Tensor:
            return creation.from_numpy(x)

        def to_numpy(self, x: Tensor) -> Any:
            return x.detach().numpy()

        def arange(self, start: int, stop: int) -> Tensor:
            return creation.arange(start, stop)

        def shape(self, x: Tensor) -> Any:
            return _Sizes(x.shape) if known() is not None and any(isinstance(size, Dim) for size in x.shape) else x.shape

        def transpose(self, x: Tensor, axes: Any) -> Tensor:
            return views.permute(x, tuple(axes))

        def reduce(self, x: Tensor, operation: str, axes: Any) -> Tensor:
            axes = tuple(axes)
            if operation in _ALL_AT_ONCE:
                return _ALL_AT_ONCE[operation](x, axes)
            for axis in sorted(axes, reverse=True):
                x = getattr(reductions, operation)(x, axis)
            return x

        def stack_on_zeroth_dimension(self, tensors: Any) -> Tensor:
            return joining.stack(list(tensors), 0)

        def add_axis(self, x: Tensor, new_position: int) -> Tensor:
            return views.unsqueeze(x, new_position)

        def add_axes(self, x: Tensor, n_axes: int, pos2len: dict[int, int]) -> Tensor:
            sizes = [-1] * n_axes
            for position, length in sorted(pos2len.items()):
                x, sizes[position] = views.unsqueeze(x, position), length
            return views.expand(x, tuple(sizes))

        def tile(self, x: Tensor, repeats: Any) -> Tensor:
            return joining.tile(x, tuple(repeats))

        def concat(self, tensors: Any, axis: int) -> Tensor:
            return joining.cat(list(tensors), axis)

        def is_float_type(self, x: Tensor) -> bool:
            return x.is_floating_point()

        def einsum(self, pattern: str, *x: Tensor) -> Tensor:
            return products.einsum(pattern, *x)

        def layers(self) -> ModuleType:
            return importlib.import_module(f"{backends.__package__}.layers.flambeau")

    ours = FlambeauBackend()
    backends._loaded_backends[ours.framework_name] = ours
    backends._type2backend.update({Tensor: ours, Parameter: ours})


_ALL_AT_ONCE = {"min": reductions.amin, "max": reductions.amax, "sum": reductions.sum, "mean": reductions.mean}

__all__ = ["register"]
