"""`from flambeau.optim.optimizer import Optimizer`, where PyTorch keeps what optimizers derive from."""
from flambeau.frontend.optim.optimizer import Optimizer

required = object()                 # the default of a hyperparameter that must be given

__all__ = ["Optimizer", "required"]
