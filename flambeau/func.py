"""fb.func: transforms of functions, with torch.func's names; they nest in any order, inside compiled functions too."""
from flambeau.frontend.func.forward import hessian, jacfwd, jvp, linearize
from flambeau.frontend.func.modules import (
           functional_call,
           replace_all_batch_norm_modules_,
           stack_module_state,
)
from flambeau.frontend.func.reverse import functionalize, grad, grad_and_value, jacrev, value_and_grad, vjp
from flambeau.frontend.func.vmap import vmap
from flambeau.frontend.missing import refusing

__all__ = ["functional_call", "functionalize", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize",
           "replace_all_batch_norm_modules_", "stack_module_state", "value_and_grad", "vjp", "vmap"]
__getattr__ = refusing(__name__)
