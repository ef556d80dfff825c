"""`fb.utils`: data, as PyTorch has it."""
from flambeau.utils import data

__all__ = ["data"]
