"""What all distributions have in common."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.parameters import values_are_known
from flambeau.frontend.functions.coerce import broadcast_shapes
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tensor.tensor import Size, Tensor
from flambeau.ir.dims import Dim


class Distribution:
    """A batch of distributions of one family.

    batch_shape: how many; event_shape: of one draw. sample(shape) has shape + batch_shape + event_shape, and log_prob of
    a value that broadcasts with it has no event dims. validate_args: whether parameters and values are held against
    their constraints (ValueError); by default they are. In a compiled or transformed function, where numbers can't be
    looked at, only shapes are checked.
    """

    has_rsample: Any = False
    has_enumerate_support: Any = False
    _validate_args: bool = __debug__
    arg_constraints: Any = {}
    support: Any = None

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on look at their arguments, unless told by validate_args."""
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args: expected a bool, got {value!r}")
        Distribution._validate_args = bool(value)

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args and values_are_known():
            self._check_parameters()

    def _check_parameters(self) -> None:
        with set_grad_enabled(False):
            for name, constraint in self.arg_constraints.items():
                value = self.__dict__.get(name)
                if not isinstance(value, Tensor) or constraints.is_dependent(constraint):
                    continue
                if not bool(constraint.check(value).all()):
                    raise ValueError(
                        f"{type(self).__name__}: expected parameter {name} ({type(value).__name__} of shape "
                        f"{tuple(value.shape)}) to satisfy the constraint {constraint!r}, but found invalid values:\n"
                        f"{value}")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with its batch dims expanded to `batch_shape`; no memory is copied."""
        new = self._copied(_instance)
        new._batch_shape = Size(batch_shape)
        for name, constraint in self.arg_constraints.items():
            value = self.__dict__.get(name)
            if isinstance(value, Tensor):
                new.__dict__[name] = expanded(value, batch_shape, constraint.event_dim)
        return new

    def _copied(self, instance: Any = None) -> Any:
        new = type(self).__new__(type(self)) if instance is None else instance
        new.__dict__.update(self.__dict__)
        return new

    @property
    def batch_shape(self) -> Size:
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        return self._event_shape

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    @property
    def mode(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no mode")

    @property
    def variance(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no variance")

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw sample_shape + batch_shape + event_shape, without gradients."""
        with set_grad_enabled(False):
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The same with gradients of the draws with respect to the parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no rsample")

    def sample_n(self, n: int) -> Tensor:
        """sample((n,))."""
        return self.sample((n,))

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density or the probability of each event in `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob")

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of a draw not above `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no cdf")

    def icdf(self, value: Tensor) -> Tensor:
        """The number below which a draw is with probability `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no icdf")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of a discrete distribution, along a new first dim; the batch dims are of size 1 if not expand."""
        raise NotImplementedError(f"{type(self).__name__} has no enumerate_support")

    def entropy(self) -> Tensor:
        """The entropy of each distribution of the batch, in nats."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy")

    def perplexity(self) -> Tensor:
        """exp(entropy)."""
        return self.entropy().exp()

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        return Size((*_sizes(sample_shape), *self._batch_shape, *self._event_shape))

    def _validate_sample(self, value: Any) -> None:
        """Raises ValueError for a value that is no tensor, has the wrong shape, or lies outside of the support."""
        if not isinstance(value, Tensor):
            raise ValueError(f"{type(self).__name__}: the value must be a Tensor, got {type(value).__name__}")
        event = len(self._event_shape)
        if tuple(value.shape[value.ndim - event:]) != tuple(self._event_shape):
            raise ValueError(f"{type(self).__name__}: the right-most sizes of a value must be event_shape "
                             f"{tuple(self._event_shape)}, got {tuple(value.shape)}")
        try:
            broadcast_shapes(tuple(value.shape), (*self._batch_shape, *self._event_shape))
        except Exception:
            raise ValueError(f"{type(self).__name__}: a value of shape {tuple(value.shape)} does not broadcast with "
                             f"batch_shape {tuple(self._batch_shape)} + event_shape {tuple(self._event_shape)}") from None
        support = self.support
        if support is None or not values_are_known():
            return
        with set_grad_enabled(False):
            if not bool(support.check(value).all()):
                raise ValueError(f"{type(self).__name__}: expected a value within the support {support!r}, but found "
                                 f"invalid values:\n{value}")

    def _checked(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return value

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        """What subclasses written for PyTorch call in their expand(): an instance to fill."""
        return type(self).__new__(type(self)) if _instance is None else _instance

    def __repr__(self) -> str:
        shown = [f"{name}: {value if value.numel() == 1 else value.shape}"
                 for name in self.arg_constraints if isinstance(value := self.__dict__.get(name), Tensor)]
        return f"{type(self).__name__}({', '.join(shown)})"


def _sizes(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, (int, Dim)) else tuple(shape)          # type: ignore[return-value]


def expanded(value: Tensor, batch_shape: Any, event_dim: int) -> Tensor:
    """`value` with batch dims expanded."""
    return value.expand((*batch_shape, *value.shape[value.ndim - event_dim:]))


class ExponentialFamily(Distribution):
    """Those whose densities are h(x) exp(<natural parameters, statistics> - log normalizer)."""


__all__ = ["Distribution", "ExponentialFamily"]
