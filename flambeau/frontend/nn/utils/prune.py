"""nn.utils.prune: weights with a mask. `module.weight` is computed as weight_orig, a parameter, times weight_mask, a
buffer; the method that made the mask lies among the hooks before forward."""
from __future__ import annotations

import numbers
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from flambeau.frontend.functions.creation import ones_like, zeros_like
from flambeau.frontend.functions.distributions import rand, rand_like
from flambeau.frontend.functions.reductions import norm
from flambeau.frontend.functions.sorting import kthvalue, topk
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.nn.utils.computed import compute, compute_no_more, sources_of
from flambeau.frontend.nn.utils.vectors import parameters_to_vector
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor


class BasePruningMethod(ABC):
    """A way to choose what to keep: subclasses say `compute_mask`, and PRUNING_TYPE "unstructured" (elements), "structured"
    (whole channels along `self.dim`) or "global" (masks that look at nothing before them)."""

    PRUNING_TYPE: ClassVar[str] = "unstructured"
    _tensor_name: str

    def __call__(self, module: Any, inputs: Any) -> None:  # noqa: B027
        """The hook before forward. There is nothing to do: the tensor is computed whenever it is read."""

    def get(self, module: Any) -> Tensor:
        """The tensor, when it is read (see `computed.py`)."""
        return self.apply_mask(module)

    def set(self, module: Any, value: Any) -> None:
        """Raises AttributeError."""
        raise AttributeError(f"'{self._tensor_name}' of {type(module).__name__} is pruned: change "
                             f"'{self._tensor_name}_orig'")

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """1 where to keep, 0 where not, shaped like t and within default_mask."""

    def apply_mask(self, module: Any) -> Tensor:
        """The tensor, pruned."""
        name = self._tensor_name
        original = getattr(module, f"{name}_orig")
        return getattr(module, f"{name}_mask").to(dtype=original.dtype) * original

    @classmethod
    def apply(cls, module: Module, name: str, *args: Any, importance_scores: Tensor | None = None,
              **kwargs: Any) -> BasePruningMethod:
        """Prune a tensor of a module by `cls(*args, **kwargs)`, beside what pruned it before; the method.

        importance_scores: what the choice goes by, shaped like the tensor, in its place."""
        new: BasePruningMethod = cls(*args, **kwargs)
        new._tensor_name = name
        before = [(n, h) for n, h in module._forward_pre_hooks.items()
                  if isinstance(h, BasePruningMethod) and h._tensor_name == name]
        tensor = getattr(module, name)
        if importance_scores is not None and importance_scores.shape != tensor.shape:
            raise AssertionError(f"importance_scores should have the same shape as parameter {name} of {module}, got "
                                 f"{importance_scores.shape} vs {tensor.shape}")
        method = new
        if before:
            number, old = before[0]
            method = old if isinstance(old, PruningContainer) else PruningContainer(old)
            method.add_pruning_method(new)
            default = getattr(module, f"{name}_mask").detach().clone()
        else:
            default = ones_like(tensor.detach())
        with no_grad():
            scores = (tensor if importance_scores is None else importance_scores).detach()
            mask = method.compute_mask(scores, default_mask=default)
        if before:
            del module._forward_pre_hooks[number]
        else:
            del module._parameters[name]
            module.register_parameter(f"{name}_orig", tensor)
        module.register_buffer(f"{name}_mask", mask)
        compute(module, name, method)
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None) -> Tensor:
        """t with what the method does not keep set to 0. importance_scores: what the choice goes by."""
        if importance_scores is not None and importance_scores.shape != t.shape:
            raise AssertionError(f"importance_scores should have the same shape as tensor t, got {importance_scores.shape} "
                                 f"vs {t.shape}")
        default = ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(t if importance_scores is None else importance_scores, default_mask=default)

    def remove(self, module: Module) -> None:
        """Make the tensor a parameter again, pruned for good."""
        name = self._tensor_name
        if name not in sources_of(module):
            raise AssertionError(f"Module {module} has to be pruned before pruning can be removed")
        original = module._parameters[f"{name}_orig"]
        assert isinstance(original, Parameter), "what is pruned is a parameter"
        with no_grad():
            original.data = self.apply_mask(module)
        compute_no_more(module, name)
        delattr(module, f"{name}_orig")
        delattr(module, f"{name}_mask")
        module.register_parameter(name, original)


