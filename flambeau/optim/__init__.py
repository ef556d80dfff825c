"""Optimizers and learning-rate schedulers: `from flambeau import optim`."""
from flambeau.frontend.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from flambeau.optim import lr_scheduler

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
