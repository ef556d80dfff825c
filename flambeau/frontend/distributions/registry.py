"""From constraints to transforms of unconstrained numbers onto them."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.constraints import Constraint
from flambeau.frontend.distributions.elementwise_transforms import (
    AffineTransform,
    ExpTransform,
    SigmoidTransform,
)
from flambeau.frontend.distributions.structured_transforms import (
    CatTransform,
    CorrCholeskyTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    SoftmaxTransform,
    StackTransform,
    StickBreakingTransform,
)
from flambeau.frontend.distributions.transforms import (
    ComposeTransform,
    IndependentTransform,
    Transform,
    identity_transform,
)


class ConstraintRegistry:
    """constraint -> Transform onto it, by the constraint's class. `register(constraint, factory)` adds one, also as a
    decorator. Raises NotImplementedError for a constraint that has none."""

    def __init__(self) -> None:
        self._registry: dict[type, Callable[[Any], Transform]] = {}

    def register(self, constraint: Any, factory: Callable[[Any], Transform] | None = None) -> Any:
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        kind = type(constraint) if isinstance(constraint, Constraint) else constraint
        if not (isinstance(kind, type) and issubclass(kind, Constraint)):
            raise TypeError(f"register: expected a Constraint or a class of them, got {constraint!r}")
        self._registry[kind] = factory
        return factory

    def __call__(self, constraint: Constraint) -> Transform:
        factory = self._registry.get(type(constraint))
        if factory is None:
            raise NotImplementedError(f"no transform onto {type(constraint).__name__} constraints is known")
        return factory(constraint)


biject_to = ConstraintRegistry()
transform_to = ConstraintRegistry()


def _both(*kinds: Any) -> Callable[[Any], Any]:
    def register(factory: Any) -> Any:
        for kind in kinds:
            biject_to.register(kind, factory)
            transform_to.register(kind, factory)
        return factory

    return register


@_both(constraints.real)
def _onto_reals(constraint: Any) -> Transform:
    return identity_transform


@_both(constraints.positive, constraints.nonnegative)
def _beyond(constraint: Any) -> Transform:
    bound = constraint.lower_bound
    return ExpTransform() if isinstance(bound, (int, float)) and bound == 0 else \
        ComposeTransform([ExpTransform(), AffineTransform(bound, 1)])


@_both(constraints.less_than)
def _below(constraint: Any) -> Transform:
    return ComposeTransform([ExpTransform(), AffineTransform(constraint.upper_bound, -1)])


@_both(constraints.interval, constraints.half_open_interval)
def _between(constraint: Any) -> Transform:
    low, high = constraint.lower_bound, constraint.upper_bound
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and (low, high) == (0, 1):
        return SigmoidTransform()
    return ComposeTransform([SigmoidTransform(), AffineTransform(low, high - low)])


@_both(constraints.corr_cholesky)
def _onto_correlations(constraint: Any) -> Transform:
    return CorrCholeskyTransform()


biject_to.register(constraints.simplex, lambda constraint: StickBreakingTransform())
transform_to.register(constraints.simplex, lambda constraint: SoftmaxTransform())
transform_to.register(constraints.lower_cholesky, lambda constraint: LowerCholeskyTransform())
for _constraint in (constraints.positive_definite, constraints.positive_semidefinite):
    transform_to.register(_constraint, lambda constraint: PositiveDefiniteTransform())
for _registry in (biject_to, transform_to):
    def _independent(constraint: Any, registry: ConstraintRegistry = _registry) -> Transform:
        return IndependentTransform(registry(constraint.base_constraint), constraint.reinterpreted_batch_ndims)

    def _cat(constraint: Any, registry: ConstraintRegistry = _registry) -> Transform:
        return CatTransform([registry(c) for c in constraint.cseq], constraint.dim, constraint.lengths)

    def _stack(constraint: Any, registry: ConstraintRegistry = _registry) -> Transform:
        return StackTransform([registry(c) for c in constraint.cseq], constraint.dim)

    _registry.register(constraints.independent, _independent)
    _registry.register(constraints.cat, _cat)
    _registry.register(constraints.stack, _stack)

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]