class PruningContainer(BasePruningMethod):
    """Several methods that prune one tensor, one after another."""

    def __init__(self, *args: Any):
        self._pruning_methods: list[BasePruningMethod] = []
        methods = args[0] if len(args) == 1 and isinstance(args[0], Iterable) else args
        for number, method in enumerate(methods):
            if not number:
                self._tensor_name = method._tensor_name
            self.add_pruning_method(method)

    def add_pruning_method(self, method: Any) -> None:
        """One more. Raises TypeError for what is none, ValueError for one of another tensor."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method._tensor_name != self._tensor_name:
            raise ValueError(f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to "
                             f"PruningContainer {self}. Found '{method._tensor_name}'")
        self._pruning_methods.append(method)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: int) -> BasePruningMethod:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """default_mask without what the newest method drops of what is there."""
        method = self._pruning_methods[-1]
        mask = default_mask.to(dtype=t.dtype).clone()
        kept: Any = tuple([slice(None)] * t.ndim)
        if method.PRUNING_TYPE == "unstructured":
            kept = default_mask == 1
        elif method.PRUNING_TYPE == "structured":
            if not hasattr(method, "dim"):
                raise AttributeError('pruning methods of PRUNING_TYPE "structured" need an attribute `dim`')
            dim = method.dim + t.ndim if method.dim < 0 else method.dim
            if not 0 <= dim < t.ndim:
                raise IndexError(f"Index is out of bounds for tensor with dimensions {t.ndim}")
            others = tuple(d for d in range(t.ndim) if d != dim)
            channels = (default_mask.sum(dim=others) != 0).nonzero().squeeze(-1)
            kept = (*[slice(None)] * dim, channels, *[slice(None)] * (t.ndim - dim - 1))
        elif method.PRUNING_TYPE != "global":
            raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        mask[kept] = method.compute_mask(t[kept], default_mask=default_mask[kept]).to(dtype=mask.dtype)
        return mask


class Identity(BasePruningMethod):
    """Keeps all: a mask of ones."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class _ByAmount(BasePruningMethod):
    """amount: how many, or what share, to drop. Raises TypeError, ValueError for what is neither."""

    amount: Any

    def __init__(self, amount: Any):
        if not isinstance(amount, (int, float, numbers.Real)):
            raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
        if float(amount) < 0 or not isinstance(amount, (int, numbers.Integral)) and float(amount) > 1:
            raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")
        self.amount = amount

    def _count(self, size: int) -> int:
        """How many of `size`. Raises ValueError for more than there are."""
        if not isinstance(self.amount, (int, numbers.Integral)):
            return round(self.amount * size)
        if operator.index(self.amount) > size:
            raise ValueError(f"amount={self.amount} should be smaller than the number of parameters to prune={size}")
        return int(self.amount)

    def _without(self, scores: Tensor, default_mask: Tensor, largest: bool) -> Tensor:
        """default_mask without the elements of the largest, or the least, scores."""
        count, mask = self._count(scores.numel()), default_mask.clone()
        if count:
            mask.view(-1)[topk(scores.reshape(-1), count, largest=largest).indices] = 0
        return mask


class RandomUnstructured(_ByAmount):
    """Drops elements by lot."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return self._without(rand_like(t), default_mask, largest=True)


class L1Unstructured(_ByAmount):
    """Drops the elements of the least magnitude."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return self._without(t.abs(), default_mask, largest=False)


class _Structured(_ByAmount):
    PRUNING_TYPE = "structured"
    dim: int

    def _channels(self, t: Tensor) -> int:
        """Along dim. Raises ValueError for fewer than two dims, IndexError for a dim out of range."""
        if t.ndim < 2:
            raise ValueError("Structured pruning can only be applied to multidimensional tensors. Found tensor of shape "
                             f"{t.shape} with {t.ndim} dims")
        if self.dim >= t.ndim:
            raise IndexError(f"Invalid index {self.dim} for tensor of size {t.shape}")
        return t.shape[self.dim]

    def _along(self, channels: Tensor, t: Tensor, default_mask: Tensor) -> Tensor:
        """A mask of whole channels."""
        shape = [1] * t.ndim
        shape[self.dim] = -1
        return channels.to(default_mask.dtype).reshape(shape) * default_mask


