"""Optimizers with PyTorch's names, defaults and update formulas."""
from flambeau.frontend.functions.calls import constructors
from flambeau.frontend.optim import lr_scheduler
from flambeau.frontend.optim.adagrad import Adagrad
from flambeau.frontend.optim.adam import Adam, AdamW
from flambeau.frontend.optim.optimizer import Optimizer
from flambeau.frontend.optim.rmsprop import RMSprop
from flambeau.frontend.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
constructors(globals(), ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"])
