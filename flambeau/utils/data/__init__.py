"""`fb.utils.data`: datasets and batches. The same as `fb.data`."""
from flambeau.frontend.data import *  # noqa: F403
from flambeau.frontend.data import __all__ as __all__
from flambeau.frontend.missing import refusing
from flambeau.utils.data import dataloader, dataset, distributed, sampler

__getattr__ = refusing(__name__)
