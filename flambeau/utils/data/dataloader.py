"""`fb.utils.data.dataloader`: the DataLoader, and what makes batches for it."""
from flambeau.frontend.data.collation import default_collate, default_convert
from flambeau.frontend.data.loader import DataLoader
from flambeau.frontend.data.worker import get_worker_info

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]
