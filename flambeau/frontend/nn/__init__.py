"""Modules: trees of parameters with PyTorch's names, defaults and state_dict keys. `layers.py` has them all."""