class RandomStructured(_Structured):
    """Drops channels along dim by lot."""

    def __init__(self, amount: Any, dim: int = -1):
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        size = self._channels(t)
        count = self._count(size)
        if not count:
            return default_mask
        drawn = rand(size, device=t.device)
        return self._along(drawn > kthvalue(drawn, count).values, t, default_mask)


class LnStructured(_Structured):
    """Drops the channels along dim of the least n-norm."""

    def __init__(self, amount: Any, n: Any, dim: int = -1):
        super().__init__(amount)
        self.n, self.dim = n, dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        size = self._channels(t)
        count = self._count(size)
        if not count:
            return default_mask
        others = tuple(d for d in range(t.ndim) if d != self.dim % t.ndim)
        lengths = norm(t, self.n, others)
        channels = zeros_like(lengths)
        channels[topk(lengths, size - count).indices] = 1
        return self._along(channels, t, default_mask)


class CustomFromMask(BasePruningMethod):
    """A mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor):
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if default_mask.shape != self.mask.shape:
            raise AssertionError(f"default_mask shape {default_mask.shape} must match self.mask shape {self.mask.shape}")
        return default_mask * self.mask.to(dtype=default_mask.dtype)


# -- functions --------------------------------------------------------------------------------------------------------


def identity(module: Module, name: str) -> Module:
    """Give a tensor a mask of ones; the module."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: Any) -> Module:
    """Drop elements by lot: `amount` of them, or that share; the module."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Module, name: str, amount: Any, importance_scores: Tensor | None = None) -> Module:
    """Drop the elements of the least magnitude, of importance_scores if given; the module."""
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: Any, dim: int) -> Module:
    """Drop channels along dim by lot; the module."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Module, name: str, amount: Any, n: Any, dim: int,
                  importance_scores: Tensor | None = None) -> Module:
    """Drop the channels along dim of the least n-norm; the module."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def global_unstructured(parameters: Iterable[tuple[Module, str]], pruning_method: type[BasePruningMethod],
                        importance_scores: Mapping[tuple[Module, str], Tensor] | None = None, **kwargs: Any) -> None:
    """Prune pairs (module, name) together, as if they were one tensor: `pruning_method(**kwargs)` chooses.

    Raises TypeError for methods that are not unstructured."""
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    if importance_scores is not None and not isinstance(importance_scores, Mapping):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    pairs, scores = list(parameters), importance_scores or {}
    tensors = [getattr(module, name).detach() for module, name in pairs]
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError('Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
                        f"{pruning_method} of type {method.PRUNING_TYPE}")
    masks = [getattr(module, f"{name}_mask", None) for module, name in pairs]
    with no_grad():
        mask = PruningContainer(method).compute_mask(
            parameters_to_vector([scores.get(pair, t).detach() for pair, t in zip(pairs, tensors, strict=True)]),
            parameters_to_vector([ones_like(t) if m is None else m for m, t in zip(masks, tensors, strict=True)]))
    start = 0
    for (module, name), t in zip(pairs, tensors, strict=True):
        custom_from_mask(module, name, mask[start:start + t.numel()].reshape(t.shape))
        start += t.numel()


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """Prune by a mask of the tensor's shape; the module."""
    CustomFromMask.apply(module, name, mask)
    return module


def remove(module: Module, name: str) -> Module:
    """Make a pruned tensor a parameter again, pruned for good; the module. Raises ValueError if it is not pruned."""
    for number, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            hook.remove(module)
            del module._forward_pre_hooks[number]
            return module
    raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")


def is_pruned(module: Module) -> bool:
    """True if a tensor of this module, or of one below it, is pruned."""
    return any(isinstance(hook, BasePruningMethod) for m in module.modules() for hook in m._forward_pre_hooks.values())


__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured", "PruningContainer",
    "RandomStructured", "RandomUnstructured", "custom_from_mask", "global_unstructured", "identity", "is_pruned",
    "l1_unstructured", "ln_structured", "random_structured", "random_unstructured", "remove"]
