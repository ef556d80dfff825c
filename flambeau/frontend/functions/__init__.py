"""The operations users call, in PyTorch's names, by subject. Each ends in `dispatch`. What a namespace of users' gives is
said there: `flambeau/__init__.py`, `flambeau/nn/functional.py`, `methods.py`."""
