"""Optimizers with PyTorch's names, defaults and update formulas."""
from flambeau.frontend.functions.calls import constructors
from flambeau.frontend.optim import lr_scheduler
from flambeau.frontend.optim.adadelta import Adadelta
from flambeau.frontend.optim.adafactor import Adafactor
from flambeau.frontend.optim.adagrad import Adagrad
from flambeau.frontend.optim.adam import Adam, AdamW
from flambeau.frontend.optim.adam_variants import Adamax, NAdam, RAdam
from flambeau.frontend.optim.averaged import ASGD
from flambeau.frontend.optim.lbfgs import LBFGS
from flambeau.frontend.optim.muon import Muon
from flambeau.frontend.optim.optimizer import Optimizer
from flambeau.frontend.optim.rmsprop import RMSprop
from flambeau.frontend.optim.rprop import Rprop
from flambeau.frontend.optim.sgd import SGD

__all__ = ["ASGD", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam",
           "Optimizer", "RAdam", "RMSprop", "Rprop", "lr_scheduler"]
constructors(globals(), [name for name in __all__ if name[0].isupper() and name != "Optimizer"])
