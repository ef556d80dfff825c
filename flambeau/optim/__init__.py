"""Optimizers and learning-rate schedulers: `from flambeau import optim`."""
from typing import TYPE_CHECKING

from flambeau.frontend.missing import refusing
from flambeau.frontend.optim import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
)
from flambeau.optim import lr_scheduler

if TYPE_CHECKING:
    from flambeau.optim import optimizer, swa_utils

__all__ = ["ASGD", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam",
           "Optimizer", "RAdam", "RMSprop", "Rprop", "lr_scheduler", "optimizer", "swa_utils"]
__getattr__ = refusing(__name__, loading=("optimizer", "swa_utils"))
