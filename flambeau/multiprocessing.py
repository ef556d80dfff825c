"""`fb.multiprocessing`: Python's own. Tensors are sent as copies."""
import multiprocessing as _multiprocessing
from multiprocessing import *  # noqa: F403

__all__ = list(_multiprocessing.__all__)
