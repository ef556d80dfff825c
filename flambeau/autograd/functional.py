"""fb.autograd.functional: Jacobians, Hessians and products with them, of a function at given inputs."""
from flambeau.frontend.func.functional import hessian, hvp, jacobian, jvp, vhp, vjp

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
