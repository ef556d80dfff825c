"""fb.func: transforms of functions, with torch.func's names; they nest in any order, inside compiled functions too."""
from flambeau.frontend.func.forward import hessian, jacfwd, jvp, linearize
from flambeau.frontend.func.modules import functional_call, stack_module_state
from flambeau.frontend.func.reverse import grad, grad_and_value, jacrev, vjp
from flambeau.frontend.func.vmap import vmap

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize",
           "stack_module_state", "vjp", "vmap"]
