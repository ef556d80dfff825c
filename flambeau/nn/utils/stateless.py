"""Modules as functions of their parameters, where older programs look for it; `fb.func` has it too."""
from flambeau.frontend.func.modules import functional_call as functional_call

__all__ = ["functional_call"]
