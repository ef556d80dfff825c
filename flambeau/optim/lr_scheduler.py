"""Learning-rate schedulers: they change `param_groups[i]["lr"]`, and never cause a compiled step to compile again."""
from flambeau.frontend.optim.lr_scheduler import *  # noqa: F403
from flambeau.frontend.optim.lr_scheduler import LRScheduler as _LRScheduler  # noqa: F401  its old name, still derived from
from flambeau.frontend.optim.lr_scheduler import __all__ as __all__
