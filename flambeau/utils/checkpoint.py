"""`fb.utils.checkpoint`: parts of the forward that are computed again in the backward."""
from flambeau.frontend.functions.calls import called
from flambeau.frontend.functions.checkpointing import checkpoint as _checkpoint
from flambeau.frontend.functions.checkpointing import checkpoint_sequential as _checkpoint_sequential
from flambeau.frontend.functions.checkpointing import noop_context_fn
from flambeau.frontend.missing import refusing

checkpoint, checkpoint_sequential = called(_checkpoint), called(_checkpoint_sequential)

__all__ = ["checkpoint", "checkpoint_sequential", "noop_context_fn"]
__getattr__ = refusing(__name__)
