"""`fb.distributions.constraint_registry`: transforms onto constraints."""
from flambeau.frontend.distributions.registry import ConstraintRegistry, biject_to, transform_to

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]
