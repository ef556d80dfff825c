"""`fb.utils`: data, and checkpoint, as PyTorch has them."""
from flambeau.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
