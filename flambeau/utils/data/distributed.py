"""`fb.utils.data.distributed`: one process's part of the samples."""
from flambeau.frontend.data.samplers import DistributedSampler

__all__ = ["DistributedSampler"]
